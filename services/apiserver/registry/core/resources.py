"""Validation of resource names, quantities, requests and limits. Imitates pkg/apis/core/validation and core/helper."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.quantity import MILLI, Quantity
from kubecosm.api.resources import Object

from ..formats import NEGATIVE, NOT_POSITIVE, Complaints, Errors, check_dns1123_label, is_qualified_name

HUGE_PAGES = "hugepages-"
REQUESTS_PREFIX = "requests."
REQUESTS_HUGE_PAGES = "requests.hugepages-"
ATTACHABLE_VOLUMES = "attachable-volumes-"

CONTAINER_RESOURCES = frozenset(("cpu", "memory", "ephemeral-storage"))
POD_LEVEL_RESOURCES = ("cpu", "memory")
QUOTA_RESOURCES = frozenset((
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods", "resourcequotas", "services", "replicationcontrollers",
    "secrets", "persistentvolumeclaims", "configmaps", "services.nodeports", "services.loadbalancers",
))  # fmt: skip
STANDARD_RESOURCES = QUOTA_RESOURCES | {"storage"}
INTEGER_RESOURCES = frozenset((
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
))  # fmt: skip
LIMIT_TYPES = frozenset(("Pod", "Container", "PersistentVolumeClaim"))

NOT_INTEGER = "must be an integer"


def is_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_quota_huge_page(name: str) -> bool:
    return name.startswith((HUGE_PAGES, REQUESTS_HUGE_PAGES))


def is_native(name: str) -> bool:
    """Unprefixed, or under kubernetes.io/."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith(REQUESTS_PREFIX):
        return False
    return not is_qualified_name(REQUESTS_PREFIX + name)


def allows_overcommit(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


def is_integer(name: str) -> bool:
    return name in INTEGER_RESOURCES or is_extended(name)


@lru_cache(1024)
def resource_name_complaints(name: str) -> Complaints:
    """Any resource: standard, or fully qualified."""
    complaints = is_qualified_name(name)
    if complaints:
        return complaints
    if "/" not in name and name not in STANDARD_RESOURCES and not is_quota_huge_page(name):
        return ("must be a standard resource type or fully qualified",)
    return ()


@lru_cache(1024)
def container_resource_complaints(name: str) -> Complaints:
    """A resource that a container may ask for."""
    complaints = resource_name_complaints(name)
    if "/" not in name:
        if name not in CONTAINER_RESOURCES and not is_huge_page(name):
            return (*complaints, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        return (*complaints, "doesn't follow extended resource name standard")
    return complaints


@lru_cache(1024)
def quota_resource_complaints(name: str) -> Complaints:
    """A resource that a quota may count."""
    complaints = resource_name_complaints(name)
    if "/" not in name and name not in QUOTA_RESOURCES and not is_quota_huge_page(name):
        return (*complaints, "must be a standard resource for quota")
    return complaints


@lru_cache(8192)
def _amount(text: str) -> Quantity:
    return Quantity.of(text)


def amount(value: str) -> Quantity:
    """A quantity of a decoded object, parsed once per text."""
    return _amount(value)


def check_quantity(name: str, value: str, path: str, errors: Errors) -> None:
    """Not negative, and whole for what is counted (ValidateResourceQuantityValue)."""
    quantity = _amount(value)
    if quantity.nanos < 0:
        errors.append(invalid_value(path, value, NEGATIVE))
    if is_integer(name) and quantity.scaled_value(MILLI) % 1000:
        errors.append(invalid_value(path, value, NOT_INTEGER))


def check_positive_quantity(value: str, path: str, errors: Errors) -> bool:
    if _amount(value).nanos <= 0:
        errors.append(invalid_value(path, value, NOT_POSITIVE))
        return False
    return True


def check_basic_quantity(value: str, path: str, errors: Errors) -> None:
    whole = _amount(value).value()
    if whole < 0:
        errors.append(invalid_value(path, whole, "must be a valid resource quantity"))


def check_requirements(
    resources: Object, claim_names: Collection[str], path: str, errors: Errors,
    name_complaints: Callable[[str], Complaints] = container_resource_complaints,
) -> None:  # fmt: skip
    """Limits, requests and claims of a container (validateResourceRequirements)."""
    limits: Mapping[str, str] = resources.get("limits") or {}
    requests: Mapping[str, str] = resources.get("requests") or {}
    for name, value in limits.items():
        _check_amount(name, value, f"{path}.limits[{name}]", errors, name_complaints)
    for name, value in requests.items():
        _check_amount(name, value, f"{path}.requests[{name}]", errors, name_complaints, in_requests=True)
        _check_against_limit(name, value, limits.get(name), path, errors)
    names = limits.keys() | requests.keys()
    if any(is_huge_page(name) for name in names) and "cpu" not in names and "memory" not in names:
        errors.append(forbidden_field(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        check_claims(resources["claims"], claim_names, f"{path}.claims", errors)


def _check_amount(
    name: str, value: str, path: str, errors: Errors, name_complaints: Callable[[str], Complaints], *, in_requests: bool = False
) -> None:
    for complaint in name_complaints(name):
        errors.append(invalid_value(path, name, complaint))
    if name in ("cpu", "memory") and _amount(value).nanos >= 0:
        return
    check_quantity(name, value, path, errors)
    if is_huge_page(name):
        page = name.removeprefix(HUGE_PAGES)
        if not _divides(page, value):
            errors.append(invalid_value(path, value, f"{value} is not positive integer multiple of {name}"))


def _divides(page: str, value: str) -> bool:
    try:
        size = Quantity.of(page).nanos
    except ValueError:
        return False
    return size > 0 and _amount(value).nanos >= 0 and _amount(value).nanos % size == 0


def _check_against_limit(name: str, value: str, limit: str | None, path: str, errors: Errors) -> None:
    if limit is None:
        if not allows_overcommit(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        return
    if value == limit:
        return
    asked, allowed = _amount(value), _amount(limit)
    if asked != allowed and not allows_overcommit(name):
        errors.append(invalid_value(f"{path}.requests", value, f"must be equal to {name} limit of {limit}"))
    elif asked > allowed:
        errors.append(invalid_value(f"{path}.requests", value, f"must be less than or equal to {name} limit of {limit}"))


def check_claims(claims: list[Object], pod_claims: Collection[str], path: str, errors: Errors) -> None:
    """Claims of a container must be claims of its pod, each named once."""
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        where, name, request = f"{path}[{i}]", claim.get("name", ""), claim.get("request", "")
        if not name:
            errors.append(required(where))
            continue
        key = f"{name}/{request}" if request else name
        if name in seen or key in seen or (not request and any(k.startswith(f"{name}/") for k in seen)):
            errors.append(duplicate(where, key if name not in seen else name))
        elif request:
            check_dns1123_label(request, f"{where}.request", errors)
        seen.add(key)
        if name not in pod_claims:
            known = f": {', '.join(sorted(pod_claims))}" if pod_claims else " which is empty"
            errors.append(FieldError("FieldValueNotFound", where, f"must be one of the names in pod.spec.resourceClaims{known}", name))


def check_pod_level(spec: Object, claim_names: Collection[str], path: str, errors: Errors) -> None:
    """spec.resources of a pod (validatePodResources)."""
    resources = spec["resources"]
    if resources.get("claims") is not None:
        errors.append(forbidden_field(f"{path}.claims", "claims cannot be set for Resources at pod-level"))
    for field in ("limits", "requests"):
        for name in resources.get(field) or {}:
            if not resource_name_complaints(name) and name not in POD_LEVEL_RESOURCES and not is_huge_page(name):
                errors.append(not_supported(f"{path}.{field}[{name}]", name, POD_LEVEL_RESOURCES))
    check_requirements(resources, claim_names, path, errors, resource_name_complaints)
    totals = total_requests(spec)
    asked = resources.get("requests") or {}
    for name, total in totals.items():
        pod_request = asked.get(name, "0")
        if total > _amount(pod_request):
            detail = f"must be greater than or equal to aggregate container requests of {total}"
            errors.append(invalid_value(f"{path}.requests[{name}]", pod_request, detail))
    limits = resources.get("limits") or {}
    for i, container in enumerate(spec.get("containers") or ()):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and _amount(limit) > _amount(limits[name]):
                where = f"{path}.containers[{i}][{name}].limits"
                errors.append(invalid_value(where, limit, f"must be less than or equal to pod limits of {limits[name]}"))


def total_requests(spec: Object) -> dict[str, Quantity]:
    """What all containers ask for together; init containers count by their maximum, sidecars add up (AggregateContainerRequests)."""
    totals: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        _add(totals, _requests_of(container))
    sidecars: dict[str, Quantity] = {}
    peaks: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or ():
        own = _requests_of(container)
        if container.get("restartPolicy") == "Always":
            _add(totals, own)
            _add(sidecars, own)
            own = dict(sidecars)
        else:
            own = {name: value + sidecars[name] if name in sidecars else value for name, value in own.items()}
        for name, value in own.items():
            if name not in peaks or value > peaks[name]:
                peaks[name] = value
    for name, value in peaks.items():
        if name not in totals or value > totals[name]:
            totals[name] = value
    return totals


def _requests_of(container: Object) -> dict[str, Quantity]:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: _amount(value) for name, value in requests.items()}


def _add(totals: dict[str, Quantity], more: Mapping[str, Quantity]) -> None:
    for name, value in more.items():
        totals[name] = totals[name] + value if name in totals else value
