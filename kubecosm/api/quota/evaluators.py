"""One row per kind of object that quotas know more of than its number; all others are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.podresources import Amounts
from kubecosm.api.quota.scopes import Scope, claim_matches, no_object_matches, pod_matches, scopes_of
from kubecosm.api.quota.usage import (
    ONE,
    SERVICE_RESOURCES,
    claim_usage,
    device_usage,
    is_claim_resource,
    is_device_resource,
    is_pod_resource,
    pod_complaint,
    pod_usage,
    service_usage,
)
from kubecosm.api.resources import (
    CONFIGMAPS,
    EVENTS,
    EVENTS_V1,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
)

COUNTED_BY_PLAIN_NAME = frozenset(r.plural for r in (CONFIGMAPS, SECRETS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS))
"""Core kinds that a quota may name without `count/`."""
IGNORED = frozenset((EVENTS.group_resource, EVENTS_V1.group_resource))
"""Never counted (DefaultIgnoredResources)."""


@dataclass(frozen=True)
class Evaluator:
    """What quotas know of one kind."""

    usage: Callable[[Object, datetime], Amounts]
    """What an object uses; pods and time decide whether it still counts."""
    is_about: Callable[[str], bool]
    """Whether a quota resource is about this kind."""
    matches_scope: Callable[[Scope, Object], bool] = no_object_matches
    complaint: Callable[[Object, Iterable[str]], str] = lambda obj, resources: ""
    """What the object must say, given the resources that a quota limits; empty if it does."""
    charged_writes: frozenset[tuple[str, str]] = frozenset((("CREATE", ""),))
    """(operation, subresource) that can change what is used."""

    def resources(self, hard: Iterable[str]) -> list[str]:
        """Those of the quota's resources that are about this kind."""
        return [name for name in hard if self.is_about(name)]

    def matches(self, quota: Object, obj: Object) -> bool:
        """Whether a quota counts an object: it limits something of its kind, and all its scopes are about it (generic.Matches)."""
        if not any(self.is_about(name) for name in (quota.get("status") or {}).get("hard") or ()):
            return False
        return self.in_scope(quota, obj)

    def in_scope(self, quota: Object, obj: Object) -> bool:
        """Whether all of the quota's scopes are about the object."""
        return all(self.matches_scope(scope, obj) for scope in scopes_of(quota))


_CREATE_UPDATE = frozenset((("CREATE", ""), ("UPDATE", "")))
EVALUATORS: dict[str, Evaluator] = {
    PODS.group_resource: Evaluator(
        pod_usage, is_pod_resource, pod_matches, pod_complaint, frozenset((("CREATE", ""), ("UPDATE", "resize")))
    ),
    SERVICES.group_resource: Evaluator(service_usage, SERVICE_RESOURCES.__contains__, charged_writes=_CREATE_UPDATE),
    PERSISTENTVOLUMECLAIMS.group_resource: Evaluator(
        claim_usage, is_claim_resource, claim_matches, charged_writes=_CREATE_UPDATE | {("UPDATE", "status")}
    ),
    "resourceclaims.resource.k8s.io": Evaluator(device_usage, is_device_resource, charged_writes=_CREATE_UPDATE),
}
"""By group resource. A claim's status write is charged without being refused."""
_COUNTING: dict[str, Evaluator] = {}


def evaluator_for(resource: Resource) -> Evaluator | None:
    """The evaluator of a namespaced resource, custom ones included; None for what is never counted."""
    name = resource.group_resource
    if name in IGNORED or not resource.namespaced:
        return None
    return EVALUATORS.get(name) or _counting(name)


def _counting(name: str) -> Evaluator:
    """Counts objects, whatever they are (generic.NewObjectCountEvaluator)."""
    found = _COUNTING.get(name)
    if found is None:
        one: Amounts = {f"count/{name}": ONE} | ({name: ONE} if name in COUNTED_BY_PLAIN_NAME else {})
        found = _COUNTING[name] = Evaluator(lambda obj, now: one, one.__contains__)
    return found


def is_tracked(name: str, resources: Iterable[Resource]) -> bool:
    """Whether a quota resource is about any of these kinds."""
    return any((found := evaluator_for(resource)) is not None and found.is_about(name) for resource in resources)
