"""The cells of Services, their endpoints, and the rest of networking. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecosm.api.names import ANNOTATION_DEFAULT_INGRESS_CLASS
from kubecosm.api.resources import Object

from .texts import NONE, SHOWN_MAX, UNKNOWN, age, labels_text, name_of, part, selector_text, shortened


def services(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or [NONE]
    return [
        name_of(obj), spec.get("type", ""), addresses[0], _external_address(obj), _service_ports(spec.get("ports") or []) or NONE,
        age(obj, now), labels_text(spec.get("selector")),
    ]  # fmt: skip


def _external_address(obj: Object) -> str:
    spec = obj.get("spec") or {}
    externals: list[str] = spec.get("externalIPs") or []
    kind = spec.get("type")
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(externals) or NONE
    if kind == "LoadBalancer":
        balanced = _ingress_points(obj)
        return ",".join([*([balanced] if balanced else []), *externals]) or "<pending>"
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    return UNKNOWN


def _ingress_points(obj: Object) -> str:
    """Addresses of the load balancers in the status, in order."""
    points: list[Object] = part(obj, "status", "loadBalancer", "ingress") or []
    return ",".join(sorted({point.get("ip") or point.get("hostname") or "" for point in points} - {""}))


def _service_ports(ports: list[Object]) -> str:
    return ",".join([f"{p['port']}{':' + str(p['nodePort']) if p.get('nodePort') else ''}/{p['protocol']}" for p in ports])


def endpoints(obj: Object, now: datetime) -> list[Any]:
    listed: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports = subset.get("ports")
        listed += [_host_port(ip, port["port"]) for port in ports for ip in addresses] if ports else addresses
    # Subsets with nothing in them show as nothing at all, no subsets as <none>.
    text = ",".join(listed[:SHOWN_MAX]) if obj.get("subsets") else NONE
    if len(listed) > SHOWN_MAX:
        text += f" + {len(listed) - SHOWN_MAX} more..."
    return [name_of(obj), text, age(obj, now)]


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def endpoint_slices(obj: Object, now: datetime) -> list[Any]:
    ports = [str(port.get("port", port.get("name", "*"))) for port in obj.get("ports") or ()]
    addresses = [address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses") or ()]
    return [name_of(obj), obj.get("addressType", ""), shortened(ports), shortened(addresses), age(obj, now)]


def ingresses(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    ports = "80, 443" if spec.get("tls") else "80"
    return [name_of(obj), spec.get("ingressClassName") or NONE, _hosts(spec.get("rules") or []), _ingress_points(obj), ports, age(obj, now)]


def _hosts(rules: list[Object]) -> str:
    """The first hosts; what `more` counts are rules, with or without a host."""
    hosts: list[str] = []
    more = False
    for rule in rules:
        more = more or len(hosts) == SHOWN_MAX
        if not more and rule.get("host"):
            hosts.append(rule["host"])
    if not hosts:
        return "*"
    text = ",".join(hosts)
    return f"{text} + {len(rules) - SHOWN_MAX} more..." if more else text


def ingress_classes(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    is_default = (obj["metadata"].get("annotations") or {}).get(ANNOTATION_DEFAULT_INGRESS_CLASS) == "true"
    reference = spec.get("parameters")
    parameters = NONE
    if reference is not None:
        group = reference.get("apiGroup")
        parameters = f"{reference.get('kind', '')}{'' if group is None else f'.{group}'}/{reference.get('name', '')}"
    return [name_of(obj) + (" (default)" if is_default else ""), spec.get("controller", ""), parameters, age(obj, now)]


def network_policies(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), selector_text(part(obj, "spec", "podSelector") or {}), age(obj, now)]


def service_cidrs(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), ",".join(part(obj, "spec", "cidrs") or ()), age(obj, now)]


def ip_addresses(obj: Object, now: datetime) -> list[Any]:
    """Kubernetes gives the age, too, but no column for it."""
    parent = part(obj, "spec", "parentRef")
    text = NONE
    if parent is not None:
        resource = f"{parent.get('resource', '')}.{parent['group']}" if parent.get("group") else parent.get("resource", "")
        text = "/".join(step for step in (resource.lower(), parent.get("namespace"), parent.get("name", "")) if step)
    return [name_of(obj), text, age(obj, now)]
