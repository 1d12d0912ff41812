"""Disruption controller: how many pods of a PodDisruptionBudget may be evicted now.

Watches PodDisruptionBudgets and Pods; reads the workloads that say how many pods there should be. Writes the budget's status, which the
eviction API spends. Imitates pkg/controller/disruption. Leaves out scale subresources of custom resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from kubecosm.api.intstr import scaled_value
from kubecosm.api.meta import Key, controller_of, is_deleting, key_of, labels_of
from kubecosm.api.resources import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Object,
    Resource,
)
from kubecosm.api.selectors import from_label_selector
from kubecosm.api.times import format_time, parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from ..common.conditions import find, without
from ..common.pods import is_ready, is_terminal
from ..common.status import update_status

DELETION_TIMEOUT_SECONDS = 120.0
"""An eviction that was granted is forgotten if its pod has not begun to terminate after this."""
SCALED = {resource.kind: resource for resource in (REPLICASETS, STATEFULSETS, REPLICATIONCONTROLLERS)}
SyncFailure = ValueError


def matcher(budget: Object) -> Callable[[Object], bool]:
    """Whether a pod is under the budget; an empty selector takes every pod of the namespace."""
    matches = from_label_selector(budget["spec"].get("selector")).matches
    return lambda pod: matches(labels_of(pod))


def _scale_of(reader: Reader, pod: Object) -> tuple[str, int] | None:
    """The uid and size of what controls the pod: of the Deployment, when a ReplicaSet stands between."""
    ref = controller_of(pod)
    if ref is None or ref["kind"] not in SCALED:
        return None
    owner = reader.cache(SCALED[ref["kind"]]).get(Key(pod["metadata"]["namespace"], ref["name"]))
    if owner is None or owner["metadata"]["uid"] != ref["uid"]:
        return None
    above = controller_of(owner)
    if above is not None and above["kind"] == DEPLOYMENTS.kind:
        deployment = reader.cache(DEPLOYMENTS).get(Key(pod["metadata"]["namespace"], above["name"]))
        if deployment is not None and deployment["metadata"]["uid"] == above["uid"]:
            owner = deployment
    return owner["metadata"]["uid"], owner["spec"].get("replicas", 1)


def plan_expected(budget: Object, pods: Sequence[Object], scales: Mapping[str, tuple[str, int] | None]) -> tuple[int, int]:
    """(pods there should be, pods that must stay healthy); ValueError when a pod has no controller whose size is known.

    `scales` tells, by pod name, the uid and size of the pod's controller.
    """
    spec = budget["spec"]
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    if maximum is None and not isinstance(minimum, str):
        return len(pods), int(minimum or 0)
    sizes: dict[str, int] = {}
    for pod in pods:
        found = scales.get(pod["metadata"]["name"])
        if found is None:
            name = pod["metadata"]["name"]
            raise SyncFailure(
                f'found no controllers for pod "{name}"' if controller_of(pod) is None else f'found no scale for pod "{name}"'
            )
        sizes[found[0]] = found[1]
    expected = sum(sizes.values())
    if maximum is not None:
        return expected, max(expected - scaled_value(maximum, expected, round_up=True), 0)
    assert minimum is not None, "one of the two is set, or the minimum is 0"
    return expected, scaled_value(minimum, expected, round_up=True)


def plan_granted(budget: Object, pods: Sequence[Object], now: datetime) -> tuple[dict[str, str], float | None]:
    """Evictions granted whose pods still stand, and the seconds until the next of them is forgotten."""
    known = {pod["metadata"]["name"]: pod for pod in pods}
    granted: dict[str, str] = {}
    next_expiry: float | None = None
    for name, stamp in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        pod = known.get(name)
        left = (parse_time(stamp) + timedelta(seconds=DELETION_TIMEOUT_SECONDS) - now).total_seconds()
        if pod is None or is_deleting(pod) or left <= 0:
            continue
        granted[name] = stamp
        next_expiry = left if next_expiry is None else min(next_expiry, left)
    return granted, next_expiry


def plan_status(
    budget: Object, pods: Sequence[Object], scales: Mapping[str, tuple[str, int] | None], now: datetime
) -> tuple[Object, float | None]:
    """The budget's status, and the seconds after which it changes by itself. ValueError as plan_expected."""
    standing = [pod for pod in pods if not is_terminal(pod)]
    expected, desired = plan_expected(budget, standing, scales)
    granted, next_expiry = plan_granted(budget, pods, now)
    healthy = sum(is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in granted for pod in standing)
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    verdict = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    status: Object = {"observedGeneration": budget["metadata"].get("generation", 0)}
    if granted:
        status["disruptedPods"] = granted
    status |= {"disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected}
    status["conditions"] = _conditions(budget, *verdict, "", now)
    return status, next_expiry


def plan_failed_status(budget: Object, message: str, now: datetime) -> Object:
    """The status when the number of pods is not known: no disruption is allowed."""
    old = dict.fromkeys(("currentHealthy", "desiredHealthy", "expectedPods"), 0) | (budget.get("status") or {})
    generation = budget["metadata"].get("generation", 0)
    return {
        **old,
        "observedGeneration": generation,
        "disruptionsAllowed": 0,
        "conditions": _conditions(budget, "False", "SyncFailed", message, now),
    }


def _conditions(budget: Object, status: str, reason: str, message: str, now: datetime) -> list[Object]:
    conditions = (budget.get("status") or {}).get("conditions") or []
    new = {
        "type": "DisruptionAllowed", "status": status, "observedGeneration": budget["metadata"].get("generation", 0),
        "lastTransitionTime": format_time(now), "reason": reason, "message": message,
    }  # fmt: skip
    old = find(conditions, "DisruptionAllowed")
    if old is not None and old["status"] == status:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    return [*without(conditions, "DisruptionAllowed"), new]


async def reconcile(ctx: Context, key: Key) -> Result:
    budget = ctx.cache(PODDISRUPTIONBUDGETS).get(key)
    if budget is None:
        return done()
    now, matches = ctx.clock.now(), matcher(budget)
    pods = [pod for pod in ctx.cache(PODS).list(key.namespace) if matches(pod)]
    if not pods:
        ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Normal", "NoPods", "No matching pods found")
    scales = {pod["metadata"]["name"]: _scale_of(ctx, pod) for pod in pods}
    try:
        status, expiry = plan_status(budget, pods, scales, now)
    except SyncFailure as failure:
        message = f"Failed to calculate the number of expected pods: {failure}"
        ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Warning", "CalculateExpectedPodCountFailed", message)
        status, expiry = plan_failed_status(budget, str(failure), now), None
    await update_status(ctx, PODDISRUPTIONBUDGETS, budget, status)
    return done() if expiry is None else requeue(after_seconds=expiry)


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """The budgets that cover the pod."""
    budgets = reader.cache(PODDISRUPTIONBUDGETS).list(pod["metadata"]["namespace"])
    return [key_of(budget) for budget in budgets if matcher(budget)(pod)]


def map_scaled(reader: Reader, obj: Object) -> Iterable[Key]:
    """A workload that was scaled: the budgets over pods with its template's labels."""
    labels = ((obj["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    return map_pod(reader, {"metadata": {"namespace": obj["metadata"]["namespace"], "labels": labels}})


def pod_matters(old: Object, new: Object) -> bool:
    if is_ready(old) != is_ready(new) or is_deleting(old) != is_deleting(new) or is_terminal(old) != is_terminal(new):
        return True
    return labels_of(old) != labels_of(new) or controller_of(old) != controller_of(new)


def scale_matters(old: Object, new: Object) -> bool:
    return bool(old["spec"].get("replicas") != new["spec"].get("replicas"))


_WORKLOADS: tuple[Resource, ...] = (DEPLOYMENTS, REPLICASETS, STATEFULSETS, REPLICATIONCONTROLLERS)
SPEC = ControllerSpec(
    name="disruption",
    component="controllermanager",
    primary=PODDISRUPTIONBUDGETS,
    watches={PODS: map_pod, **dict.fromkeys(_WORKLOADS, map_scaled)},
    cares={PODS: pod_matters, **dict.fromkeys(_WORKLOADS, scale_matters)},
    workers=5,
)
