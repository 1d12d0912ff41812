"""From a Service to its pods and ports, and from a pod to the Services that select it.

Imitates k8s.io/endpointslice/{utils,util} and pkg/controller/endpoint. The two indexes make both directions cheap in large namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubecosm.api.meta import Key, is_deleting, key_of, labels_of
from kubecosm.api.resources import PODS, SERVICES, Object, Resource
from kubecosm.client.controller import Reader
from kubecosm.client.store import IndexFn

from .pods import is_ready, is_terminal

INDEX_LABEL = "namespace-label"
"""Pods by each of their labels, as namespace/key=value."""
INDEX_SELECTOR_PAIR = "selector-pair"
"""Services by the first pair of their selector, in the same form."""


def _pair(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"


def label_pairs(obj: Object) -> list[str]:
    namespace = obj["metadata"].get("namespace", "")
    return [_pair(namespace, name, value) for name, value in labels_of(obj).items()]


def first_selector_pair(service: Object) -> tuple[str, ...]:
    selector = service["spec"].get("selector")
    if not selector:
        return ()
    name = min(selector)
    return (_pair(service["metadata"]["namespace"], name, selector[name]),)


INDEXERS: Mapping[Resource, Mapping[str, IndexFn]] = {
    PODS: {INDEX_LABEL: label_pairs},
    SERVICES: {INDEX_SELECTOR_PAIR: first_selector_pair},
}


def has_selected_endpoints(service: Object) -> bool:
    """Whether controllers keep its endpoints: it has a selector and is not merely another name."""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    ip: str = service["spec"].get("clusterIP") or ""
    return ip == "None"


def has_cluster_ip(service: Object) -> bool:
    """Whether it has an address of its own; neither headless Services nor other names have one."""
    return not is_headless(service) and bool(service["spec"].get("clusterIP"))


def selected_pods(reader: Reader, service: Object) -> list[Object]:
    """The pods that the selector matches, by name."""
    wanted = service["spec"]["selector"].items()
    candidates = reader.cache(PODS).by_index(INDEX_LABEL, first_selector_pair(service)[0])
    pods = [pod for pod in candidates if wanted <= labels_of(pod).items()] if len(wanted) > 1 else candidates
    return sorted(pods, key=lambda pod: pod["metadata"]["name"])


def services_of(reader: Reader, pod: Object) -> Iterable[Key]:
    """The Services that select the pod."""
    labels = labels_of(pod)
    by_index = reader.cache(SERVICES).by_index
    return [
        key_of(service)
        for pair in label_pairs(pod)
        for service in by_index(INDEX_SELECTOR_PAIR, pair)
        if service["spec"]["selector"].items() <= labels.items()
    ]


def pod_ips(pod: Object) -> list[str]:
    """All addresses, the first one first."""
    status = pod.get("status") or {}
    listed = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    return listed or ([status["podIP"]] if status.get("podIP") else [])


def address_family(service: Object, pod: Object) -> str:
    """The family of a Service's Endpoints: its first one, or that of its address; a headless one of old without families: the pod's."""
    if families := service["spec"].get("ipFamilies"):
        return str(families[0])
    ip = service["spec"]["clusterIP"] if has_cluster_ip(service) else (pod_ips(pod) or [""])[0]
    return family_of(ip)


def family_of(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def ip_of_family(pod: Object, family: str) -> str | None:
    """The pod's first address of a family."""
    return next((ip for ip in pod_ips(pod) if family_of(ip) == family), None)


def belongs_in_endpoints(pod: Object, *, include_terminating: bool) -> bool:
    """It has an address and has not ended (and is not about to, unless those count too)."""
    return not is_terminal(pod) and bool(pod_ips(pod)) and (include_terminating or not is_deleting(pod))


def endpoints_changed(old: Object, new: Object) -> bool:
    """Whether an update of a pod can matter to any endpoint."""
    if labels_of(old) != labels_of(new) or is_deleting(old) != is_deleting(new) or is_ready(old) != is_ready(new):
        return True
    if pod_ips(old) != pod_ips(new) or is_terminal(old) != is_terminal(new):
        return True
    spec, before = new["spec"], old["spec"]
    return any(spec.get(field) != before.get(field) for field in ("nodeName", "hostname", "subdomain"))


def hostname_in(service: Object, pod: Object) -> str:
    """The pod's own DNS name under the Service, if it has one."""
    spec = pod["spec"]
    hostname: str = spec.get("hostname") or ""
    return hostname if spec.get("subdomain") == service["metadata"]["name"] else ""


def _restartable(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def target_port(pod: Object, service_port: Object) -> int | None:
    """The container port that a Service port leads to in this pod; None if the pod has no port of that name and protocol."""
    target = service_port.get("targetPort") or service_port["port"]
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    spec = pod["spec"]
    containers = [*(spec.get("containers") or ()), *(c for c in spec.get("initContainers") or () if _restartable(c))]
    for container in containers:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                number: int = port["containerPort"]
                return number
    return None


def endpoint_ports(service: Object, pod: Object) -> list[Object]:
    """The ports of this pod that the Service leads to; ports it does not have are left out."""
    ports = []
    for service_port in service["spec"].get("ports") or ():
        number = target_port(pod, service_port)
        if number is None:
            continue
        port: Object = {"name": service_port.get("name", ""), "port": number, "protocol": service_port.get("protocol", "TCP")}
        if service_port.get("appProtocol"):
            port["appProtocol"] = service_port["appProtocol"]
        ports.append(port)
    return ports


def target_ref(pod: Object) -> Object:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
