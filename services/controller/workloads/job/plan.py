"""What a Job does next: which pods to start and to delete, whether it is over, and what its pods count as. Pure functions.

Imitates syncJob and manageJob of pkg/controller/job/job_controller.go. Counting goes by finalizers: a pod that ended is noted in
status.uncountedTerminatedPods, loses its finalizer, and only then becomes a number; so a crash at any point neither loses nor doubles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubecosm.api.meta import get_condition, is_deleting, uid_of
from kubecosm.api.names import FINALIZER_JOB_TRACKING
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ...common.pods import is_active, is_ready, is_terminal, is_terminating, phase_of, rank_for_deletion
from . import failures, indexes
from .failures import Action
from .indexes import NO_INDEX, index_of, is_indexed

PODS_PER_SYNC_MAX = 500
UNCOUNTED_PODS_MAX = 500
"""So many uids fit into a status."""

FAILURE_TARGET, SUCCESS_CRITERIA_MET, FAILED, COMPLETE = "FailureTarget", "SuccessCriteriaMet", "Failed", "Complete"


@dataclass(frozen=True)
class Target:
    """The Job is to end: FailureTarget or SuccessCriteriaMet, why, and in words."""

    type: str
    reason: str
    message: str

    @property
    def final_type(self) -> str:
        return FAILED if self.type == FAILURE_TARGET else COMPLETE


@dataclass(frozen=True)
class NewPod:
    """A pod to start: its index, and how often the index failed before."""

    index: int = NO_INDEX
    failures: int = 0
    ignored_failures: int = 0


@dataclass
class View:
    """A Job and its pods, sorted once for all decisions."""

    job: Object
    pods: Sequence[Object]
    now: datetime
    active: list[Object] = field(init=False)
    new_succeeded: list[Object] = field(init=False)
    """Succeeded pods that are not in any number or list of the status yet."""
    new_failed: list[Object] = field(init=False)
    succeeded_indexes: set[int] = field(init=False)
    failed_indexes: set[int] = field(init=False)

    def __post_init__(self) -> None:
        status = self.job.get("status") or {}
        uncounted = status.get("uncountedTerminatedPods") or {}
        known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
        tracked = [pod for pod in self.pods if has_tracking_finalizer(pod) and uid_of(pod) not in known]
        self.active = [pod for pod in self.pods if is_active(pod)]
        self.new_succeeded = [pod for pod in tracked if phase_of(pod) == "Succeeded" and self._counts(pod)]
        self.new_failed = [pod for pod in tracked if failures.is_failed(self.job, pod) and self._counts(pod)]
        self.succeeded_indexes = indexes.parse(status.get("completedIndexes"), self.completions or 0)
        self.failed_indexes = indexes.parse(status.get("failedIndexes"), self.completions or 0)
        if is_indexed(self.job):
            self.succeeded_indexes |= {index_of(pod) for pod in self.new_succeeded}
            self.new_succeeded = []  # the set of indexes is count enough
        if self.backoff_limit_per_index is not None:
            self.failed_indexes |= {index_of(pod) for pod in self.new_failed if self._fails_index(pod)}

    @property
    def completions(self) -> int | None:
        value: int | None = self.job["spec"].get("completions")
        return value

    @property
    def backoff_limit_per_index(self) -> int | None:
        value: int | None = self.job["spec"].get("backoffLimitPerIndex")
        return value

    @property
    def is_suspended(self) -> bool:
        return bool(self.job["spec"].get("suspend"))

    @property
    def succeeded(self) -> int:
        if is_indexed(self.job):
            return len(self.succeeded_indexes)
        status = self.job.get("status") or {}
        uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded") or ()
        return int(status.get("succeeded", 0)) + len(uncounted) + len(self.new_succeeded)

    @property
    def failed(self) -> int:
        status = self.job.get("status") or {}
        uncounted = (status.get("uncountedTerminatedPods") or {}).get("failed") or ()
        return int(status.get("failed", 0)) + len(uncounted) + len(self.counted_failures())

    @property
    def terminating(self) -> int:
        return sum(is_terminating(pod) for pod in self.pods)

    def counted_failures(self) -> list[Object]:
        """New failures but for those that the policy says to ignore."""
        return [pod for pod in self.new_failed if failures.judge(self.job, pod).action is not Action.IGNORE]

    def _counts(self, pod: Object) -> bool:
        return not is_indexed(self.job) or NO_INDEX < index_of(pod) < (self.completions or 0)

    def _fails_index(self, pod: Object) -> bool:
        """The index has no try left, or the policy gives it up."""
        verdict = failures.judge(self.job, pod)
        if verdict.action is Action.FAIL_INDEX:
            return True
        return verdict.action is not Action.IGNORE and indexes.failure_count(pod) >= (self.backoff_limit_per_index or 0)


def has_tracking_finalizer(pod: Object) -> bool:
    return FINALIZER_JOB_TRACKING in (pod["metadata"].get("finalizers") or ())


def is_finished(job: Object) -> bool:
    return any(c["type"] in (COMPLETE, FAILED) and c["status"] == "True" for c in (job.get("status") or {}).get("conditions") or ())


def _told_target(job: Object) -> Target | None:
    """The target that an earlier sync has written down."""
    for condition_type in (FAILURE_TARGET, SUCCESS_CRITERIA_MET):
        condition = get_condition(job, condition_type)
        if condition is not None and condition["status"] == "True":
            return Target(condition_type, condition.get("reason", ""), condition.get("message", ""))
    return None


def seconds_to_deadline(job: Object, now: datetime) -> float | None:
    """What is left of activeDeadlineSeconds; None if there is none or it does not run."""
    limit, started = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if limit is None or started is None or job["spec"].get("suspend"):
        return None
    return (parse_time(started) + timedelta(seconds=limit) - now).total_seconds()


def plan_target(view: View) -> Target | None:
    """Whether the Job is to end, and how; completion by numbers is decided later, by what is active then."""
    job = view.job
    told = _told_target(job)
    if told is not None:
        return told
    for pod in view.new_failed:
        verdict = failures.judge(job, pod)
        if verdict.action is Action.FAIL_JOB:
            return Target(FAILURE_TARGET, "PodFailurePolicy", verdict.message)
    if view.failed > job["spec"].get("backoffLimit", 6) or failures.exceeds_restarts(job, view.pods):
        return Target(FAILURE_TARGET, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = seconds_to_deadline(job, view.now)
    if left is not None and left <= 0:
        return Target(FAILURE_TARGET, "DeadlineExceeded", "Job was active longer than specified deadline")
    if is_indexed(job):
        return _index_target(view)
    return None


def _index_target(view: View) -> Target | None:
    spec, completions = view.job["spec"], view.completions or 0
    failed = len(view.failed_indexes)
    if view.backoff_limit_per_index is not None and failed:
        if spec.get("maxFailedIndexes") is not None and failed > spec["maxFailedIndexes"]:
            return Target(FAILURE_TARGET, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
        if failed + len(view.succeeded_indexes) >= completions:
            return Target(FAILURE_TARGET, "FailedIndexes", "Job has failed indexes")
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        wanted = indexes.parse(rule["succeededIndexes"], completions) if rule.get("succeededIndexes") else set(range(completions))
        met = wanted & view.succeeded_indexes
        if len(met) >= (rule.get("succeededCount") or len(wanted)):
            return Target(SUCCESS_CRITERIA_MET, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def plan_completion(view: View, active: int) -> Target | None:
    """Complete by numbers: as many successes as wanted (or, with no number given, one), and nothing active any more."""
    wanted = 1 if view.completions is None else view.completions
    if view.succeeded < wanted or active > 0:
        return None
    return Target(SUCCESS_CRITERIA_MET, "CompletionsReached", "Reached expected number of succeeded pods")


@dataclass
class PodsPlan:
    """Start these, delete these, or look again after so many seconds."""

    create: list[NewPod] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    wait_seconds: float | None = None


def wanted_active(view: View) -> int:
    """How many pods should be active now."""
    parallelism: int = view.job["spec"].get("parallelism", 1)
    if view.is_suspended:
        return 0
    if view.completions is None:
        return len(view.active) if view.succeeded > 0 else parallelism
    left = view.completions - view.succeeded - (len(view.failed_indexes) if view.backoff_limit_per_index is not None else 0)
    return min(max(left, 0), parallelism)


def plan_pods(view: View) -> PodsPlan:
    """Bring the number of active pods to what is wanted; deletions first, creations when they are through."""
    surplus = len(view.active) - wanted_active(view)
    delete = _superfluous(view, max(surplus, 0))
    if delete:
        return PodsPlan(delete=delete[:PODS_PER_SYNC_MAX])
    held = view.terminating if failures.replaces_only_failed(view.job) else 0
    missing = min(-surplus - held, PODS_PER_SYNC_MAX)
    if missing <= 0:
        return PodsPlan()
    if view.backoff_limit_per_index is not None:
        return _plan_independent(view, missing)
    wait = failures.seconds_to_wait(view.job, view.pods, view.now)
    if wait > 0:
        return PodsPlan(wait_seconds=wait)
    if not is_indexed(view.job):
        return PodsPlan(create=[NewPod()] * missing)
    return PodsPlan(create=[NewPod(index) for index in _pending_indexes(view)[:missing]])


def _superfluous(view: View, at_least: int) -> list[Object]:
    """Pods whose index is already taken or out of range, then as many more as needed."""
    remove: list[Object] = []
    rest = list(view.active)
    if is_indexed(view.job):
        seen: set[int] = set()
        rest = []
        for pod in sorted(view.active, key=lambda p: (not is_ready(p), p["metadata"].get("creationTimestamp") or "")):
            index = index_of(pod)
            is_extra = not NO_INDEX < index < (view.completions or 0) or index in seen
            (remove if is_extra else rest).append(pod)
            seen.add(index)
    if len(remove) < at_least:
        remove += rank_for_deletion(rest, (), view.now)[: at_least - len(remove)]
    return remove


def _pending_indexes(view: View) -> list[int]:
    taken = view.succeeded_indexes | view.failed_indexes | {index_of(pod) for pod in view.active}
    if failures.replaces_only_failed(view.job):
        taken |= {index_of(pod) for pod in view.pods if is_terminating(pod)}
    return [index for index in range(view.completions or 0) if index not in taken]


def _plan_independent(view: View, missing: int) -> PodsPlan:
    """Each index backs off by its own failures."""
    last_failed: dict[int, Object] = {}
    for pod in view.pods:
        if failures.is_failed(view.job, pod):
            known = last_failed.get(index_of(pod))
            if known is None or _tries(pod) > _tries(known):
                last_failed[index_of(pod)] = pod
    plan = PodsPlan()
    for index in _pending_indexes(view):
        if len(plan.create) == missing:
            break
        failed = last_failed.get(index)
        if failed is None:
            plan.create.append(NewPod(index))
            continue
        new = _after(view.job, failed, index)
        wait = failures.wait_after(new.failures + new.ignored_failures, failures.finished_at(failed) or view.now, view.now)
        if wait > 0:
            plan.wait_seconds = min(wait, plan.wait_seconds or wait)
        else:
            plan.create.append(new)
    return plan


def _tries(pod: Object) -> int:
    return indexes.failure_count(pod) + indexes.ignored_failure_count(pod)


def _after(job: Object, failed: Object, index: int) -> NewPod:
    """The pod that follows a failed one of its index."""
    ignored = failures.judge(job, failed).action is Action.IGNORE
    return NewPod(index, indexes.failure_count(failed) + (not ignored), indexes.ignored_failure_count(failed) + ignored)


@dataclass
class CountPlan:
    """Uids to note as succeeded and failed, and the pods whose finalizer may then go."""

    succeeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)
    is_partial: bool = False
    """More pods than one status can hold: another sync must follow."""


def plan_counting(view: View, target: Target | None) -> CountPlan:
    """Which ended pods become counted now. When the Job ends badly every pod that has not ended counts as failed."""
    plan = CountPlan()
    ends_badly = target is not None and target.type == FAILURE_TARGET
    new_failed = {uid_of(pod) for pod in view.counted_failures()}
    new_succeeded = {uid_of(pod) for pod in view.new_succeeded}
    uncounted = ((view.job.get("status") or {}).get("uncountedTerminatedPods")) or {}
    noted = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
    for pod in view.pods:
        uid = uid_of(pod)
        if not has_tracking_finalizer(pod):
            continue
        over = is_terminal(pod) or failures.is_failed(view.job, pod)
        if not over and target is None and not is_deleting(view.job):
            continue
        if not is_deleting(view.job) and target is None and _keeps_count_of_index(view, pod):
            continue
        plan.release.append(pod)
        if uid in new_succeeded:
            plan.succeeded.append(uid)
        elif uid in new_failed or (ends_badly and not over and uid not in noted):
            plan.failed.append(uid)
        if len(plan.succeeded) + len(plan.failed) >= UNCOUNTED_PODS_MAX:
            plan.is_partial = True
            break
    return plan


def _keeps_count_of_index(view: View, pod: Object) -> bool:
    """The last failed pod of an index remembers its failures, until its successor does."""
    if view.backoff_limit_per_index is None or not failures.is_failed(view.job, pod):
        return False
    index = index_of(pod)
    if index in view.failed_indexes or index in view.succeeded_indexes:
        return False
    return not any(index_of(other) == index and _tries(other) > _tries(pod) for other in view.pods)
