"""What a pod asks of a node, in integers: millicores for cpu, whole units for everything else.

Imitates k8s.io/component-helpers/resource.PodRequests: sums containers, takes the largest init container, counts sidecars, overhead and
pod-level resources; of a pod that runs, a request is the largest of spec, allocated and actual (in-place resize of containers and pods).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubecosm.api.meta import get_condition
from kubecosm.api.quantity import QuantityError, milli_value, whole_value
from kubecosm.api.resources import Object

Requests = dict[str, int]
"""Resource name → amount; zero amounts may be missing."""

CPU, MEMORY, EPHEMERAL_STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"

NATIVE = frozenset((CPU, MEMORY, EPHEMERAL_STORAGE))
"""Resources every node has; the others are scalar (extended, huge pages)."""

DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024
"""What a container without a request counts when nodes are scored (schedutil.DefaultMilliCPURequest and -MemoryRequest)."""

RESIZE_PENDING, INFEASIBLE = "PodResizePending", "Infeasible"

POD_LEVEL = (CPU, MEMORY)
POD_LEVEL_PREFIX = "hugepages-"


def amount(resource: str, quantity: str | int | float) -> int:
    """A quantity in the scheduler's unit of that resource; a malformed one counts nothing."""
    try:
        return milli_value(quantity) if resource == CPU else whole_value(quantity)
    except QuantityError:
        return 0


def amounts(resources: Mapping[str, str | int | float] | None) -> Requests:
    """A ResourceList in the scheduler's units."""
    return {name: amount(name, quantity) for name, quantity in (resources or {}).items()}


def pod_requests(pod: Object, defaults: Requests | None = None) -> Requests:
    """The requests of a whole pod; `defaults` fills in what a container does not request."""
    spec = pod["spec"]
    statuses = _container_statuses(pod) if spec.get("nodeName") else {}
    wishes = not (statuses and resize_is_infeasible(pod))
    containers = [_container_requests(container, statuses, defaults, wishes) for container in spec.get("containers") or ()]
    total = containers[0] if len(containers) == 1 else _sum(containers)
    if spec.get("initContainers"):
        started = [(c, _container_requests(c, statuses, defaults, wishes)) for c in spec["initContainers"]]
        total = _with_init_containers(total, started)
    if spec.get("resources"):
        total = total | _pod_level_requests(pod)
    if spec.get("overhead"):
        total = _sum((total, amounts(spec["overhead"])))
    return total


def spec_total(pod: Object, field: str) -> Requests:
    """The requests or limits that the spec of a pod adds up to, whatever the kubelet says (resource.PodRequests, resource.PodLimits)."""
    spec = pod["spec"]

    def of(container: Object) -> Requests:
        return amounts((container.get("resources") or {}).get(field))

    started = [(container, of(container)) for container in spec.get("initContainers") or ()]
    total = _with_init_containers(_sum(of(container) for container in spec.get("containers") or ()), started)
    total |= _at_pod_level((spec.get("resources") or {}).get(field))
    overhead = amounts(spec.get("overhead"))
    if field == "limits":  # what is not limited stays so
        overhead = {name: value for name, value in overhead.items() if total.get(name)}
    return _sum((total, overhead))


def nonzero_requests(pod: Object, requests: Requests) -> tuple[int, int]:
    """Cpu and memory as the scoring plugins count them: containers that request nothing count the defaults."""
    containers = pod["spec"].get("containers") or ()
    if requests.get(CPU) and requests.get(MEMORY) and len(containers) == 1 and not pod["spec"].get("initContainers"):
        return requests[CPU], requests[MEMORY]
    filled = pod_requests(pod, {CPU: DEFAULT_MILLI_CPU, MEMORY: DEFAULT_MEMORY_BYTES})
    return filled.get(CPU, 0), filled.get(MEMORY, 0)


def _at_pod_level(resources: Mapping[str, str | int | float] | None) -> Requests:
    """Those that a pod may ask for as a whole."""
    return {name: value for name, value in amounts(resources).items() if name in POD_LEVEL or name.startswith(POD_LEVEL_PREFIX)}


def _pod_level_requests(pod: Object) -> Requests:
    """What the pod asks for as a whole; while that is being resized, the largest of it, what it has and what it was promised."""
    wished = _at_pod_level(pod["spec"]["resources"].get("requests"))
    status = pod.get("status") or {}
    if not wished or not status.get("resources"):
        return wished
    actual = _at_pod_level(status["resources"].get("requests")), _at_pod_level(status.get("allocatedResources"))
    return _max(actual if resize_is_infeasible(pod) else (wished, *actual))


def _container_statuses(pod: Object) -> dict[str, Object]:
    """Statuses that tell of allocated or actual resources, by container name."""
    status = pod.get("status") or {}
    both = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return {s["name"]: s for s in both if s.get("allocatedResources") or s.get("resources")}


def resize_is_infeasible(pod: Object) -> bool:
    """Whether the kubelet has said that the resize in the spec will never happen (IsPodResizeInfeasible)."""
    condition = get_condition(pod, RESIZE_PENDING)
    return condition is not None and condition.get("status") == "True" and condition.get("reason") == INFEASIBLE


def _container_requests(container: Object, statuses: Mapping[str, Object], defaults: Requests | None, wishes: bool) -> Requests:
    """The largest of what the container has, was promised, and (unless its wishes cannot come true) wishes for."""
    requests = amounts((container.get("resources") or {}).get("requests"))
    if statuses and (status := statuses.get(container["name"])):
        actual = amounts((status.get("resources") or {}).get("requests"))
        allocated = amounts(status.get("allocatedResources"))
        requests = _max((requests, actual, allocated) if wishes else (actual, allocated))
    return {**defaults, **requests} if defaults else requests


def _with_init_containers(total: Requests, init_containers: Iterable[tuple[Object, Requests]]) -> Requests:
    """Sidecars run beside everything that starts after them; other init containers run one at a time."""
    sidecars: Requests = {}
    peak: Requests = {}
    for container, requests in init_containers:
        if container.get("restartPolicy") == "Always":
            total = _sum((total, requests))
            sidecars = _sum((sidecars, requests))
            peak = _max((peak, sidecars))
        else:
            peak = _max((peak, _sum((requests, sidecars))))
    return _max((total, peak))


def _sum(parts: Iterable[Requests]) -> Requests:
    total: Requests = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def _max(parts: Iterable[Requests]) -> Requests:
    highest: Requests = {}
    for part in parts:
        for name, value in part.items():
            if value > highest.get(name, -1):
                highest[name] = value
    return highest
