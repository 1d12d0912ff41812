"""Which changes of a Service matter to its load balancer, and what is told of them. Pure.

Imitates needsUpdate of k8s.io/cloud-provider's service controller.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kubecosm.api.meta import annotations_of, uid_of
from kubecosm.api.resources import Object

SILENT_FIELDS = ("sessionAffinity", "sessionAffinityConfig", "ipFamilies", "ipFamilyPolicy")
TOLD_FIELDS = {"externalTrafficPolicy": "ExternalTrafficPolicy", "healthCheckNodePort": "HealthCheckNodePort"}
PORT_FIELDS = ("name", "protocol", "port", "nodePort", "targetPort", "appProtocol")


class Notice(NamedTuple):
    """An event about a Service."""

    type: str
    reason: str
    message: str


def notices_of(old: Object, new: Object, wanted: bool, wants: bool) -> list[Notice] | None:
    """What is to be told of a change that the load balancer follows; None if it does not matter to it.

    `wanted` and `wants`: whether it was a load balancer, and is one. As in Kubernetes the first difference found is the one told.
    """
    if not wanted and not wants:
        return None
    before, after = old["spec"], new["spec"]
    if wanted != wants:
        return [_told("Type", before.get("type", "ClusterIP"), after.get("type", "ClusterIP"))]
    ranges = [spec.get("loadBalancerSourceRanges") or [] for spec in (before, after)]
    if ranges[0] != ranges[1]:
        return [_told("LoadBalancerSourceRanges", *(f"[{' '.join(found)}]" for found in ranges))]
    if _ports(before) != _ports(after) or any(before.get(field) != after.get(field) for field in SILENT_FIELDS[:2]):
        return []
    if (before.get("loadBalancerIP") or "") != (after.get("loadBalancerIP") or ""):
        return [_told("LoadbalancerIP", before.get("loadBalancerIP") or "", after.get("loadBalancerIP") or "")]
    external = [spec.get("externalIPs") or [] for spec in (before, after)]
    if len(external[0]) != len(external[1]):
        return [Notice("Normal", "ExternalIP", f"Count: {len(external[0])} -> {len(external[1])}")]
    added = next((new_ip for old_ip, new_ip in zip(*external, strict=True) if old_ip != new_ip), None)
    if added is not None:
        return [Notice("Normal", "ExternalIP", f"Added: {added}")]
    if annotations_of(old) != annotations_of(new):
        return []
    if uid_of(old) != uid_of(new):
        return [_told("UID", uid_of(old), uid_of(new))]
    for field, reason in TOLD_FIELDS.items():
        if before.get(field) != after.get(field):
            return [
                _told(reason, before.get(field, _zero(after[field]) if field in after else ""), after.get(field, _zero(before.get(field))))
            ]
    return [] if any(before.get(field) != after.get(field) for field in SILENT_FIELDS) else None


def _told(reason: str, before: Any, after: Any) -> Notice:
    return Notice("Normal", reason, f"{before} -> {after}")


def _zero(value: Any) -> Any:
    """What Go prints for a field that is not set."""
    return 0 if isinstance(value, int) else ""


def _ports(spec: Object) -> list[list[Any]]:
    return [[port.get(field) for field in PORT_FIELDS] for port in spec.get("ports") or ()]
