"""How much one object uses of each quota resource, kind by kind, and which quota resources are about a kind."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from kubecosm.api import names
from kubecosm.api.meta import annotations_of
from kubecosm.api.podresources import HUGE_PAGES, Amounts, add, amounts, has_pod_level_resources, pod_limits, pod_requests, raise_to
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

ONE = Quantity.from_value(1)
REQUESTS, LIMITS = "requests.", "limits."
COMPUTE = ("cpu", "memory", "ephemeral-storage")
MUST_BE_SPECIFIED = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
"""Of these every container must say something where a quota is about them."""
POD_RESOURCES = frozenset(("pods", "count/pods", *COMPUTE, *(prefix + name for prefix in (REQUESTS, LIMITS) for name in COMPUTE)))
SERVICE_RESOURCES = frozenset(("services", "count/services", "services.nodeports", "services.loadbalancers"))
CLAIM_RESOURCES = frozenset(("persistentvolumeclaims", "requests.storage"))
STORAGE_CLASS_INFIX = ".storageclass.storage.k8s.io/"
BY_STORAGE_CLASS = tuple(STORAGE_CLASS_INFIX + name for name in sorted(CLAIM_RESOURCES))
COUNT_RESOURCE_CLAIMS = "count/resourceclaims.resource.k8s.io"
BY_DEVICE_CLASS = ".deviceclass.resource.k8s.io/devices"
ALL_DEVICES = 32
"""What a request for all devices counts: the most that one claim can get."""


def is_extended(name: str) -> bool:
    """Of a domain other than Kubernetes' own (IsExtendedResourceName)."""
    return "/" in name and names.DOMAIN + "/" not in name and not name.startswith(REQUESTS)


def is_pod_resource(name: str) -> bool:
    """podEvaluator.MatchingResources."""
    if name in POD_RESOURCES or name.startswith((HUGE_PAGES, REQUESTS + HUGE_PAGES)):
        return True
    return name.startswith(REQUESTS) and is_extended(name.removeprefix(REQUESTS))


def is_claim_resource(name: str) -> bool:
    """pvcEvaluator.MatchingResources."""
    return name in CLAIM_RESOURCES or name == "count/persistentvolumeclaims" or name.endswith(BY_STORAGE_CLASS)


def is_device_resource(name: str) -> bool:
    """claimEvaluator.MatchingResources."""
    return name == COUNT_RESOURCE_CLAIMS or name.endswith(BY_DEVICE_CLASS)


def pod_usage(pod: Object, now: datetime) -> Amounts:
    """PodUsageFunc: `count/pods` counts all pods, everything else those that have not ended."""
    used: Amounts = {"count/pods": ONE}
    if is_charged(pod, now):
        used |= _compute_usage(pod_requests(pod), pod_limits(pod))
    return used


def is_charged(pod: Object, now: datetime) -> bool:
    """Not ended, nor stuck beyond its grace period (QuotaV1Pod)."""
    meta = pod["metadata"]
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    deleted, grace = meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds")
    return deleted is None or grace is None or now <= parse_time(deleted) + timedelta(seconds=grace)


def _compute_usage(requests: Amounts, limits: Amounts) -> Amounts:
    """podComputeUsageHelper."""
    used: Amounts = {"pods": ONE}
    for name, value in requests.items():
        if name in COMPUTE or name.startswith(HUGE_PAGES):
            used[name] = used[REQUESTS + name] = value
        elif is_extended(name):
            used[REQUESTS + name] = value
    used |= {LIMITS + name: value for name, value in limits.items() if name in COMPUTE}
    return used


def pod_complaint(pod: Object, resources: Iterable[str]) -> str:
    """What containers do not say although a quota is about it; empty if all is said (podEvaluator.Constraints)."""
    spec = pod["spec"]
    wanted = MUST_BE_SPECIFIED.intersection(resources)
    if not wanted or has_pod_level_resources(spec):
        return ""
    missing: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        own = container.get("resources") or {}
        for name in wanted:
            limited = name.startswith(LIMITS)
            if name.removeprefix(LIMITS if limited else REQUESTS) not in (own.get("limits" if limited else "requests") or ()):
                missing.setdefault(name, set()).add(container.get("name", ""))
    if not missing:
        return ""
    return "must specify " + "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def service_usage(service: Object, now: datetime) -> Amounts:
    """Services by number, by load balancers and by node ports (wanted ones: they are allocated later)."""
    spec = service.get("spec") or {}
    ports = spec.get("ports") or ()
    kind = spec.get("type", "ClusterIP")
    node_ports = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        node_ports = sum(1 for port in ports if port.get("nodePort"))
    return {
        "services": ONE, "count/services": ONE, "services.nodeports": Quantity.from_value(node_ports),
        "services.loadbalancers": Quantity.from_value(int(kind == "LoadBalancer")),
    }  # fmt: skip


def claim_usage(claim: Object, now: datetime) -> Amounts:
    """PersistentVolumeClaims by number and size, also of their class."""
    used: Amounts = {"persistentvolumeclaims": ONE}
    size = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests")).get("storage")
    if size is not None:
        raised = {"storage": size.round_up(0)}
        allocated = amounts((claim.get("status") or {}).get("allocatedResources")).get("storage")
        raise_to(raised, {} if allocated is None else {"storage": allocated.round_up(0)})
        used["requests.storage"] = raised["storage"]
    storage_class = annotations_of(claim).get(names.ANNOTATION_STORAGE_CLASS_BETA, (claim.get("spec") or {}).get("storageClassName"))
    if storage_class:
        used |= {f"{storage_class}{STORAGE_CLASS_INFIX}{name}": value for name, value in used.items()}
    used["count/persistentvolumeclaims"] = ONE
    return used


def device_usage(claim: Object, now: datetime) -> Amounts:
    """ResourceClaims by number and by devices of each class; of alternatives the one that takes most."""
    used: Amounts = {COUNT_RESOURCE_CLAIMS: ONE}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        if request.get("firstAvailable"):
            most: Amounts = {}
            for alternative in request["firstAvailable"]:
                raise_to(most, _devices(alternative))
            add(used, most)
        else:
            add(used, _devices(request.get("exactly") or request))
    return used


def _devices(request: Object) -> Amounts:
    count = ALL_DEVICES if request.get("allocationMode") == "All" else request.get("count") or 1
    return {f"{request.get('deviceClassName', '')}{BY_DEVICE_CLASS}": Quantity.from_value(count)}
