"""The verbs of connect subresources: pods/log, exec, attach, portforward, and the proxies of pods, Services and nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kubecosm.api.errors import ApiError, BadRequest, InternalError, NotFound, ServiceUnavailable
from kubecosm.api.names import LABEL_SERVICE_NAME
from kubecosm.api.resources import ENDPOINTSLICES, Object
from kubecosm.api.selectors import parse_labels

from ..cache.selection import Selection
from ..http.request import Request
from ..http.response import Answer, Response
from ..rest.admitting import admit_connect
from ..rest.store import ResourceStore
from . import location
from .backend import Backends, is_upgrade, stream_back
from .location import Endpoint
from .options import check_log_options, connect_options
from .proxied import proxy

Connect = Callable[[ResourceStore, Request], Awaitable[Answer]]
UPGRADE_REQUIRED = "Upgrade request required"
ERROR_BODY_BYTES_MAX = 2048


class Connector:
    """Handlers that share one way to the backends."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self.handlers: dict[tuple[str, str], Connect] = {
            ("pods", "log"): self.log, ("pods", "exec"): self.exec, ("pods", "attach"): self.attach,
            ("pods", "portforward"): self.port_forward, ("pods", "proxy"): self.proxy_pod, ("services", "proxy"): self.proxy_service,
            ("nodes", "proxy"): self.proxy_node,
        }  # fmt: skip
        """(resource, subresource) → what answers it, whatever the verb."""

    async def log(self, store: ResourceStore, request: Request) -> Answer:
        check_log_options(request)
        pod = self._pod(store, request)
        path = location.log_path(pod, request)
        if not (pod.get("spec") or {}).get("nodeName"):
            return Response(200, b"", "text/plain")  # nothing has run yet
        kubelet = location.kubelet_of(store.state, location.host_of(pod))
        async with await self._backends.open("GET", kubelet, path, {}, b"") as response:
            if response.status >= 400:
                text = (await response.content.read(ERROR_BODY_BYTES_MAX)).decode("utf-8", "replace")
                raise kubelet_error(response.status, text.strip(), request.info.name)
            return await stream_back(request, response)

    async def exec(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        pod = self._pod(store, request)
        return await self._upgrade(store, request, pod, location.exec_path("exec", pod, request))

    async def attach(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        pod = self._pod(store, request)
        return await self._upgrade(store, request, pod, location.exec_path("attach", pod, request))

    async def port_forward(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        pod = self._pod(store, request)
        return await self._upgrade(store, request, pod, location.port_forward_path(pod, request))

    async def proxy_node(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        scheme, name, port = location.split_name(request.info.name)
        kubelet = location.kubelet_of(store.state, name)
        if port and port != str(kubelet.port):
            kubelet = Endpoint(kubelet.host, int(port) if port.isdigit() else 0, is_tls=scheme == "https")
        return await self._proxy(store, request, kubelet)

    async def proxy_pod(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        scheme, name, port = location.split_name(request.info.name)
        pod = store.entry(request.info.namespace, name).decode()
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise ServiceUnavailable(f"no address available for pod {name}")
        return await self._proxy(store, request, Endpoint(address, pod_port(pod, port, scheme), is_tls=scheme == "https"))

    async def proxy_service(self, store: ResourceStore, request: Request) -> Answer:
        await admit_connect(store.state, store.row, request, connect_options(store.row, request))
        scheme, name, port = location.split_name(request.info.name)
        service = store.entry(request.info.namespace, name).decode()
        host, number = endpoint_of_service(store, service, port)
        return await self._proxy(store, request, Endpoint(host, number, is_tls=scheme == "https"))

    async def _proxy(self, store: ResourceStore, request: Request, endpoint: Endpoint) -> Answer:
        return await proxy(store.state, self._backends, request, endpoint)

    async def _upgrade(self, store: ResourceStore, request: Request, pod: Object, path: str) -> Answer:
        kubelet = location.kubelet_of(store.state, location.host_of(pod))
        if not is_upgrade(request):
            raise BadRequest(UPGRADE_REQUIRED)
        return await self._backends.upgrade(store.state, request, kubelet, path)

    @staticmethod
    def _pod(store: ResourceStore, request: Request) -> Object:
        return store.entry(request.info.namespace, request.info.name).decode()


def kubelet_error(status: int, text: str, name: str) -> ApiError:
    """GenericHttpResponseChecker: what a kubelet's refusal of a log becomes."""
    if status == 400:
        return BadRequest(text)
    if status == 404:
        return NotFound(f"the server could not find the requested resource ( pods/log {name})", details={"name": name, "kind": "pods/log"})
    return InternalError(f"Internal error occurred: {text}")


def pod_port(pod: Object, port: str, scheme: str) -> int:
    """A number, a port's name, or the first port of the pod. Raises BadRequest."""
    if port.isdigit():
        return int(port)
    ports = [p for c in pod["spec"].get("containers") or () for p in c.get("ports") or ()]
    if not port:
        return ports[0]["containerPort"] if ports else 443 if scheme == "https" else 80
    found = next((p["containerPort"] for p in ports if p.get("name") == port), None)
    if found is None:
        raise BadRequest(f'pod {pod["metadata"]["name"]} has no port named "{port}"')
    return int(found)


def endpoint_of_service(store: ResourceStore, service: Object, port: str) -> tuple[str, int]:
    """An address and port behind a Service. Raises ServiceUnavailable."""
    meta = service["metadata"]
    ports = service["spec"].get("ports") or []
    wanted = _port_name(ports, port, meta["name"])
    slices = store.state.store(ENDPOINTSLICES.group, ENDPOINTSLICES.version, ENDPOINTSLICES.plural).cache
    selection = Selection(meta["namespace"], parse_labels(f"{LABEL_SERVICE_NAME}={meta['name']}"))
    found: list[tuple[str, int]] = []
    for entry in slices.page(selection).entries:
        endpoint_slice = entry.decode()
        number = next((p["port"] for p in endpoint_slice.get("ports") or () if p.get("name", "") == wanted), None)
        ready = [e for e in endpoint_slice.get("endpoints") or () if (e.get("conditions") or {}).get("ready", True)]
        found += [(address, number) for e in ready if number for address in e["addresses"]]
    if not found:
        raise ServiceUnavailable(f'no endpoints available for service "{meta["name"]}"')
    return store.state.rng.choice(found)


def _port_name(ports: Sequence[Object], port: str, service: str) -> str:
    """A port of a Service by its number or name; the endpoints know it by name. Raises ServiceUnavailable."""
    if not port.isdigit():
        return port
    found = next((p.get("name", "") for p in ports if p["port"] == int(port)), None)
    if found is None:
        raise ServiceUnavailable(f'no service port {port} found for service "{service}"')
    return str(found)
