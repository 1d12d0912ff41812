"""DaemonSet controller: one pod on every node that should have one, replaced node by node when the template changes.

Owns Pods and ControllerRevisions. Watches DaemonSets, Pods and Nodes. Writes Pods, ControllerRevisions and the DaemonSet's status.
Decisions: plan.py; nodes and pods: placement.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kubecosm.api.meta import Key, controller_of, is_deleting, key_of, labels_of, uid_of
from kubecosm.api.names import LABEL_CONTROLLER_REVISION_HASH
from kubecosm.api.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from ...common import revisions as history
from ...common.adoption import claim, plan_claim
from ...common.backoff import Backoffs
from ...common.batches import all_settled, errors_of, slow_start
from ...common.gotext import template_hash
from ...common.nodes import taints_of
from ...common.pods import is_terminal, node_of, seconds_until_available
from ...common.status import update_status
from ...common.templates import create_pod, delete_pod, is_namespace_terminating
from .placement import by_target, new_pod
from .plan import BURST_REPLICAS, DaemonPlan, is_rolling, plan_placement, plan_status, plan_update

FAILED_BACKOFF_SECONDS_FIRST = 1.0
FAILED_BACKOFF_SECONDS_MAX = 900.0
"""A pod that keeps failing on a node is replaced ever more slowly."""
REST_SECONDS_PER_NODE = 20e-6


def matcher(daemonset: Object) -> Callable[[Object], bool]:
    """Whether an object's labels match spec.selector."""
    matches = from_label_selector(daemonset["spec"]["selector"]).matches
    return lambda obj: matches(labels_of(obj))


class DaemonSets:
    """The controller; `SPEC` and `reconcile` are what the runner asks for. Remembers which nodes' pods failed when."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._backoffs = Backoffs(FAILED_BACKOFF_SECONDS_FIRST, FAILED_BACKOFF_SECONDS_MAX)

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        daemonset = ctx.cache(DAEMONSETS).get(key)
        if daemonset is None:
            return done()  # gone: the garbage collector removes the pods
        if not daemonset["spec"].get("selector"):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            ctx.recorder.event(daemonset, DAEMONSETS, "Warning", "SelectingAll", message)
            return done()
        if is_deleting(daemonset):
            return done()  # its history may be gone already: nothing sure can be told of its pods
        revision, revisions, collisions = await _read_history(ctx, daemonset)
        hash_text = labels_of(revision)[LABEL_CONTROLLER_REVISION_HASH]
        nodes, now = ctx.cache(NODES).list(), ctx.clock.now()
        candidates = ctx.owned(PODS, daemonset) + ctx.orphans(PODS, key.namespace)
        owned = await claim(ctx, DAEMONSETS, daemonset, PODS, plan_claim(daemonset, candidates, matcher(daemonset)))
        pods = by_target(pod for pod in owned if not (is_deleting(pod) and is_terminal(pod)))  # those wait for finalizers alone
        errors = await self._manage(ctx, daemonset, nodes, pods, hash_text)
        if not errors:
            limit = daemonset["spec"].get("revisionHistoryLimit")
            await history.delete_all(ctx, plan_history_cleanup(revisions, revision, owned, limit))
        await update_status(ctx, DAEMONSETS, daemonset, plan_status(daemonset, nodes, pods, hash_text, collisions, now))
        if errors:
            raise errors[0]
        return self._result(ctx, daemonset, nodes, owned)

    async def _manage(
        self, ctx: Context, daemonset: Object, nodes: Sequence[Object], pods: dict[str, list[Object]], hash_text: str
    ) -> list[Exception]:
        """Place pods; when all are in place, take a step of the update."""
        now = ctx.clock.now()

        def in_backoff(node: str) -> bool:
            return self._backoffs.seconds_left(_backoff_key(daemonset, node), now) > 0

        plan = plan_placement(daemonset, nodes, pods, hash_text, now, in_backoff)
        for pod in plan.failed:
            self._backoffs.next(_backoff_key(daemonset, node_of(pod)), now)
        _tell_ended(ctx, daemonset, plan)
        if not plan.create and not plan.delete and is_rolling(daemonset):
            plan = plan_update(daemonset, nodes, pods, hash_text, now)
        return await _apply(ctx, daemonset, plan, hash_text)

    def _result(self, ctx: Context, daemonset: Object, nodes: Sequence[Object], pods: Sequence[Object]) -> Result:
        now = ctx.clock.now()
        keys = [_backoff_key(daemonset, node["metadata"]["name"]) for node in nodes]
        waits = [left for key in keys if (left := self._backoffs.seconds_left(key, now)) > 0]
        available = seconds_until_available(pods, daemonset["spec"].get("minReadySeconds", 0), now)
        if available is not None:
            waits.append(available)
        return requeue(after_seconds=min(waits)) if waits else done(rest_seconds=REST_SECONDS_PER_NODE * len(nodes))


def _backoff_key(daemonset: Object, node_name: str) -> str:
    """A change of the DaemonSet begins anew with every node."""
    return f"{uid_of(daemonset)}/{(daemonset.get('status') or {}).get('observedGeneration', 0)}/{node_name}"


def plan_history_cleanup(revisions: Sequence[Object], current: Object, pods: Iterable[Object], limit: int | None) -> list[Object]:
    """The oldest revisions beyond the limit; those that some pod still has count, but are kept."""
    old = [r for r in history.by_revision(revisions) if r["metadata"]["name"] != current["metadata"]["name"] and not is_deleting(r)]
    hashes = {labels_of(pod).get(LABEL_CONTROLLER_REVISION_HASH) for pod in pods}
    idle = [r for r in old if labels_of(r).get(LABEL_CONTROLLER_REVISION_HASH) not in hashes]
    return [] if limit is None else idle[: max(len(old) - limit, 0)]


async def _labelled(ctx: Context, revision: Object) -> Object:
    """A revision that came without the hash label gets its name for it."""
    labels = labels_of(revision)
    if LABEL_CONTROLLER_REVISION_HASH in labels:
        return revision
    meta = {**revision["metadata"], "labels": {**labels, LABEL_CONTROLLER_REVISION_HASH: revision["metadata"]["name"]}}
    updated = await ctx.client.update(CONTROLLERREVISIONS, {**revision, "metadata": meta})
    ctx.expect_written(updated)
    return updated


async def _read_history(ctx: Context, daemonset: Object) -> tuple[Object, list[Object], int | None]:
    """The template's revision (made the newest), all revisions, and the collision count."""
    namespace = daemonset["metadata"]["namespace"]
    candidates = ctx.owned(CONTROLLERREVISIONS, daemonset) + ctx.orphans(CONTROLLERREVISIONS, namespace)
    plan_of_claims = plan_claim(daemonset, candidates, matcher(daemonset))
    claimed = await claim(ctx, DAEMONSETS, daemonset, CONTROLLERREVISIONS, plan_of_claims)
    revisions = [await _labelled(ctx, revision) for revision in claimed]
    data = history.template_patch(daemonset)
    plan = history.plan_history(revisions, data)
    collisions = (daemonset.get("status") or {}).get("collisionCount")
    if plan.current is not None:
        return plan.current, revisions, collisions
    if plan.renumber is not None:
        return await history.renumber_revision(ctx, plan.renumber, plan.number), revisions, collisions
    template = daemonset["spec"]["template"]
    naming = history.Naming(LABEL_CONTROLLER_REVISION_HASH, lambda count: template_hash(template, count))
    created, collisions = await history.create_revision(ctx, daemonset, DAEMONSETS, data, plan.number, naming, collisions)
    return created, [*revisions, created], collisions


def _tell_ended(ctx: Context, daemonset: Object, plan: DaemonPlan) -> None:
    for pods, event_type, reason, word, verb in (
        (plan.failed, "Warning", "FailedDaemonPod", "failed", "kill"),
        (plan.succeeded, "Normal", "SucceededDaemonPod", "succeeded", "delete"),
    ):
        for pod in pods:
            meta = pod["metadata"]
            message = f"Found {word} daemon pod {meta['namespace']}/{meta['name']} on node {node_of(pod)}, will try to {verb} it"
            ctx.recorder.event(daemonset, DAEMONSETS, event_type, reason, message)


async def _apply(ctx: Context, daemonset: Object, plan: DaemonPlan, hash_text: str) -> list[Exception]:
    bodies = [new_pod(daemonset, node, hash_text) for node in plan.create[:BURST_REPLICAS]]
    _, errors = await slow_start(bodies, lambda body: create_pod(ctx, body, daemonset, DAEMONSETS))
    deletions = await all_settled([delete_pod(ctx, pod, daemonset, DAEMONSETS) for pod in plan.delete[:BURST_REPLICAS]])
    return [error for error in (*errors, *errors_of(deletions)) if not is_namespace_terminating(error)]


def map_orphan_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod without a controller may be adopted by any DaemonSet whose selector matches."""
    if controller_of(pod) is not None:
        return ()
    daemonsets = reader.cache(DAEMONSETS).list(pod["metadata"]["namespace"])
    return [key_of(daemonset) for daemonset in daemonsets if matcher(daemonset)(pod)]


def map_node(reader: Reader, node: Object) -> Iterable[Key]:
    """Every DaemonSet may want a pod on a new or changed node."""
    return reader.cache(DAEMONSETS).keys()


def node_matters(old: Object, new: Object) -> bool:
    """Heartbeats do not; labels and taints do."""
    return labels_of(old) != labels_of(new) or taints_of(old) != taints_of(new)


SPEC = ControllerSpec(
    name="daemonset",
    primary=DAEMONSETS,
    owns=(PODS, CONTROLLERREVISIONS),
    watches={PODS: map_orphan_pod, NODES: map_node},
    cares={NODES: node_matters},
    workers=5,
)


def build(_config: object) -> DaemonSets:
    return DaemonSets()
