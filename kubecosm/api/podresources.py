"""What a whole pod requests and is limited to, as exact quantities.

Imitates k8s.io/component-helpers/resource (PodRequests, PodLimits): containers are summed, init containers run one after the other beside
the sidecars started before them, pod-level resources override, overhead is added; of a pod that runs, a container counts with the largest
of what is wanted, allocated and in effect (in-place resize). Left out: what node-allocatable device claims add (alpha).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubecosm.api.meta import get_condition
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

Amounts = dict[str, Quantity]
"""A ResourceList."""

POD_LEVEL = ("cpu", "memory")
HUGE_PAGES = "hugepages-"


def amounts(resources: Mapping[str, str | int | float] | None) -> Amounts:
    """A ResourceList of an object, parsed. Raises QuantityError."""
    return {name: Quantity.of(value) for name, value in (resources or {}).items()}


def add(total: Amounts, more: Amounts) -> None:
    """Add up in place."""
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value


def raise_to(total: Amounts, floor: Amounts) -> None:
    """Let no amount be below that of `floor`, in place."""
    for name, value in floor.items():
        if name not in total or total[name] < value:
            total[name] = value


def has_pod_level_resources(spec: Object) -> bool:
    """Whether requests or limits of a kind that counts are set for the pod as a whole (IsPodLevelResourcesSet)."""
    resources = spec.get("resources") or {}
    return any(_is_pod_level(name) for field in ("requests", "limits") for name in resources.get(field) or ())


def spec_total(spec: Object, field: str) -> Amounts:
    """What a spec asks for, whatever has become of it: `requests` or `limits`, without overhead."""
    return _aggregate(spec, {c["name"]: _wanted(c, field) for c in _containers(spec)}) | _pod_level(spec, field)


def pod_requests(pod: Object) -> Amounts:
    """What the pod requests in all."""
    spec = pod["spec"]
    total = _of_containers(pod, "requests")
    total |= _pod_level(spec, "requests")
    add(total, amounts(spec.get("overhead")))
    return total


def pod_limits(pod: Object) -> Amounts:
    """What the pod is limited to; overhead counts only where there is a limit."""
    spec = pod["spec"]
    total = _of_containers(pod, "limits")
    total |= _pod_level(spec, "limits")
    for name, value in amounts(spec.get("overhead")).items():
        if total.get(name):
            total[name] = total[name] + value
    return total


def _is_pod_level(name: str) -> bool:
    return name in POD_LEVEL or name.startswith(HUGE_PAGES)


def _pod_level(spec: Object, field: str) -> Amounts:
    given = amounts((spec.get("resources") or {}).get(field))
    return {name: value for name, value in given.items() if _is_pod_level(name)}


def _of_containers(pod: Object, field: str) -> Amounts:
    """AggregateContainerRequests and -Limits."""
    statuses = _resized(pod)
    spec = pod["spec"]
    wanted = _aggregate(spec, {c["name"]: _wanted(c, field) for c in _containers(spec)})
    if not statuses:
        return wanted
    pending = get_condition(pod, "PodResizePending")
    infeasible = pending is not None and pending.get("reason") == "Infeasible"
    in_effect = _aggregate(spec, {c["name"]: _in_effect(c, statuses.get(c["name"]), field, infeasible) for c in _containers(spec)})
    if infeasible:
        return in_effect
    raise_to(wanted, in_effect)
    return wanted


def _containers(spec: Object) -> Iterable[Object]:
    return (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))


def _resized(pod: Object) -> dict[str, Object]:
    """Statuses that tell of resources, by container name."""
    status = pod.get("status") or {}
    both = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return {s["name"]: s for s in both if s.get("allocatedResources") or s.get("resources")}


def _wanted(container: Object, field: str) -> Amounts:
    return amounts((container.get("resources") or {}).get(field))


def _in_effect(container: Object, status: Object | None, field: str, infeasible: bool) -> Amounts:
    """The larger of what runs and what is allocated; what is wanted where the kubelet has not said."""
    found: Amounts = {}
    given = (status or {}).get("resources") or {}
    for reported in (given.get(field), (status or {}).get("allocatedResources") if field == "requests" else None):
        raise_to(found, amounts(reported))
    return found if found or infeasible else _wanted(container, field)


def _aggregate(spec: Object, of_container: Mapping[str, Amounts]) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, of_container[container["name"]])
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = of_container[container["name"]]
        if container.get("restartPolicy") == "Always":
            add(total, own)
            add(sidecars, own)
            raise_to(peak, sidecars)
        else:
            running = dict(own)
            add(running, sidecars)
            raise_to(peak, running)
    raise_to(total, peak)
    return total
