"""Disruption controller: how many pods of a PodDisruptionBudget may be evicted now.

Watches PodDisruptionBudgets and Pods; reads the workloads that say how many pods there should be. Writes the budget's status, which the
eviction API spends. Imitates pkg/controller/disruption. Leaves out scale subresources of custom resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from kubecosm.api.errors import NotFound
from kubecosm.api.intstr import scaled_value
from kubecosm.api.meta import Key, controller_of, get_condition, is_condition_true, is_deleting, key_of, labels_of
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
from kubecosm.client.http import PatchType

from ..common.conditions import find, without
from ..common.pods import is_ready, is_terminal
from ..common.status import update_status
from ..common.targets import TargetError, Targets

DELETION_TIMEOUT_SECONDS = 120.0
"""An eviction that was granted is forgotten if its pod has not begun to terminate after this."""
STALE_DISRUPTION_SECONDS = 120.0
"""After so long a pod that was to be disrupted, and is not being deleted, no longer is."""
DISRUPTION_TARGET = "DisruptionTarget"
POD = "pod:"
"""Work items that are pods; no budget has a name with a colon."""
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
    """(pods there should be, pods that must stay healthy); ValueError when a pod has a controller whose size is not known.

    `scales` tells, by pod name, the uid and size of the pod's controller. Pods without a controller are not counted by size.
    """
    spec = budget["spec"]
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    if maximum is None and not isinstance(minimum, str):
        return len(pods), int(minimum or 0)
    sizes: dict[str, int] = {}
    for pod in pods:
        if controller_of(pod) is None:
            continue
        found = scales.get(pod["metadata"]["name"])
        if found is None:
            raise SyncFailure(f'found no controllers for pod "{pod["metadata"]["name"]}"')
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


def seconds_until_stale(pod: Object, now: datetime) -> float | None:
    """How long the pod may still be about to be disrupted, as its condition says; None if it is not, or goes already."""
    condition = get_condition(pod, DISRUPTION_TARGET)
    if condition is None or condition["status"] != "True" or is_deleting(pod):
        return None
    since = parse_time(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else now
    return (since + timedelta(seconds=STALE_DISRUPTION_SECONDS) - now).total_seconds()


async def _settle_disruption(ctx: Context, pod: Object) -> Result:
    """A disruption that did not come about in time is called off, so that nobody takes the pod's later end for one."""
    left = seconds_until_stale(pod, ctx.clock.now())
    if left is None:
        return done()
    if left > 0:
        return requeue(after_seconds=left)
    meta = pod["metadata"]
    condition = {"type": DISRUPTION_TARGET, "status": "False", "lastTransitionTime": format_time(ctx.clock.now())}
    patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}, "status": {"conditions": [condition]}}
    try:
        written = await ctx.client.patch(
            PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status"
        )  # fmt: skip
    except NotFound:
        return done()
    ctx.expect_written(written)
    return done()


class Disruption:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._targets: Targets | None = None

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if key.name.startswith(POD):
            pod = ctx.cache(PODS).get(Key(key.namespace, key.name.removeprefix(POD)))
            return done() if pod is None else await _settle_disruption(ctx, pod)
        budget = ctx.cache(PODDISRUPTIONBUDGETS).get(key)
        if budget is None:
            return done()
        now, matches = ctx.clock.now(), matcher(budget)
        pods = [pod for pod in ctx.cache(PODS).list(key.namespace) if matches(pod)]
        if not pods:
            ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Normal", "NoPods", "No matching pods found")
        try:
            status, expiry = plan_status(budget, pods, await self._scales(ctx, budget, pods), now)
        except (SyncFailure, TargetError) as failure:
            message = f"Failed to calculate the number of expected pods: {failure}"
            ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Warning", "CalculateExpectedPodCountFailed", message)
            status, expiry = plan_failed_status(budget, str(failure), now), None
        await update_status(ctx, PODDISRUPTIONBUDGETS, budget, status)
        return done() if expiry is None else requeue(after_seconds=expiry)

    async def _scales(self, ctx: Context, budget: Object, pods: Sequence[Object]) -> Mapping[str, tuple[str, int] | None]:
        """By pod name, the uid and size of what controls the pod. TargetError where that has no scale."""
        scales = {pod["metadata"]["name"]: _scale_of(ctx, pod) for pod in pods}
        if budget["spec"].get("maxUnavailable") is None and not isinstance(budget["spec"].get("minAvailable"), str):
            return scales  # a number of pods: sizes do not matter
        asked: dict[str, tuple[str, int] | None] = {}
        for pod in pods:
            ref = controller_of(pod)
            if ref is not None and ref["kind"] not in SCALED and not is_terminal(pod):
                if ref["uid"] not in asked:
                    asked[ref["uid"]] = await self._asked_scale(ctx, ref, pod["metadata"]["namespace"])
                scales[pod["metadata"]["name"]] = asked[ref["uid"]]
        return scales

    async def _asked_scale(self, ctx: Context, ref: Object, namespace: str) -> tuple[str, int] | None:
        """Of a controller that is not cached here: a custom resource, say."""
        self._targets = self._targets or Targets(ctx.client)
        resource = await self._targets.find(ref["apiVersion"], ref["kind"])
        try:
            scale = await ctx.client.get(resource, ref["name"], namespace, subresource="scale")
        except NotFound as error:
            if (error.details or {}).get("name") == ref["name"]:
                return None
            raise TargetError(f"{resource.group_resource} does not implement the scale subresource") from error
        if scale["metadata"]["uid"] != ref["uid"]:
            return None
        return ref["uid"], int((scale.get("spec") or {}).get("replicas", 0))


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """The budgets that cover the pod."""
    budgets = reader.cache(PODDISRUPTIONBUDGETS).list(pod["metadata"]["namespace"])
    return [key_of(budget) for budget in budgets if matcher(budget)(pod)]


def map_disrupted(reader: Reader, pod: Object) -> Iterable[Key]:
    """The budgets that cover the pod, and the pod itself if it is about to be disrupted."""
    keys = list(map_pod(reader, pod))
    if is_condition_true(pod, DISRUPTION_TARGET) and not is_deleting(pod):
        keys.append(Key(pod["metadata"]["namespace"], f"{POD}{pod['metadata']['name']}"))
    return keys


def map_scaled(reader: Reader, obj: Object) -> Iterable[Key]:
    """A workload that was scaled: the budgets over pods with its template's labels."""
    labels = ((obj["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    return map_pod(reader, {"metadata": {"namespace": obj["metadata"]["namespace"], "labels": labels}})


def pod_matters(old: Object, new: Object) -> bool:
    if is_ready(old) != is_ready(new) or is_deleting(old) != is_deleting(new) or is_terminal(old) != is_terminal(new):
        return True
    if is_condition_true(old, DISRUPTION_TARGET) != is_condition_true(new, DISRUPTION_TARGET):
        return True
    return labels_of(old) != labels_of(new) or controller_of(old) != controller_of(new)


def scale_matters(old: Object, new: Object) -> bool:
    return bool(old["spec"].get("replicas") != new["spec"].get("replicas"))


_WORKLOADS: tuple[Resource, ...] = (DEPLOYMENTS, REPLICASETS, STATEFULSETS, REPLICATIONCONTROLLERS)
SPEC = ControllerSpec(
    name="disruption",
    component="controllermanager",
    primary=PODDISRUPTIONBUDGETS,
    watches={PODS: map_disrupted, **dict.fromkeys(_WORKLOADS, map_scaled)},
    cares={PODS: pod_matters, **dict.fromkeys(_WORKLOADS, scale_matters)},
    workers=5,
)


def build(_config: object) -> Disruption:
    return Disruption()
