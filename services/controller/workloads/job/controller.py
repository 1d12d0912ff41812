"""Job controller: pods that run to their end, as often as wanted, with failures retried, limited, or forgiven by policy.

Owns Pods. Watches Jobs and Pods. Writes Pods, their tracking finalizer, and the Job's status. Decisions: view.py, target.py, plan.py,
counting.py, failures.py, backoff.py; status: status.py; indexes: indexes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, controller_of, get_condition, is_deleting, key_of, labels_of, uid_of
from kubecosm.api.names import FINALIZER_JOB_TRACKING, MANAGED_BY_JOB_CONTROLLER
from kubecosm.api.resources import JOBS, PODS, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType

from ...common.adoption import claim, plan_claim
from ...common.batches import all_settled, errors_of, raise_first, slow_start
from ...common.status import update_status
from ...common.templates import create_pod, delete_pod, is_namespace_terminating
from . import status as statuses
from .backoff import Record
from .counting import is_ended_and_tracked, plan_counting
from .metrics import FAMILIES, count_created, count_ended, count_external, count_judged, count_pods, count_released, count_sync
from .plan import PodsPlan, plan_pods
from .pods import new_pod
from .target import FAILED, Target, is_finished, plan_completion, plan_target, seconds_to_deadline
from .view import View, has_tracking_finalizer

INDEX_TRACKED = "job-tracked"
"""Pods with the tracking finalizer, by namespace and the name of the Job that controls them (empty if none does)."""
REST_SECONDS_PER_POD = 20e-6
RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 1.0, 60.0
"""After an error of the API, say of a quota that is exceeded."""


def matcher(job: Object) -> Callable[[Object], bool]:
    """Whether a pod's labels match spec.selector."""
    matches = from_label_selector(job["spec"]["selector"]).matches
    return lambda pod: matches(labels_of(pod))


def tracking_keys(pod: Object) -> tuple[Key, ...]:
    """The Job that counts this pod, or nobody (an empty name); none at all if something else than a Job controls it."""
    if not has_tracking_finalizer(pod):
        return ()
    ref, namespace = controller_of(pod), pod["metadata"]["namespace"]
    if ref is None:
        return (Key(namespace, ""),)
    return (Key(namespace, ref["name"]),) if (ref["apiVersion"], ref["kind"]) == (JOBS.api_version, JOBS.kind) else ()


def tracked_by(pod: Object) -> list[str]:
    return [str(key) for key in tracking_keys(pod)]


async def _release(ctx: Context, pod: Object) -> str | None:
    """Take the tracking finalizer away; the pod's uid, or None if it was gone already."""
    meta = pod["metadata"]
    left = [name for name in meta["finalizers"] if name != FINALIZER_JOB_TRACKING]
    patch = {"metadata": {"uid": uid_of(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER_JOB_TRACKING]}}
    try:
        released = await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC)
    except NotFound:
        return uid_of(pod)
    if is_deleting(pod) and not left:
        ctx.expect_deleted(pod)
    else:
        ctx.expect_written(released)
    return uid_of(pod)


async def _release_strangers(ctx: Context, key: Key, job: Object | None) -> None:
    """Pods of a Job that is gone, or that no Job controls any more: nobody will count them."""
    pods = ctx.cache(PODS).by_index(INDEX_TRACKED, str(key))
    owner = uid_of(job) if job is not None else ""
    strangers = [pod for pod in pods if (controller_of(pod) or {}).get("uid", "") != owner or job is None]
    raise_first(await all_settled([_release(ctx, pod) for pod in strangers]))


async def _delete_uncounted(ctx: Context, job: Object, pod: Object) -> None:
    """Delete a pod that is merely too many: without its finalizer it is not counted as a failure."""
    await _release(ctx, pod)
    await delete_pod(ctx, pod, job, JOBS)


async def _apply_pods(ctx: Context, view: View, plan: PodsPlan) -> tuple[int, list[Object], list[Exception]]:
    """(pods created, the pods deleted, errors)."""
    job = view.job
    results = await all_settled([_delete_uncounted(ctx, job, pod) for pod in plan.delete])
    created, errors = await slow_start([new_pod(job, wanted) for wanted in plan.create], lambda body: create_pod(ctx, body, job, JOBS))
    errors = [error for error in errors if not is_namespace_terminating(error)]
    count_created(ctx, view, len(created), len(errors))
    deleted = [pod for pod, result in zip(plan.delete, results, strict=True) if not isinstance(result, Exception)]
    return len(created), deleted, [*errors_of(results), *errors]


def _with_suspension(ctx: Context, job: Object) -> Object:
    """The Job with its Suspended condition as spec.suspend says; an event tells of a change, and a resumed Job starts anew.

    A suspended one has no startTime, so that its deadline does not run and its template may be changed.
    """
    suspended = bool(job["spec"].get("suspend"))
    reason, message, event = ("JobSuspended", "Job suspended", "Suspended") if suspended else ("JobResumed", "Job resumed", "Resumed")
    now = ctx.clock.now()
    conditions = statuses.ensured(job, "Suspended", str(suspended), reason, message, now)
    if conditions is None:
        return job
    ctx.recorder.event(job, JOBS, "Normal", event, message)
    status = {**(job.get("status") or {}), "conditions": conditions, "startTime": format_time(now)}
    if suspended:
        del status["startTime"]
    return {**job, "status": statuses.ordered(status)}


async def _finish_pods(ctx: Context, view: View) -> tuple[list[Object], list[Exception]]:
    """The Job is to end: what still runs is deleted (and, after a failure, counted as failed)."""
    results = await all_settled([delete_pod(ctx, pod, view.job, JOBS) for pod in view.active])
    return [pod for pod, result in zip(view.active, results, strict=True) if not isinstance(result, Exception)], errors_of(results)


def _tell_ended(ctx: Context, job: Object, target: Target) -> None:
    if target.final_type == FAILED:
        ctx.recorder.event(job, JOBS, "Warning", target.reason, target.message)
        return
    completions = job["spec"].get("completions")
    if completions is not None and job["status"].get("succeeded", 0) > completions:
        message = "Too many succeeded pods running after completion count reached"
        ctx.recorder.event(job, JOBS, "Warning", "TooManySucceededPods", message)
    ctx.recorder.event(job, JOBS, "Normal", "Completed", "Job completed")


class Jobs:
    """The controller; `SPEC` and `reconcile` are what the runner asks for. Remembers how often pods failed, beyond the pods' own lives."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._records: dict[Key, tuple[str, Record]] = {}  # of Jobs that have not ended: uid, failures
        self._external: dict[Key, str] = {}  # Jobs of other controllers that were counted: uid

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        job = ctx.cache(JOBS).get(key)
        await _release_strangers(ctx, key, job)
        if job is None or is_finished(job):
            self._records.pop(key, None)
        if job is None:
            self._external.pop(key, None)
            return done()
        if job["spec"].get("managedBy", MANAGED_BY_JOB_CONTROLLER) != MANAGED_BY_JOB_CONTROLLER:
            if self._external.get(key) != uid_of(job):
                self._external[key] = uid_of(job)
                count_external(ctx, job)
            return done()
        if is_finished(job):
            owned = [pod for pod in ctx.owned(PODS, job) if has_tracking_finalizer(pod)]
            raise_first(await all_settled([_release(ctx, pod) for pod in owned]))
            return done()
        candidates = ctx.owned(PODS, job) + ctx.orphans(PODS, key.namespace)
        pods = await claim(ctx, JOBS, job, PODS, plan_claim(job, candidates, matcher(job)), finalizers=[FINALIZER_JOB_TRACKING])
        return await self._sync(ctx, View(job, pods, ctx.clock.now(), self._record(job)))

    def _record(self, job: Object) -> Record | None:
        uid, record = self._records.get(key_of(job), ("", None))
        return record if uid == uid_of(job) else None

    async def _sync(self, ctx: Context, view: View) -> Result:
        job, started = view.job, ctx.clock.monotonic()
        target = plan_target(view)
        active, waits, errors = len(view.active), list[float | None](), list[Exception]()
        created, deleted, action = 0, list[Object](), "reconciling"
        if target is not None:
            deleted, errors = await _finish_pods(ctx, view)
            active -= len(deleted)
            target = None if errors else target  # what could not be deleted still runs
        else:
            if not is_deleting(job):
                plan = plan_pods(view)
                created, deleted, errors = await _apply_pods(ctx, view, plan)
                active += created - len(deleted)
                waits.append(plan.wait_seconds)
                action = plan.action
            target = plan_completion(view, active)
            if target is None and not is_deleting(job):
                view.job = _with_suspension(ctx, job)
                waits.append(seconds_to_deadline(view.job, view.now))
        result = await self._count(ctx, view, active, deleted, target)
        count_sync(ctx, job, started, action, failed=bool(errors))
        if errors:
            raise errors[0]
        seconds = [wait for wait in waits if wait is not None]
        return requeue(after_seconds=max(min(seconds), 0.0)) if seconds and result.requeue_after_seconds is None else result

    async def _count(self, ctx: Context, view: View, active: int, deleted: Sequence[Object], target: Target | None) -> Result:
        """Note, release, count, and end the Job; each step is written before the next."""
        counting = plan_counting(view, target)
        ready = statuses.count_ready(view.active) - statuses.count_ready(deleted)
        noted = statuses.plan_noted(view, active, ready, view.terminating + len(deleted), counting, target)
        job = await update_status(ctx, JOBS, view.job, noted)
        if view.record is not None:
            self._records[key_of(job)] = uid_of(job), view.record
        count_judged(ctx, counting.judged)
        results = await all_settled([_release(ctx, pod) for pod in counting.release])
        released = [uid for uid in results if isinstance(uid, str)]
        counted = statuses.plan_counted(job, released, view.pods)
        count_pods(ctx, job, view.job.get("status") or {}, counted)
        count_released(ctx, [pod for pod in counting.release if is_ended_and_tracked(pod) and uid_of(pod) in released])
        ended = None
        if target is not None and not counting.is_partial:
            ended = statuses.plan_ended({**job, "status": counted}, target, view.now)
        await update_status(ctx, JOBS, job, ended or counted)
        raise_first(results)
        if ended is not None and target is not None:
            _tell_ended(ctx, {**job, "status": ended}, target)
            count_ended(ctx, job, target)
        return requeue(after_seconds=0) if counting.is_partial else done(rest_seconds=REST_SECONDS_PER_POD * len(view.pods))


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """Tracked pods without their Job, and pods that a Job may adopt."""
    keys = list(tracking_keys(pod))
    if controller_of(pod) is None:
        jobs = reader.cache(JOBS).list(pod["metadata"]["namespace"])
        keys += [key_of(job) for job in jobs if get_condition(job, FAILED) is None and matcher(job)(pod)]
    return keys


SPEC = ControllerSpec(
    name="job",
    primary=JOBS,
    owns=(PODS,),
    watches={PODS: map_pod},
    indexers={PODS: {INDEX_TRACKED: tracked_by}},
    metrics=FAMILIES,
    workers=5,
    retry_seconds=(RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX),
)


def build(_config: object) -> Jobs:
    return Jobs()
