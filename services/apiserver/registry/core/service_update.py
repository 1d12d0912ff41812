"""What an update of a Service takes over from its old state, so that clients need not repeat what was allocated.

Imitates patchAllocatedValues, normalizeClusterIPs and dropTypeDependentFields of pkg/registry/core/service.
"""

from __future__ import annotations

from kubecosm.api.resources import Object

_WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")


def needs_cluster_ip(spec: Object) -> bool:
    return spec.get("type") in _WITH_CLUSTER_IP


def needs_node_ports(spec: Object) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def needs_health_check_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def patch_allocated(spec: Object, old: Object) -> None:
    """Fill addresses and ports that the client left out."""
    if needs_cluster_ip(spec) and needs_cluster_ip(old):
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        if not spec.get("clusterIPs") and old.get("clusterIPs") and spec.get("clusterIP") == old.get("clusterIP"):
            spec["clusterIPs"] = list(old["clusterIPs"])
    if needs_node_ports(spec) and needs_node_ports(old):
        used = _node_ports(old) & _node_ports(spec)
        by_name = {port.get("name", ""): port.get("nodePort", 0) for port in old.get("ports") or ()}
        for port in spec.get("ports") or ():
            known = by_name.get(port.get("name", ""), 0)
            if not port.get("nodePort") and known and known not in used:
                port["nodePort"] = known
                used.add(known)
    if needs_health_check_port(spec) and needs_health_check_port(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old.get("healthCheckNodePort", 0)


def normalize_cluster_ips(spec: Object, old: Object | None) -> None:
    """Keep clusterIP and clusterIPs in step, whichever of them the client speaks."""
    single, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if old is None:
        if single and not addresses:
            spec["clusterIPs"] = [single]
        return
    old_single, old_addresses = old.get("clusterIP", ""), old.get("clusterIPs") or []
    if old_addresses and not addresses and single == old_single:
        spec["clusterIPs"] = addresses = list(old_addresses)
    if single != old_single and addresses == old_addresses:
        if old_single and not single:
            spec.pop("clusterIPs", None)
        else:
            spec["clusterIPs"] = [single]


def clear_type_dependents(spec: Object, old: Object) -> None:
    """A change of type drops what the old type had allocated, unless the client asks for something else."""
    if needs_cluster_ip(old) and not needs_cluster_ip(spec):
        if spec.get("clusterIP") == old.get("clusterIP"):
            spec.pop("clusterIP", None)
        if spec.get("clusterIPs") == old.get("clusterIPs"):
            spec.pop("clusterIPs", None)
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if spec.get(field) == old.get(field):
                spec.pop(field, None)
    if needs_node_ports(old) and not needs_node_ports(spec) and _node_ports(spec) == _node_ports(old):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    unneeded = needs_health_check_port(old) and not needs_health_check_port(spec)
    if unneeded and spec.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if old.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) == old.get(field):
                spec.pop(field, None)
    external = spec.get("type") in ("NodePort", "LoadBalancer") or (spec.get("type") == "ClusterIP" and spec.get("externalIPs"))
    if not external and spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)
