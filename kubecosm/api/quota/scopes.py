"""The scopes of a quota: which pods and claims it is about."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from kubecosm.api.podresources import amounts
from kubecosm.api.resources import Object

TERMINATING, NOT_TERMINATING = "Terminating", "NotTerminating"
BEST_EFFORT, NOT_BEST_EFFORT = "BestEffort", "NotBestEffort"
PRIORITY_CLASS = "PriorityClass"
CROSS_NAMESPACE_POD_AFFINITY = "CrossNamespacePodAffinity"
VOLUME_ATTRIBUTES_CLASS = "VolumeAttributesClass"


class Scope(NamedTuple):
    """A requirement of spec.scopeSelector, or an entry of spec.scopes (`Exists`)."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


def scopes_of(quota: Object) -> list[Scope]:
    """All that an object must match to be counted."""
    spec = quota.get("spec") or {}
    return [Scope(name) for name in spec.get("scopes") or ()] + parse_scopes((spec.get("scopeSelector") or {}).get("matchExpressions"))


def parse_scopes(expressions: Iterable[Object] | None) -> list[Scope]:
    """Of ScopedResourceSelectorRequirements."""
    return [Scope(e.get("scopeName", ""), e.get("operator", ""), tuple(e.get("values") or ())) for e in expressions or ()]


def no_object_matches(scope: Scope, obj: Object) -> bool:
    """For kinds that no scope is about: a quota with scopes does not count them."""
    return False


def pod_matches(scope: Scope, pod: Object) -> bool:
    """Whether a scope is about a pod (podMatchesScopeFunc)."""
    spec = pod["spec"]
    if scope.name in (TERMINATING, NOT_TERMINATING):
        deadline = spec.get("activeDeadlineSeconds")
        return (deadline is not None and deadline >= 0) is (scope.name == TERMINATING)
    if scope.name in (BEST_EFFORT, NOT_BEST_EFFORT):
        return is_best_effort(spec) is (scope.name == BEST_EFFORT)
    if scope.name == PRIORITY_CLASS:
        name = spec.get("priorityClassName")
        return _matches_any(scope, (name,) if name else ())
    if scope.name == CROSS_NAMESPACE_POD_AFFINITY:
        return _crosses_namespaces(spec.get("affinity") or {})
    return False


def claim_matches(scope: Scope, claim: Object) -> bool:
    """Whether a scope is about a PersistentVolumeClaim (pvcMatchesScopeFunc)."""
    return scope.name == VOLUME_ATTRIBUTES_CLASS and _matches_any(scope, attribute_classes(claim))


def attribute_classes(claim: Object) -> set[str]:
    """The VolumeAttributesClasses that a claim has, is to have, or is on its way to."""
    status = claim.get("status") or {}
    named = (
        (claim.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {name for name in named if name}


def _matches_any(scope: Scope, names: Collection[str]) -> bool:
    """As a label selector would match one label that has any of these values, or is not there."""
    if scope.operator == "Exists":
        return bool(names)
    if scope.operator == "DoesNotExist":
        return not names
    if scope.operator == "In":
        return any(name in scope.values for name in names)
    return not names or any(name not in scope.values for name in names)


def is_best_effort(spec: Object) -> bool:
    """No container, nor the pod as a whole, asks for cpu or memory or is limited in them."""
    resources = [c.get("resources") or {} for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))]
    if (pod_level := spec.get("resources")) and (pod_level.get("requests") or pod_level.get("limits")):
        resources = [pod_level]
    given = (amounts(own.get(field)) for own in resources for field in ("requests", "limits"))
    return not any(own.get(name) for own in given for name in ("cpu", "memory"))


def _crosses_namespaces(affinity: Object) -> bool:
    for field in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(field) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [t.get("podAffinityTerm") or {} for t in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
