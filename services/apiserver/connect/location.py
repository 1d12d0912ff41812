"""Where a connect request goes: which kubelet and path, or which address. Imitates pkg/registry/core/pod/strategy.go.

Pure look-ups in the caches; errors are Kubernetes'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ssl import SSLContext
from urllib.parse import quote, urlencode

from kubecosm.api import errors
from kubecosm.api.errors import BadRequest, InternalError
from kubecosm.api.names import ANNOTATION_DEFAULT_CONTAINER
from kubecosm.api.resources import NODES, Object

from ..http.request import Request
from ..state import State

KUBELET_PORT_DEFAULT = 10250
_STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
"""PodExecOptions as clients name them → as the kubelet does."""
_LOG_FLAGS = ("follow", "previous", "timestamps")
_LOG_VALUES = ("sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect; `is_kubelet` means TLS with our client certificate and the kubelets' authority.

    With a `context` of its own, that decides, and the certificate must be for `server_name`.
    """

    host: str
    port: int
    is_kubelet: bool = False
    is_tls: bool = False
    context: SSLContext | None = None
    server_name: str = ""


def kubelet_of(state: State, node_name: str) -> Endpoint:
    """Raises NotFound, InternalError."""
    entry = state.store("", "v1", NODES.plural).cache.get(node_name)
    if entry is None:
        raise errors.not_found(NODES, node_name)
    status = entry.decode().get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT_DEFAULT
    addresses = {a["type"]: a["address"] for a in reversed(status.get("addresses") or ())}
    host = next((addresses[kind] for kind in ("InternalIP", "ExternalIP", "Hostname") if kind in addresses), None)
    if host is None:
        raise InternalError(f"Internal error occurred: no preferred addresses found; known addresses: {list(addresses.values())}")
    return Endpoint(host, port, is_kubelet=True, is_tls=True)


def host_of(pod: Object) -> str:
    """The pod's node. Raises BadRequest while it has none."""
    node: str = (pod.get("spec") or {}).get("nodeName", "")
    if not node:
        raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
    return node


def container_names(pod: Object) -> Iterable[str]:
    spec = pod.get("spec") or {}
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from (container["name"] for container in spec.get(field) or ())


def choose_container(pod: Object, wanted: str) -> str:
    """The named container, or the pod's only or default one. Raises BadRequest."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    if wanted:
        if wanted not in container_names(pod):
            raise BadRequest(f"container {wanted} is not valid for pod {meta['name']}")
        return wanted
    regular = [container["name"] for container in spec.get("containers") or ()]
    if len(regular) == 1:
        return str(regular[0])
    default = (meta.get("annotations") or {}).get(ANNOTATION_DEFAULT_CONTAINER)
    if default in regular:
        return str(default)
    init = [container["name"] for container in spec.get("initContainers") or ()]
    message = f"a container name must be specified for pod {meta['name']}, choose one of: [{' '.join(regular)}]"
    if init:
        message += f" or one of the init containers: [{' '.join(init)}]"
    raise BadRequest(message)


def exec_path(kind: str, pod: Object, request: Request) -> str:
    """The kubelet's path of an exec or attach. Raises BadRequest."""
    meta = pod["metadata"]
    container = choose_container(pod, request.param("container"))
    params = [(theirs, "1") for ours, theirs in _STREAMS.items() if request.flag(ours)]
    if not any(name in ("input", "output", "error") for name, _ in params):
        raise BadRequest("you must specify at least one of stdin, stdout, stderr")
    if kind == "exec":
        commands = request.query.get("command", [])
        if not commands:
            raise BadRequest("you must specify at least one command for the container")
        params += [("command", command) for command in commands]
    return f"/{kind}/{meta['namespace']}/{meta['name']}/{container}?{urlencode(params)}"


def port_forward_path(pod: Object, request: Request) -> str:
    meta = pod["metadata"]
    params = [("port", port) for port in request.query.get("ports", [])]
    path = f"/portForward/{meta['namespace']}/{meta['name']}"
    return f"{path}?{urlencode(params)}" if params else path


def log_path(pod: Object, request: Request) -> str:
    """The kubelet's path of a log. Raises BadRequest."""
    meta = pod["metadata"]
    container = choose_container(pod, request.param("container"))
    params = [(name, "true") for name in _LOG_FLAGS if request.flag(name)]
    params += [(name, request.param(name)) for name in _LOG_VALUES if request.param(name)]
    path = f"/containerLogs/{meta['namespace']}/{meta['name']}/{container}"
    return f"{path}?{urlencode(params)}" if params else path


def proxied_rest(request: Request) -> str:
    """What follows `/proxy` in the URL, as the client wrote it: empty, or with its first slash."""
    marker = f"/{request.info.subresource}"
    start = request.path.find(marker, request.path.find(quote(request.info.name, safe=":")))
    return request.path[start + len(marker) :] if start >= 0 else ""


def proxy_path(request: Request) -> str:
    """The backend's path, with its query."""
    rest = proxied_rest(request) or "/"
    return f"{rest}?{request.raw_query}" if request.raw_query else rest


def split_name(name: str) -> tuple[str, str, str]:
    """`[scheme:]name[:port]` of a proxied pod, Service or node (net.SplitSchemeNamePort). Raises BadRequest."""
    parts = name.split(":")
    if len(parts) == 1:
        scheme, target, port = "", parts[0], ""
    elif len(parts) == 2:
        scheme, target, port = "", parts[0], parts[1]
    elif len(parts) == 3:
        scheme, target, port = parts
    else:
        raise BadRequest(f'invalid request "{name}"')
    if scheme not in ("", "http", "https") or not target:
        raise BadRequest(f'invalid request "{name}"')
    return scheme, target, port
