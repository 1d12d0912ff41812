"""Deployment controller: one ReplicaSet for each pod template, scaled so that a change rolls out without losing availability.

Owns ReplicaSets. Watches Deployments, ReplicaSets and (for Recreate) Pods. Writes ReplicaSets and the Deployment's status and revision
annotation. The decisions are in replicasets.py, scaling.py, status.py and rollback.py. Undo is the client's: kubectl writes an old
template back, and the ReplicaSet that has it becomes the new one again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import Key, annotations_of, controller_of, get_condition, is_controlled_by, is_deleting, key_of, labels_of, uid_of
from kubecosm.api.names import ANNOTATION_DEPLOYMENT_REVISION
from kubecosm.api.resources import DEPLOYMENTS, PODS, REPLICASETS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.client.controller import OWNER_INDEXERS, Context, ControllerSpec, Reader, ReconcileError, Result, done, requeue

from ...common.adoption import claim, plan_claim
from ...common.echoes import Echoes
from ...common.pods import is_terminal
from ...common.templates import is_namespace_terminating
from . import replicasets as sets
from . import scaling, status
from .rollback import plan_rollback, wanted_revision
from .scaling import Scale


def matcher(deployment: Object) -> Callable[[Object], bool]:
    """Whether a ReplicaSet's labels match spec.selector."""
    matches = from_label_selector(deployment["spec"]["selector"]).matches
    return lambda replicaset: matches(labels_of(replicaset))


class HashCollision(ReconcileError):
    """The new ReplicaSet's name is taken by a stranger: the next sync hashes with a higher collision count."""


class Rollout:
    """One sync of one Deployment: the draft of the object, whose status is written once at the end, and its ReplicaSets."""

    def __init__(self, ctx: Context, deployment: Object, owned: Sequence[Object], echoes: Echoes) -> None:
        self.ctx, self._echoes = ctx, echoes
        self.deployment = deployment
        """The draft: annotations and status may differ from the cache's."""
        self.new, self.old = sets.split(deployment, owned)

    @property
    def all(self) -> list[Object]:
        return [*self.old, self.new] if self.new is not None else list(self.old)

    async def sync_revision(self, *, create: bool) -> None:
        """Bring the new ReplicaSet's annotations up to date, or create it if `create` and there is none."""
        if self.new is not None:
            await self._refresh_new(self.new)
        elif create:
            await self._create_new()

    async def _refresh_new(self, new: Object) -> None:
        annotations = sets.plan_annotations(self.deployment, new, sets.next_revision(self.old), exists=True)
        min_ready = self.deployment["spec"].get("minReadySeconds", 0)
        if annotations != annotations_of(new) or new["spec"].get("minReadySeconds", 0) != min_ready:
            meta, spec = {**new["metadata"], "annotations": annotations}, {**new["spec"], "minReadySeconds": min_ready}
            new = await self._update({**new, "metadata": meta, "spec": spec})
        self._set_revision(annotations_of(new).get(ANNOTATION_DEPLOYMENT_REVISION, ""))
        if get_condition(self.deployment, status.PROGRESSING) is None:
            self._progress("True", "FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"')

    async def _create_new(self) -> None:
        body = sets.plan_new_replicaset(self.deployment, self.old)
        name, replicas = body["metadata"]["name"], body["spec"]["replicas"]
        try:
            created = await self.ctx.client.create(REPLICASETS, body, body["metadata"]["namespace"])
        except AlreadyExists:
            await self._meet_namesake(body)
            return
        except ApiError as error:
            if not is_namespace_terminating(error):
                message = f'Failed to create new replica set "{name}": {error}'
                self._progress("False", "ReplicaSetCreateError", message)
                self.ctx.recorder.event(self.deployment, DEPLOYMENTS, "Warning", "ReplicaSetCreateError", message)
            raise
        self.ctx.expect_written(created)
        self.new = created
        if replicas > 0:
            self._tell_scaled("up", created, 0, replicas)
        self._set_revision(str(sets.next_revision(self.old)))
        self._progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')

    async def _meet_namesake(self, body: Object) -> None:
        """Ours, from a create whose answer was lost: go on with it. A stranger's: a hash collision."""
        meta = body["metadata"]
        namesake = await self.ctx.client.get(REPLICASETS, meta["name"], meta["namespace"])
        if is_controlled_by(namesake, self.deployment) and sets.same_template(
            namesake["spec"]["template"], self.deployment["spec"]["template"]
        ):
            self.new = namesake
            self._set_revision(str(sets.next_revision(self.old)))
            return
        draft_status = self.deployment.get("status") or {}
        self.deployment = {**self.deployment, "status": {**draft_status, "collisionCount": draft_status.get("collisionCount", 0) + 1}}
        raise HashCollision(f"replica set name {meta['name']} is taken")

    async def scale(self, scales: Iterable[Scale]) -> bool:
        """Write the sizes, in order; True if any size changed."""
        changed = False
        for scale in scales:
            newest = next(rs for rs in self.all if uid_of(rs) == uid_of(scale.replicaset))
            body = scaling.scaled(self.deployment, Scale(newest, scale.replicas))
            if body is None:
                continue
            before = sets.spec_replicas(newest)
            written = await self._update(body)
            if scale.replicas != before:
                changed = True
                self._tell_scaled("up" if scale.replicas > before else "down", written, before, scale.replicas)
        return changed

    async def clean_up(self) -> None:
        """Delete old ReplicaSets beyond the revision history limit."""
        for replicaset in sets.plan_cleanup(self.deployment, self.old):
            meta = replicaset["metadata"]
            try:
                await self.ctx.client.delete(REPLICASETS, meta["name"], meta["namespace"], options={"preconditions": {"uid": meta["uid"]}})
            except NotFound:
                continue
            self.ctx.expect_deleted(replicaset)

    async def roll_back(self, revision: int) -> None:
        """Write the template of the revision into the Deployment; the next sync goes on from there."""
        await self.sync_revision(create=True)
        plan = plan_rollback(self.deployment, self.all, revision)
        self.ctx.expect_written(await self.ctx.client.update(DEPLOYMENTS, plan.deployment))
        self.ctx.recorder.event(self.deployment, DEPLOYMENTS, plan.type, plan.reason, plan.message)

    async def write_status(self, new_status: Object) -> None:
        """The one status write of a sync; it carries the revision annotation too, which the status subresource lets through."""
        cached = self.ctx.cache(DEPLOYMENTS).get(key_of(self.deployment))
        draft = {**self.deployment, "status": new_status}
        if cached is None or (new_status == (cached.get("status") or {}) and annotations_of(draft) == annotations_of(cached)):
            return
        self._echoes.expect(draft, new_status)
        self.ctx.expect_written(await self.ctx.client.update(DEPLOYMENTS, draft, subresource="status"))

    async def _update(self, body: Object) -> Object:
        written = await self.ctx.client.update(REPLICASETS, body)
        self.ctx.expect_written(written)
        if self.new is not None and uid_of(self.new) == uid_of(written):
            self.new = written
        else:
            self.old = [written if uid_of(rs) == uid_of(written) else rs for rs in self.old]
        return written

    def _set_revision(self, revision: str) -> None:
        meta = self.deployment["metadata"]
        if revision and annotations_of(self.deployment).get(ANNOTATION_DEPLOYMENT_REVISION) != revision:
            annotations = {**annotations_of(self.deployment), ANNOTATION_DEPLOYMENT_REVISION: revision}
            self.deployment = {**self.deployment, "metadata": {**meta, "annotations": annotations}}

    def _progress(self, condition_status: str, reason: str, message: str) -> None:
        if status.has_deadline(self.deployment):
            verdict = status.condition(status.PROGRESSING, condition_status, reason, message, self.ctx.clock.now())
            self.deployment = status.with_condition(self.deployment, verdict)

    def _tell_scaled(self, direction: str, replicaset: Object, before: int, after: int) -> None:
        message = f"Scaled {direction} replica set {replicaset['metadata']['name']} from {before} to {after}"
        self.ctx.recorder.event(self.deployment, DEPLOYMENTS, "Normal", "ScalingReplicaSet", message)


async def _roll(rollout: Rollout) -> None:
    await rollout.sync_revision(create=True)
    if rollout.new is not None:
        await rollout.scale(scaling.plan_rolling(rollout.deployment, rollout.new, rollout.old))


async def _recreate(rollout: Rollout) -> None:
    await rollout.sync_revision(create=False)
    if await rollout.scale(scaling.plan_recreate_down(rollout.old)) or _old_pods_run(rollout):
        return
    await rollout.sync_revision(create=True)
    if rollout.new is not None:
        await rollout.scale(scaling.plan_recreate_up(rollout.deployment, rollout.new))


def _old_pods_run(rollout: Rollout) -> bool:
    if sets.total_status(rollout.old, "replicas") > 0:
        return True
    return any(not is_terminal(pod) for rs in rollout.old for pod in rollout.ctx.owned(PODS, rs))


async def _resize(rollout: Rollout) -> None:
    """Paused, or spec.replicas changed: sizes only, no new template."""
    await rollout.sync_revision(create=False)
    await rollout.scale(scaling.plan_proportional(rollout.deployment, rollout.new, rollout.old))
    if rollout.deployment["spec"].get("paused") and wanted_revision(rollout.deployment) is None:
        await rollout.clean_up()


async def _sync(ctx: Context, deployment: Object, owned: Sequence[Object], echoes: Echoes) -> float | None:
    """One sync; returns the seconds after which the progress deadline wants another."""
    now = ctx.clock.now()
    rollout = Rollout(ctx, deployment if is_deleting(deployment) else status.plan_paused(deployment, now), owned, echoes)
    judge = status.plan_counts
    revision = None if is_deleting(deployment) or deployment["spec"].get("paused") else wanted_revision(deployment)
    try:
        if revision is not None:
            await rollout.roll_back(revision)
            return None
        if is_deleting(deployment):
            await rollout.sync_revision(create=False)
        elif deployment["spec"].get("paused") or scaling.is_scaling_event(deployment, owned):
            await _resize(rollout)
        else:
            judge = status.plan_rollout_status
            await (_roll if sets.is_rolling(deployment) else _recreate)(rollout)
    except (ApiError, HashCollision) as error:
        await rollout.write_status(rollout.deployment.get("status") or {})
        if is_namespace_terminating(error):
            return None
        raise
    new_status = judge(rollout.deployment, rollout.new, rollout.all, now)
    await rollout.write_status(new_status)
    if judge is status.plan_rollout_status and status.is_complete(deployment, new_status):
        await rollout.clean_up()
    return status.seconds_to_deadline(deployment, new_status, now) if judge is status.plan_rollout_status else None


def map_orphan_replicaset(reader: Reader, replicaset: Object) -> Iterable[Key]:
    """A ReplicaSet without a controller may be adopted by any Deployment whose selector matches."""
    if controller_of(replicaset) is not None:
        return ()
    deployments = reader.cache(DEPLOYMENTS).list(replicaset["metadata"]["namespace"])
    return [key_of(deployment) for deployment in deployments if matcher(deployment)(replicaset)]


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A Recreate Deployment waits for its old pods to go: only the last pod of a ReplicaSet matters."""
    ref = controller_of(pod)
    if ref is None or ref["kind"] != REPLICASETS.kind or not (is_terminal(pod) or is_deleting(pod)):
        return ()
    replicaset = reader.cache(REPLICASETS).get(Key(pod["metadata"]["namespace"], ref["name"]))
    parent = controller_of(replicaset) if replicaset is not None else None
    if parent is None or parent["kind"] != DEPLOYMENTS.kind:
        return ()
    deployment = reader.cache(DEPLOYMENTS).get(Key(pod["metadata"]["namespace"], parent["name"]))
    return () if deployment is None or sets.is_rolling(deployment) else (key_of(deployment),)


SPEC = ControllerSpec(
    name="deployment",
    primary=DEPLOYMENTS,
    owns=(REPLICASETS,),
    watches={REPLICASETS: map_orphan_replicaset, PODS: map_pod},
    indexers={PODS: OWNER_INDEXERS},
    workers=5,
)


class Deployments:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self._echoes = Echoes()
        self.SPEC = replace(SPEC, cares={DEPLOYMENTS: self._echoes.matters})

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        deployment = ctx.cache(DEPLOYMENTS).get(key)
        if deployment is None:
            return done()  # gone: the garbage collector removes the ReplicaSets
        if not deployment["spec"].get("selector"):
            message = "This deployment is selecting all pods. A non-empty selector is required."
            ctx.recorder.event(deployment, DEPLOYMENTS, "Warning", "SelectingAll", message)
            return done()
        candidates = ctx.owned(REPLICASETS, deployment) + ctx.orphans(REPLICASETS, key.namespace)
        owned = await claim(ctx, DEPLOYMENTS, deployment, REPLICASETS, plan_claim(deployment, candidates, matcher(deployment)))
        wait = await _sync(ctx, deployment, owned, self._echoes)
        return done() if wait is None else requeue(after_seconds=wait)


def build(_config: object) -> Deployments:
    return Deployments()
