"""StatefulSet controller: pods with names and claims that last, created and replaced in order.

Owns Pods and ControllerRevisions. Watches StatefulSets, Pods and (through their pods) nothing else. Writes Pods,
PersistentVolumeClaims, ControllerRevisions and the StatefulSet's status. Decisions: plan.py; identity: identity.py; claims: claims.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import Key, controller_of, key_of, labels_of, uid_of
from kubecosm.api.names import LABEL_CONTROLLER_REVISION_DATA_HASH
from kubecosm.api.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from ...common import revisions as history
from ...common.adoption import claim, plan_claim
from ...common.batches import all_settled, raise_first, slow_start
from ...common.hashing import revision_hash
from ...common.pods import seconds_until_available
from ...common.status import update_status
from ...common.templates import is_namespace_terminating
from . import identity
from .claims import ClaimNotReady, are_claims_settled, create_claims, fix_claim_owners, is_claim_stale
from .plan import Revisions, StatefulPlan, plan_pods, plan_status

CLAIM_RETRY_SECONDS = 1.0
"""How soon to look again at a claim that goes with an earlier pod."""


class History(NamedTuple):
    """The revisions of a StatefulSet, and the two that matter now."""

    revisions: list[Object]
    current: Object
    update: Object
    collision_count: int

    def template(self, name: str) -> Object:
        """The pod template of the current or update revision."""
        return history.template_of(self.current if name == self.current["metadata"]["name"] else self.update)


def matcher(statefulset: Object) -> Callable[[Object], bool]:
    """Whether an object's labels match spec.selector."""
    matches = from_label_selector(statefulset["spec"]["selector"]).matches
    return lambda obj: matches(labels_of(obj))


async def _read_history(ctx: Context, statefulset: Object) -> History:
    """Adopt revisions, make the template's revision the newest, and find the one the pods come from."""
    matches = matcher(statefulset)
    candidates = ctx.owned(CONTROLLERREVISIONS, statefulset)
    candidates += ctx.orphans(CONTROLLERREVISIONS, statefulset["metadata"]["namespace"])
    revisions = await claim(ctx, STATEFULSETS, statefulset, CONTROLLERREVISIONS, plan_claim(statefulset, candidates, matches))
    data = history.template_patch(statefulset)
    plan = history.plan_history(revisions, data)
    collisions = (statefulset.get("status") or {}).get("collisionCount") or 0
    if plan.current is not None:
        update = plan.current
    elif plan.renumber is not None:
        update = await history.renumber_revision(ctx, plan.renumber, plan.number)
    else:
        naming = history.Naming(LABEL_CONTROLLER_REVISION_DATA_HASH, lambda count: revision_hash(data, count))
        update, count = await history.create_revision(ctx, statefulset, STATEFULSETS, data, plan.number, naming, collisions)
        collisions = count or 0
        revisions = [*revisions, update]
    current_name = (statefulset.get("status") or {}).get("currentRevision")
    current = next((r for r in revisions if r["metadata"]["name"] == current_name), update)
    return History(revisions, current, update, collisions)


def _event(ctx: Context, statefulset: Object, pod_name: str, verb: str, error: Exception | None) -> None:
    text = f"{verb} Pod {pod_name} in StatefulSet {statefulset['metadata']['name']}"
    if error is None:
        ctx.recorder.event(statefulset, STATEFULSETS, "Normal", f"Successful{verb.title()}", f"{text} successful")
    elif not is_namespace_terminating(error):
        ctx.recorder.event(statefulset, STATEFULSETS, "Warning", f"Failed{verb.title()}", f"{text} failed error: {error}")


async def _create(ctx: Context, statefulset: Object, past: History, ordinal: int, revision_name: str) -> Object:
    pod = identity.new_pod(statefulset, past.template(revision_name), revision_name, ordinal)
    name = pod["metadata"]["name"]
    try:
        await create_claims(ctx, statefulset, pod)
        created = await ctx.client.create(PODS, pod, pod["metadata"]["namespace"])
    except AlreadyExists:
        raise  # the cache was behind, or it is a stranger's: not worth an event
    except (ApiError, ClaimNotReady) as error:
        _event(ctx, statefulset, name, "create", error)
        raise
    ctx.expect_written(created)
    _event(ctx, statefulset, name, "create", None)
    return created


async def _delete(ctx: Context, statefulset: Object, pod: Object) -> None:
    meta = pod["metadata"]
    try:
        await ctx.client.delete(PODS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(pod)}})
    except NotFound:
        return
    except ApiError as error:
        _event(ctx, statefulset, meta["name"], "delete", error)
        raise
    ctx.expect_deleted(pod)
    _event(ctx, statefulset, meta["name"], "delete", None)


async def _settle(ctx: Context, statefulset: Object, pod: Object) -> None:
    """Give the pod the labels that tell its ordinal, the volumes of its claims, and its claims their owners."""
    storage = identity.has_storage(statefulset, pod)
    conforms = storage and identity.has_identity(statefulset, pod)
    if conforms and are_claims_settled(ctx, statefulset, pod):
        return
    try:
        if not storage:
            await create_claims(ctx, statefulset, pod)
        await fix_claim_owners(ctx, statefulset, pod)
        if not conforms:
            ctx.expect_written(await ctx.client.update(PODS, identity.conformed(statefulset, pod)))
    except (ApiError, ClaimNotReady) as error:
        _event(ctx, statefulset, pod["metadata"]["name"], "update", error)
        raise
    _event(ctx, statefulset, pod["metadata"]["name"], "update", None)


async def _apply(ctx: Context, statefulset: Object, past: History, plan: StatefulPlan) -> None:
    """Carry out the plan as far as it goes; the first error ends it."""
    if statefulset["spec"].get("volumeClaimTemplates"):
        for pod in plan.pending:  # a pod that waits for a claim which somebody deleted gets a new one
            await create_claims(ctx, statefulset, pod)
            await fix_claim_owners(ctx, statefulset, pod)
    for pod in plan.settle:
        await _settle(ctx, statefulset, pod)
    _, errors = await slow_start(plan.create, lambda item: _create(ctx, statefulset, past, *item))
    raise_first(errors)
    for pod in plan.condemned:
        if not are_claims_settled(ctx, statefulset, pod):
            await fix_claim_owners(ctx, statefulset, pod)
    raise_first(await all_settled([_delete(ctx, statefulset, pod) for pod in plan.delete]))


async def reconcile(ctx: Context, key: Key) -> Result:
    statefulset = ctx.cache(STATEFULSETS).get(key)
    if statefulset is None:
        return done()  # gone: the garbage collector removes the pods
    now = ctx.clock.now()
    past = await _read_history(ctx, statefulset)
    candidates = ctx.owned(PODS, statefulset) + ctx.orphans(PODS, key.namespace)
    pods = await claim(ctx, STATEFULSETS, statefulset, PODS, plan_claim(statefulset, candidates, _membership(statefulset)))
    names = Revisions(past.current["metadata"]["name"], past.update["metadata"]["name"])

    def is_stale(ordinal: int) -> bool:
        return is_claim_stale(ctx, statefulset, identity.new_pod(statefulset, past.template(names.update), names.update, ordinal))

    plan = plan_pods(statefulset, pods, names, now, is_stale)
    status = plan_status(statefulset, pods, names, past.collision_count, now)
    try:
        await _apply(ctx, statefulset, past, plan)
    except ApiError as error:
        if not is_namespace_terminating(error):
            raise
    finally:
        await update_status(ctx, STATEFULSETS, statefulset, status)
    live = {names.current, names.update, *map(identity.revision_name_of, pods)}
    limit = statefulset["spec"].get("revisionHistoryLimit")
    await history.delete_all(ctx, history.plan_truncation(past.revisions, live, limit))
    wait_seconds = CLAIM_RETRY_SECONDS if plan.stale else seconds_until_available(pods, statefulset["spec"].get("minReadySeconds", 0), now)
    return done() if wait_seconds is None else requeue(after_seconds=wait_seconds)


def _membership(statefulset: Object) -> Callable[[Object], bool]:
    """Whether a pod is one of the StatefulSet's by labels and by name; a pod of another name is released."""
    matches = matcher(statefulset)
    return lambda pod: matches(pod) and identity.is_member(statefulset, pod)


def map_orphan_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod without a controller may be adopted by any StatefulSet whose selector matches."""
    if controller_of(pod) is not None:
        return ()
    statefulsets = reader.cache(STATEFULSETS).list(pod["metadata"]["namespace"])
    return [key_of(statefulset) for statefulset in statefulsets if matcher(statefulset)(pod)]


SPEC = ControllerSpec(
    name="statefulset",
    primary=STATEFULSETS,
    owns=(PODS, CONTROLLERREVISIONS),
    watches={PODS: map_orphan_pod},
    reads=(PERSISTENTVOLUMECLAIMS,),
    workers=5,
)
