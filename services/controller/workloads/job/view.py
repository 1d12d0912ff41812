"""A Job and its pods as all its decisions see them: which pods are active, which ended just now, which indexes are through. Pure functions.

Imitates the first half of syncJob of pkg/controller/job/job_controller.go, and indexed_job_utils.go.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.meta import uid_of
from kubecosm.api.names import FINALIZER_JOB_TRACKING
from kubecosm.api.resources import Object

from ...common.pods import is_active, is_terminating, phase_of
from . import backoff, failures, indexes
from .failures import Action
from .indexes import NO_INDEX, index_of, is_indexed


def has_tracking_finalizer(pod: Object) -> bool:
    return FINALIZER_JOB_TRACKING in (pod["metadata"].get("finalizers") or ())


def noted(job: Object, name: str) -> list[str]:
    """The uids that the status holds as `succeeded` or `failed`, but has not counted yet."""
    uncounted = (job.get("status") or {}).get("uncountedTerminatedPods") or {}
    return list(uncounted.get(name) or ())


@dataclass
class View:
    """A Job and its pods, sorted once for all decisions."""

    job: Object
    pods: Sequence[Object]
    now: datetime
    record: backoff.Record | None = None
    """The failures before these; None: unknown, and told by the pods that are still there, as after a restart of the controller."""
    active: list[Object] = field(init=False)
    new_succeeded: list[Object] = field(init=False)
    """Succeeded pods that are not in any number or list of the status yet."""
    new_failed: list[Object] = field(init=False)
    succeeded_indexes: set[int] = field(init=False)
    failed_indexes: set[int] = field(init=False)
    last_failed: dict[int, Object] = field(init=False)
    """With backoffLimitPerIndex: the pod that keeps the count of an index's failures, until a successor carries it on."""

    def __post_init__(self) -> None:
        status = self.job.get("status") or {}
        self.active = [pod for pod in self.pods if is_active(pod)]
        self.new_succeeded = [pod for pod in self._tracked(noted(self.job, "succeeded")) if phase_of(pod) == "Succeeded"]
        self.new_failed = [pod for pod in self._tracked(noted(self.job, "failed")) if failures.is_failed(self.job, pod)]
        self.succeeded_indexes = indexes.parse(status.get("completedIndexes"), self.completions or 0)
        self.failed_indexes = indexes.parse(status.get("failedIndexes"), self.completions or 0)
        if is_indexed(self.job):
            self.succeeded_indexes |= {index_of(pod) for pod in self.new_succeeded}
        if self.backoff_limit_per_index is not None:
            tracked = self._tracked(())
            self.failed_indexes |= {index_of(pod) for pod in tracked if failures.is_failed(self.job, pod) and self._fails_index(pod)}
            self.last_failed = self._last_failed(tracked)
        else:
            self.last_failed = {}
        self.record = backoff.plan_record(self._earlier_record(), self.new_succeeded, self.new_failed)

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
        counted = (self.job.get("status") or {}).get("succeeded", 0)
        return int(counted) + len(noted(self.job, "succeeded")) + len(self.new_succeeded)

    @property
    def failed(self) -> int:
        counted = (self.job.get("status") or {}).get("failed", 0)
        return int(counted) + len(noted(self.job, "failed")) + sum(self.counts_as_failure(pod) for pod in self.new_failed)

    @property
    def terminating(self) -> int:
        return sum(is_terminating(pod) for pod in self.pods)

    def counts_as_failure(self, pod: Object) -> bool:
        """Unless the policy says to ignore it."""
        return failures.judge(self.job, pod).action is not Action.IGNORE

    def has_valid_index(self, pod: Object) -> bool:
        """Pods of an indexed Job that have none, or one beyond the completions, count for nothing."""
        return not is_indexed(self.job) or NO_INDEX < index_of(pod) < (self.completions or 0)

    def _tracked(self, known: Collection[str]) -> list[Object]:
        uids = set(known)
        return [pod for pod in self.pods if has_tracking_finalizer(pod) and uid_of(pod) not in uids and self.has_valid_index(pod)]

    def _fails_index(self, pod: Object) -> bool:
        """The index has no try left, or the policy gives it up."""
        action = failures.judge(self.job, pod).action
        if action is Action.FAIL_INDEX:
            return True
        return action is not Action.IGNORE and indexes.failure_count(pod) >= (self.backoff_limit_per_index or 0)

    def _last_failed(self, tracked: Sequence[Object]) -> dict[int, Object]:
        """Of every index that is to be tried again: the failed pod with the most failures, and the latest of those."""
        through = self.succeeded_indexes | self.failed_indexes | {index_of(pod) for pod in self.active}
        last: dict[int, Object] = {}
        for pod in tracked:
            if failures.is_failed(self.job, pod) and (index := index_of(pod)) not in through:
                last[index] = max(last.get(index, pod), pod, key=self._try_rank)
        return last

    def _try_rank(self, pod: Object) -> tuple[int, datetime]:
        return indexes.tries(pod), backoff.finished_at(pod) or self.now

    def _earlier_record(self) -> backoff.Record:
        if self.record is not None:
            return self.record
        counted = [pod for pod in self.pods if not has_tracking_finalizer(pod)]
        succeeded, failed = ([pod for pod in counted if phase_of(pod) == phase] for phase in ("Succeeded", "Failed"))
        return backoff.plan_record(backoff.Record(), succeeded, failed)
