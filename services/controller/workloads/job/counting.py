"""What ended pods count as. Pure functions.

Imitates trackJobStatusAndRemoveFinalizers of pkg/controller/job/job_controller.go. Counting goes by finalizers: a pod that ended is
noted in status.uncountedTerminatedPods, loses its finalizer, and only then becomes a number; so a crash at any point neither loses nor
doubles it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kubecosm.api.meta import is_deleting, uid_of
from kubecosm.api.resources import Object

from ...common.pods import is_terminal, phase_of
from . import failures, indexes
from .failures import Action
from .indexes import index_of, is_indexed
from .target import FAILURE_TARGET, Target
from .view import View, has_tracking_finalizer, noted

UNCOUNTED_PODS_MAX = 500
"""So many uids fit into a status."""


@dataclass
class CountPlan:
    """Uids to note as succeeded and failed, and the pods whose finalizer may then go."""

    succeeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    """How many of the pods each action of the failure policy was taken for."""
    is_partial: bool = False
    """More pods than one status can hold: another sync must follow."""


def plan_counting(view: View, target: Target | None) -> CountPlan:
    """Which ended pods become counted now. When the Job ends badly every pod that has not succeeded counts as failed."""
    plan, job = CountPlan(), view.job
    known = {name: set(noted(job, name)) for name in ("succeeded", "failed")}
    held = {uid_of(pod) for pod in view.pods if has_tracking_finalizer(pod)}
    room = UNCOUNTED_PODS_MAX - len(held & (known["succeeded"] | known["failed"]))
    old_indexes = indexes.parse((job.get("status") or {}).get("completedIndexes"), view.completions or 0)
    for pod in view.pods:
        if not has_tracking_finalizer(pod) or not _may_release(view, pod, target):
            continue
        plan.release.append(pod)
        uid = uid_of(pod)
        if phase_of(pod) == "Succeeded" and uid not in known["failed"]:
            if is_indexed(job):  # the index is count enough
                room -= view.has_valid_index(pod) and index_of(pod) not in old_indexes
            elif uid not in known["succeeded"]:
                plan.succeeded.append(uid)
        elif _fails_now(view, pod, target) and uid not in known["failed"] and view.has_valid_index(pod):
            _note_failure(view, pod, plan)
        if len(plan.succeeded) + len(plan.failed) >= room:
            plan.is_partial = True
            break
    return plan


def _may_release(view: View, pod: Object, target: Target | None) -> bool:
    """The pod is through, or its Job is; the last failed pod of an index keeps the count of its failures until a successor has it."""
    if is_deleting(view.job) or target is not None or phase_of(pod) == "Succeeded":
        return True
    if not failures.is_failed(view.job, pod):
        return False
    keeper = view.last_failed.get(index_of(pod))
    return keeper is None or uid_of(keeper) != uid_of(pod)


def _fails_now(view: View, pod: Object, target: Target | None) -> bool:
    return failures.is_failed(view.job, pod) or (target is not None and target.type == FAILURE_TARGET)


def _note_failure(view: View, pod: Object, plan: CountPlan) -> None:
    if view.job["spec"].get("podFailurePolicy") is not None:
        verdict = failures.judge(view.job, pod)
        if verdict.matched:
            plan.judged[verdict.action] += 1
        if verdict.action is Action.IGNORE:
            return
    plan.failed.append(uid_of(pod))


def is_ended_and_tracked(pod: Object) -> bool:
    """What terminated_pods_tracking_finalizer_total counts."""
    return is_terminal(pod) and has_tracking_finalizer(pod)
