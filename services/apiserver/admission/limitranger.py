"""LimitRanger: containers get the default requests and limits of their namespace, and must keep within its bounds.

Imitates plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kubecosm.api import errors
from kubecosm.api.names import ANNOTATION_LIMIT_RANGER
from kubecosm.api.podresources import spec_total
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PODS, Object, Resource

from ..cache.resource import ResourceCache
from ..registry.core.resources import amount
from .chain import CREATE, UPDATE, Attributes, Plugin

Amounts = Mapping[str, str]
ZERO = Quantity(0)


class LimitRanger(Plugin):
    name = "LimitRanger"
    operations = (CREATE, UPDATE)

    def __init__(self, limit_ranges: ResourceCache) -> None:
        self._limit_ranges = limit_ranges

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource in (PODS, PERSISTENTVOLUMECLAIMS) and (not subresource or (resource, subresource) == (PODS, "resize"))

    def _of(self, namespace: str) -> list[Object]:
        if not len(self._limit_ranges):
            return []
        return [entry.decode() for entry in self._limit_ranges.entries() if entry.namespace == namespace]

    def admit(self, attributes: Attributes) -> None:
        if attributes.operation != CREATE or attributes.resource != PODS or attributes.obj is None:
            return
        for limit_range in self._of(attributes.namespace):
            _set_defaults(attributes.obj, limit_range)

    def validate(self, attributes: Attributes) -> None:
        obj, operation = attributes.obj, attributes.operation
        assert obj is not None
        if operation == UPDATE and attributes.resource == PODS and attributes.subresource != "resize":
            return
        if operation == UPDATE and obj["metadata"].get("deletionTimestamp"):
            return
        for limit_range in self._of(attributes.namespace):
            complaints = _check_pod(obj, limit_range) if attributes.resource == PODS else _check_claim(obj, limit_range)
            if complaints:
                why = complaints[0] if len(complaints) == 1 else f"[{', '.join(complaints)}]"
                raise errors.forbidden(attributes.resource, obj["metadata"].get("name", ""), why)


def _items(limit_range: Object, kind: str) -> Iterable[Object]:
    return (item for item in (limit_range.get("spec") or {}).get("limits") or () if item.get("type") == kind)


def _set_defaults(pod: Object, limit_range: Object) -> None:
    """mergePodResourceRequirements: also notes in an annotation what was set."""
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    for item in _items(limit_range, "Container"):
        limits.update(item.get("default") or {})
        requests.update(item.get("defaultRequest") or {})
    notes: list[str] = []
    for field, what in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            notes += _set_container_defaults(container, what, limits, requests)
    if notes:
        meta = pod["metadata"]
        meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION_LIMIT_RANGER: f"LimitRanger plugin set: {'; '.join(notes)}"}


def _set_container_defaults(container: Object, what: str, limits: Amounts, requests: Amounts) -> list[str]:
    resources = container.setdefault("resources", {})
    notes = []
    for field, word, defaults in (("requests", "request", requests), ("limits", "limit", limits)):
        own = resources.get(field) or {}
        missing = {name: value for name, value in defaults.items() if name not in own}
        if missing:
            resources[field] = {**own, **missing}
            notes.append(f"{', '.join(sorted(missing))} {word} for {what} {container.get('name', '')}")
    return notes


def _check_pod(pod: Object, limit_range: Object) -> list[str]:
    complaints: list[str] = []
    spec = pod["spec"]
    for item in _items(limit_range, "Container"):
        for field in ("containers", "initContainers"):
            for container in spec.get(field) or ():
                resources = container.get("resources") or {}
                complaints += _check_bounds(item, "Container", resources.get("requests") or {}, resources.get("limits") or {})
    for item in _items(limit_range, "Pod"):
        requests, limits = ({name: str(value) for name, value in spec_total(spec, field).items()} for field in ("requests", "limits"))
        complaints += _check_bounds(item, "Pod", requests, limits)
    return complaints


def _check_bounds(item: Object, kind: str, requests: Amounts, limits: Amounts) -> list[str]:
    complaints = []
    checks: tuple[tuple[str, Callable[[str, str, Amounts, Amounts, str], str]], ...] = (
        ("min", _below_minimum), ("max", _above_maximum), ("maxLimitRequestRatio", _above_ratio),
    )  # fmt: skip
    for field, check in checks:
        for name, bound in (item.get(field) or {}).items():
            complaint = check(name, bound, requests, limits, kind)
            if complaint:
                complaints.append(complaint)
    return complaints


def _below_minimum(name: str, least: str, requests: Amounts, limits: Amounts, kind: str) -> str:
    if name not in requests:
        return f"minimum {name} usage per {kind} is {least}.  No request is specified"
    if amount(requests[name]) < amount(least):
        return f"minimum {name} usage per {kind} is {least}, but request is {requests[name]}"
    if name in limits and amount(limits[name]) < amount(least):
        return f"minimum {name} usage per {kind} is {least}, but limit is {limits[name]}"
    return ""


def _above_maximum(name: str, most: str, requests: Amounts, limits: Amounts, kind: str) -> str:
    if name not in limits:
        return f"maximum {name} usage per {kind} is {most}.  No limit is specified"
    if amount(limits[name]) > amount(most):
        return f"maximum {name} usage per {kind} is {most}, but limit is {limits[name]}"
    if name in requests and amount(requests[name]) > amount(most):
        return f"maximum {name} usage per {kind} is {most}, but request is {requests[name]}"
    return ""


def _above_ratio(name: str, most: str, requests: Amounts, limits: Amounts, kind: str) -> str:
    if name not in requests or not amount(requests[name]).nanos:
        return f"{name} max limit to request ratio per {kind} is {most}, but no request is specified or request is 0"
    if name not in limits or not amount(limits[name]).nanos:
        return f"{name} max limit to request ratio per {kind} is {most}, but no limit is specified or limit is 0"
    ratio = amount(limits[name]).nanos / amount(requests[name]).nanos
    if ratio > amount(most).nanos / 10**9:
        return f"{name} max limit to request ratio per {kind} is {most}, but provided ratio is {ratio:f}"
    return ""


def _check_claim(claim: Object, limit_range: Object) -> list[str]:
    complaints = []
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    for item in _items(limit_range, "PersistentVolumeClaim"):
        for name, least in (item.get("min") or {}).items():
            if name in requests and amount(requests[name]) < amount(least):
                complaints.append(f"minimum {name} usage per PersistentVolumeClaim is {least}, but request is {requests[name]}")
        for name, most in (item.get("max") or {}).items():
            if name in requests and amount(requests[name]) > amount(most):
                complaints.append(f"maximum {name} usage per PersistentVolumeClaim is {most}, but request is {requests[name]}")
    return complaints
