"""The quality-of-service class that a pod's requests and limits amount to. Imitates pkg/apis/core/helper/qos."""

from __future__ import annotations

from kubecosm.api.resources import Object

from .resources import amount

_COUNTED = ("cpu", "memory")


def compute_qos(spec: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`."""
    pod_level = spec.get("resources")
    if pod_level and (pod_level.get("requests") or pod_level.get("limits")):
        return _judge([pod_level])
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return _judge([container.get("resources") or {} for container in containers])


def _judge(all_resources: list[Object]) -> str:
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in all_resources:
        own_requests, own_limits = resources.get("requests"), resources.get("limits")
        if not own_requests and not own_limits:
            guaranteed = False
            continue
        _add(requests, own_requests)
        if _add(limits, own_limits) < len(_COUNTED):
            guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _add(totals: dict[str, int], amounts: dict[str, str] | None) -> int:
    """Add the positive amounts of what counts; returns how many there were."""
    found = 0
    for name in _COUNTED:
        value = amounts.get(name) if amounts else None
        if value is not None and (nanos := amount(value).nanos) > 0:
            totals[name] = totals.get(name, 0) + nanos
            found += 1
    return found
