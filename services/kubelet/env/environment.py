"""A container's environment variables, in the kubelet's order: Services, envFrom, env with $(NAME) expansion (kubelet_pods.go)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping

from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object, Resource

from ..cri.types import RuntimeFailure
from .fields import NOTHING, field_value, resource_value

VARIABLE = re.compile(r"\$(\$|\(([^()]*)\))")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Lookup = Callable[[Resource, str, str], Object | None]
"""(resource, namespace, name) → the object, or None if there is none."""


class ConfigMissing(RuntimeFailure):
    """A ConfigMap or Secret that the container needs is not there: CreateContainerConfigError."""

    def __init__(self, message: str) -> None:
        super().__init__("CreateContainerConfigError", message)


def named_objects(spec: Object) -> list[tuple[Resource, str]]:
    """(resource, name) of every ConfigMap and Secret that the container's environment refers to."""
    found = []
    sources = [*(spec.get("envFrom") or ()), *(variable.get("valueFrom") or {} for variable in spec.get("env") or ())]
    for source in sources:
        for field, resource in (
            ("configMapRef", CONFIGMAPS), ("secretRef", SECRETS), ("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS),
        ):  # fmt: skip
            if source.get(field) is not None:
                found.append((resource, source[field].get("name", "")))
    return found


def snapshot(pod: Object, spec: Object, lookup: Lookup) -> Lookup:
    """A lookup that goes on giving what the container's environment refers to as it is now: a running process keeps its variables."""
    namespace = pod["metadata"]["namespace"]
    held = {(resource, name): lookup(resource, namespace, name) for resource, name in named_objects(spec)}
    return lambda resource, _namespace, name: held.get((resource, name))


def shows_metadata(spec: Object) -> bool:
    """Whether the environment has labels or annotations of the pod."""
    fields = [((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath", "") for variable in spec.get("env") or ()]
    return any(field.startswith(("metadata.labels", "metadata.annotations")) for field in fields)


def data_of(obj: Object, resource: Resource) -> dict[str, str]:
    """The keys and values of a ConfigMap or Secret as text."""
    if resource == SECRETS:
        return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in (obj.get("data") or {}).items()}
    return dict(obj.get("data") or {})


def compute_environment(
    pod: Object, spec: Object, lookup: Lookup, services: Iterable[Object], *, pod_ip: str, node_ip: str,
    allocatable: Mapping[str, str] = NOTHING,
) -> dict[str, str]:  # fmt: skip
    """All variables; ConfigMissing if a required object or key is missing. `allocatable` is the node's: limits that are not set."""
    namespace = pod["metadata"]["namespace"]
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": str(pod["spec"].get("hostname") or pod["metadata"]["name"])}
    from_services = service_variables(services)
    variables.update(from_services)
    for source in spec.get("envFrom") or ():
        variables.update(_env_from(source, namespace, lookup))
    declared: dict[str, str] = {}
    for variable in spec.get("env") or ():
        known = {**variables, **declared}
        value = _value(pod, spec, variable, lookup, known, pod_ip=pod_ip, node_ip=node_ip, allocatable=allocatable)
        if value is not None:
            declared[variable["name"]] = value
    return {**variables, **declared}


def _env_from(source: Object, namespace: str, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field, resource, kind in (("configMapRef", CONFIGMAPS, "configmap"), ("secretRef", SECRETS, "secret")):
        reference = source.get(field)
        if reference is None:
            continue
        obj = lookup(resource, namespace, reference["name"])
        if obj is None:
            if reference.get("optional"):
                return {}
            raise ConfigMissing(f'{kind} "{reference["name"]}" not found')
        return {prefix + key: value for key, value in data_of(obj, resource).items()}
    return {}


def _value(
    pod: Object, spec: Object, variable: Object, lookup: Lookup, known: Mapping[str, str], *, pod_ip: str, node_ip: str,
    allocatable: Mapping[str, str],
) -> str | None:  # fmt: skip
    source = variable.get("valueFrom")
    if not source:
        return expand(variable.get("value") or "", known)
    if (reference := source.get("fieldRef")) is not None:
        return field_value(pod, reference["fieldPath"], pod_ip=pod_ip, node_ip=node_ip)
    if (reference := source.get("resourceFieldRef")) is not None:
        return resource_value(_container(pod, reference.get("containerName")) or spec, reference, allocatable)
    namespace = pod["metadata"]["namespace"]
    for field, resource, kind, title in (
        ("configMapKeyRef", CONFIGMAPS, "configmap", "ConfigMap"), ("secretKeyRef", SECRETS, "secret", "Secret"),
    ):  # fmt: skip
        reference = source.get(field)
        if reference is None:
            continue
        name, key = reference["name"], reference["key"]
        obj = lookup(resource, namespace, name)
        if obj is None:
            if reference.get("optional"):
                return None
            raise ConfigMissing(f'{kind} "{name}" not found')
        data = data_of(obj, resource)
        if key not in data:
            if reference.get("optional"):
                return None
            raise ConfigMissing(f"couldn't find key {key} in {title} {namespace}/{name}")
        return data[key]
    return ""


def _container(pod: Object, name: str | None) -> Object | None:
    return next((c for c in pod["spec"].get("containers") or () if c["name"] == name), None)


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` by its value, `$$` by `$`; unknown names stay as written (third_party/forked/golang/expansion)."""

    def replacement(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], found[0])

    return VARIABLE.sub(replacement, text)


def sub_path(mount: Object, known: Mapping[str, str]) -> str:
    """The part of its volume that a volumeMount shows; ConfigMissing if it names none (kubelet_pods.go, makeMounts)."""
    path = str(mount.get("subPath") or "")
    if pattern := mount.get("subPathExpr"):
        missing = [name for _, name in VARIABLE.findall(pattern) if name and name not in known]
        if missing:
            raise ConfigMissing(f'missing value for "{missing[0]}"')
        path = expand(pattern, known)
    if path.startswith("/"):
        raise ConfigMissing(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigMissing(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def has_computed_paths(spec: Object) -> bool:
    """Whether a mount's path in its volume depends on the environment."""
    return any(mount.get("subPathExpr") for mount in spec.get("volumeMounts") or ())


def service_variables(services: Iterable[Object]) -> dict[str, str]:
    """Docker-links style variables of Services (pkg/kubelet/envvars)."""
    variables: dict[str, str] = {}
    for service in services:
        spec = service["spec"]
        address = spec.get("clusterIP") or ""
        ports = spec.get("ports") or ()
        if address in ("", "None") or not ports:
            continue
        name = _variable_name(service["metadata"]["name"])
        variables[f"{name}_SERVICE_HOST"] = address
        variables[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                variables[f"{name}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
        for index, port in enumerate(ports):
            protocol = port.get("protocol") or "TCP"
            url = f"{protocol.lower()}://{address}:{port['port']}"
            if index == 0:
                variables[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            variables |= {prefix: url, f"{prefix}_PROTO": protocol.lower(), f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": address}
    return variables


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()
