"""Which pods a Job starts and deletes next. Pure functions.

Imitates manageJob of pkg/controller/job/job_controller.go.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.resources import Object

from ...common.pods import PHASE_RANK, created_at, is_ready, is_terminating, node_of, phase_of, ready_since, restarts
from . import backoff, failures, indexes
from .indexes import NO_INDEX, index_of, is_indexed
from .view import View

PODS_PER_SYNC_MAX = 500


@dataclass(frozen=True)
class NewPod:
    """A pod to start: its index, and how often the index failed before."""

    index: int = NO_INDEX
    failures: int = 0
    ignored_failures: int = 0


@dataclass
class PodsPlan:
    """Start these, delete these, or look again after so many seconds."""

    create: list[NewPod] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    wait_seconds: float | None = None

    @property
    def action(self) -> str:
        """How the metrics of syncs call it."""
        if self.delete:
            return "pods_deleted"
        return "pods_created" if self.create or self.wait_seconds is not None else "tracking"


def wanted_active(view: View) -> int:
    """How many pods should be active now."""
    parallelism: int = view.job["spec"].get("parallelism", 1)
    if view.is_suspended:
        return 0
    if view.completions is None:
        return len(view.active) if view.succeeded > 0 else parallelism
    return min(max(view.completions - view.succeeded, 0), parallelism)


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
    wait = backoff.seconds_to_wait(view.record or backoff.Record(), view.now)
    if wait > 0:
        return PodsPlan(wait_seconds=wait)
    if not is_indexed(view.job):
        return PodsPlan(create=[NewPod()] * missing)
    return PodsPlan(create=[NewPod(index) for index in _pending_indexes(view)[:missing]])


def _superfluous(view: View, at_least: int) -> list[Object]:
    """Pods whose index is already taken or out of range, then as many more as needed."""
    remove, rest = _split_repeated(view) if is_indexed(view.job) else ([], view.active)
    if len(remove) < at_least:
        remove += _ranked(rest)[: at_least - len(remove)]
    return remove


def _split_repeated(view: View) -> tuple[list[Object], list[Object]]:
    """(pods without a valid index, or with one that a better pod has; one pod for each index)."""
    remove, rest = list[Object](), list[Object]()
    by_index: defaultdict[int, list[Object]] = defaultdict(list)
    for pod in view.active:
        by_index[index_of(pod)].append(pod)
    for index in sorted(by_index):
        *worse, best = _ranked(by_index[index])
        remove += worse
        (rest if NO_INDEX < index < (view.completions or 0) else remove).append(best)
    return remove, rest


def _ranked(pods: Sequence[Object]) -> list[Object]:
    """In the order they are deleted: the less a pod has come to, the sooner it goes (ActivePods of controller_utils.go)."""

    def rank(pod: Object) -> tuple[bool, int, bool, float, int, int, float]:
        ready, (regular, sidecars) = is_ready(pod), restarts(pod)
        since = _newest_first(ready_since(pod)) if ready else 0.0
        return bool(node_of(pod)), PHASE_RANK.get(phase_of(pod), 0), ready, since, -regular, -sidecars, _newest_first(created_at(pod))

    return sorted(pods, key=rank)


def _newest_first(moment: datetime | None) -> float:
    return -moment.timestamp() if moment is not None else -math.inf


def _pending_indexes(view: View) -> list[int]:
    taken = view.succeeded_indexes | view.failed_indexes | {index_of(pod) for pod in view.active}
    if failures.replaces_only_failed(view.job):
        taken |= {index_of(pod) for pod in view.pods if is_terminating(pod)}
    return [index for index in range(view.completions or 0) if index not in taken]


def _plan_independent(view: View, missing: int) -> PodsPlan:
    """Each index backs off by its own failures; one that waits keeps its place, so that later ones do not overtake it."""
    plan, waits = PodsPlan(), list[float]()
    for index in _pending_indexes(view)[:missing]:
        failed = view.last_failed.get(index)
        wait = 0.0
        if failed is not None:
            record = backoff.Record(indexes.tries(failed) + 1, backoff.finished_at(failed) or view.now)
            wait = backoff.seconds_to_wait(record, view.now)
        if wait > 0:
            waits.append(wait)
        else:
            plan.create.append(_after(view, failed, index))
    plan.wait_seconds = min(waits, default=None)
    return plan


def _after(view: View, failed: Object | None, index: int) -> NewPod:
    """The pod that follows a failed one of its index, if there was one."""
    if failed is None:
        return NewPod(index)
    counts = view.counts_as_failure(failed)
    return NewPod(index, indexes.failure_count(failed) + counts, indexes.ignored_failure_count(failed) + (not counts))
