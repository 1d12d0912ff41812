"""Disruption controller: how many pods of a PodDisruptionBudget may be evicted now.

Watches PodDisruptionBudgets and Pods; reads the workloads that say how many pods there should be. Writes the budget's status, which the
eviction API spends. Imitates pkg/controller/disruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, controller_of, is_condition_true, is_deleting, key_of, labels_of
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
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType

from ...common.goprint import go_selector
from ...common.pods import is_ready, is_terminal
from ...common.status import update_status
from ...common.targets import TargetError, Targets
from .plan import (
    DISRUPTION_TARGET,
    SyncFailure,
    by_size,
    plan_failed_status,
    plan_granted,
    plan_status,
    seconds_until_stale,
)

POD = "pod:"
"""Work items that are pods; no budget has a name with a colon."""
SCALED = {(resource.group, resource.kind): resource for resource in (REPLICASETS, STATEFULSETS, REPLICATIONCONTROLLERS)}
TOLD_PODS_MAX = 10_000
"""Pods under several budgets that were told of; those beyond are told again."""
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be "
    'calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the '
    "PDB to an integer value."
)


def matcher(budget: Object) -> Callable[[Object], bool]:
    """Whether a pod is under the budget; an empty selector takes every pod of the namespace."""
    matches = from_label_selector(budget["spec"].get("selector")).matches
    return lambda pod: matches(labels_of(pod))


def _group_kind(ref: Object) -> tuple[str, str]:
    return ref["apiVersion"].rpartition("/")[0], ref["kind"]


def _is_scaled(ref: Object) -> bool:
    """Whether a reference is to a workload of Kubernetes' own; others have kinds of the same names."""
    return _group_kind(ref) in SCALED


def _scale_of(reader: Reader, pod: Object) -> tuple[str, int] | None:
    """The uid and size of what controls the pod: of the Deployment, when a ReplicaSet stands between."""
    ref = controller_of(pod)
    if ref is None or not _is_scaled(ref):
        return None
    owner = reader.cache(SCALED[_group_kind(ref)]).get(Key(pod["metadata"]["namespace"], ref["name"]))
    if owner is None or owner["metadata"]["uid"] != ref["uid"]:
        return None
    above = controller_of(owner)
    if above is not None and above["kind"] == DEPLOYMENTS.kind:
        deployment = reader.cache(DEPLOYMENTS).get(Key(pod["metadata"]["namespace"], above["name"]))
        if deployment is not None and deployment["metadata"]["uid"] == above["uid"]:
            owner = deployment
    return owner["metadata"]["uid"], owner["spec"].get("replicas", 1)


async def _settle_disruption(ctx: Context, pod: Object) -> Result:
    """A disruption that did not come about in time is called off, so that nobody takes the pod's later end for one."""
    left = seconds_until_stale(pod, ctx.clock.now())
    if left is None:
        return done()
    if left > 0:
        return requeue(after_seconds=left)
    meta = pod["metadata"]
    condition: Object = {"type": DISRUPTION_TARGET, "status": "False", "lastTransitionTime": format_time(ctx.clock.now())}
    condition |= {"reason": None, "message": None, "observedGeneration": meta.get("generation")}
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
        self._told: set[str] = set()

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
        self._tell_of_others(ctx, budget, pods)
        granted = plan_granted(budget, pods, now)
        try:
            status = plan_status(budget, pods, await self._scales(ctx, budget, pods), granted.standing, now)
        except (SyncFailure, TargetError) as failure:
            message = f"Failed to calculate the number of expected pods: {failure}"
            ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Warning", "CalculateExpectedPodCountFailed", message)
            await update_status(ctx, PODDISRUPTIONBUDGETS, budget, plan_failed_status(budget, str(failure), now))
            return done()
        if by_size(budget) and any(controller_of(pod) is None for pod in pods):
            message = UNMANAGED.format(go_selector(budget["spec"].get("selector")))
            ctx.recorder.event(budget, PODDISRUPTIONBUDGETS, "Warning", "UnmanagedPods", message)
        for pod in granted.overdue:
            ctx.recorder.event(pod, PODS, "Warning", "NotDeleted", f"Pod was expected by PDB {key} to be deleted but it wasn't")
        await update_status(ctx, PODDISRUPTIONBUDGETS, budget, status | ({"disruptedPods": granted.standing} if granted.standing else {}))
        return done() if granted.next_expiry is None else requeue(after_seconds=granted.next_expiry)

    def _tell_of_others(self, ctx: Context, budget: Object, pods: Sequence[Object]) -> None:
        """Pods under several budgets cannot be evicted: each is told of once."""
        name, namespace = budget["metadata"]["name"], budget["metadata"]["namespace"]
        others = [matcher(one) for one in ctx.cache(PODDISRUPTIONBUDGETS).list(namespace) if one["metadata"]["name"] != name]
        for pod in pods if others else ():
            if pod["metadata"]["uid"] in self._told or not any(matches(pod) for matches in others):
                continue
            if len(self._told) >= TOLD_PODS_MAX:
                self._told.clear()
            self._told.add(pod["metadata"]["uid"])
            which = f'Pod "{namespace}"/"{pod["metadata"]["name"]}" matches multiple PodDisruptionBudgets.  Chose "{name}" arbitrarily.'
            ctx.recorder.event(pod, PODS, "Warning", "MultiplePodDisruptionBudgets", which)

    async def _scales(self, ctx: Context, budget: Object, pods: Sequence[Object]) -> Mapping[str, tuple[str, int] | None]:
        """By pod name, the uid and size of what controls the pod. TargetError where that has no scale."""
        scales = {pod["metadata"]["name"]: _scale_of(ctx, pod) for pod in pods}
        if not by_size(budget):
            return scales  # a number of pods: sizes do not matter
        asked: dict[str, tuple[str, int] | None] = {}
        for pod in pods:
            ref = controller_of(pod)
            if ref is not None and not _is_scaled(ref):
                if ref["uid"] not in asked:
                    asked[ref["uid"]] = await self._asked_scale(ctx, ref, pod["metadata"]["namespace"])
                scales[pod["metadata"]["name"]] = asked[ref["uid"]]
        return scales

    async def _asked_scale(self, ctx: Context, ref: Object, namespace: str) -> tuple[str, int] | None:
        """Of a controller that is not cached here: a custom resource, say."""
        self._targets = self._targets or Targets(ctx.client)
        resource = await self._targets.find(ref["apiVersion"], ref["kind"], any_version=False)
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
