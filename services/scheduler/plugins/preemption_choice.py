"""The pure part of preemption: which pods of a node would have to go, and which node is the best one to clear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from kubecosm.api import selectors
from kubecosm.api.resources import Object

from ..framework.status import Status
from ..state.podinfo import PodInfo
from ..state.requests import PODS
from .noderesources import lacking_status


@dataclass(frozen=True)
class Candidate:
    """A node where the pod would fit without `victims` (most important first), `violations` of which break a disruption budget."""

    row: int
    victims: tuple[PodInfo, ...]
    violations: int

    @cached_property
    def figures(self) -> tuple[int, int, int, int, int]:
        """The least is best: broken budgets, highest priority, sum of priorities, number, age of the oldest of the highest priority."""
        priorities = [victim.priority for victim in self.victims]
        highest = priorities[0] if priorities else -(2**31)
        since = min((start_time(victim) for victim in self.victims if victim.priority == highest), default="")
        return self.violations, highest, sum(priorities) + 2**31 * len(priorities), len(priorities), -_as_number(since)


CRITERIA = 5
"""How many figures a candidate has."""


def _as_number(time: str) -> int:
    """Second by second, a later time is a larger number."""
    digits = "".join(filter(str.isdigit, time))
    return int(f"{digits:0<14}"[:14])


def importance(pod: PodInfo) -> tuple[int, str]:
    """Sorts the most important pod first: by priority, then by how long it has run (MoreImportantPod)."""
    return -pod.priority, start_time(pod)


def start_time(pod: PodInfo) -> str:
    """When the pod started; one that has not sorts as the youngest."""
    return (pod.pod.get("status") or {}).get("startTime") or "9999"


def choose_victims(
    row: int, lower: Sequence[PodInfo], names: Sequence[str], room: list[int], budgets: Sequence[Object]
) -> Candidate | list[str]:
    """Victims among the `lower`-priority pods of a node (the most important first), by requests alone.

    `room` is what the node has left of each of `names` beside the incoming pod, negative where it lacks; the first name is `pods`. Answers
    the names of what would be lacking even if all of `lower` went.
    """
    room[0] += len(lower)
    for index, name in enumerate(names[1:], 1):
        for pod in lower:
            room[index] += pod.requests.get(name, 0)
    if min(room) < 0:
        return [name for name, left in zip(names, room, strict=True) if left < 0]
    violating, others = split_by_budget(lower, budgets)
    victims = [pod for pod in violating if not _keep(pod, names, room)]
    violations = len(victims)
    victims += [pod for pod in others if not _keep(pod, names, room)]
    if violations:
        victims.sort(key=importance)
    return Candidate(row, tuple(victims), violations)


def _keep(pod: PodInfo, names: Sequence[str], room: list[int]) -> bool:
    """Let the pod stay if there is room for it; takes that out of `room`."""
    needs = pod.requests
    if room[0] < 1:
        return False
    for index, name in enumerate(names):
        if index and needs.get(name, 0) > room[index]:
            return False
    room[0] -= 1
    for index, name in enumerate(names):
        if index:
            room[index] -= needs.get(name, 0)
    return True


def hopeless_status(lacking: Sequence[str], names: Sequence[str], wanted: Sequence[int], allocatable: Sequence[int]) -> Status:
    """What NodeResourcesFit would say of a node that lacks these even without victims."""
    too_large = {name for name, want, has in zip(names, wanted, allocatable, strict=True) if want > has and name != PODS}
    return lacking_status(lacking, not too_large.isdisjoint(lacking))


def pick(candidates: Sequence[Candidate]) -> Candidate:
    """The node to preempt on (pickOneNodeForPreemption).

    Fewest broken budgets, then the lowest priority of its most important victim, the lowest sum of priorities, the fewest victims, the
    youngest of its most important victims; then whichever comes first.
    """
    return min(candidates, key=lambda candidate: candidate.figures)


def split_by_budget(pods: Iterable[PodInfo], budgets: Sequence[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """(pods whose removal would break a PodDisruptionBudget, the others), in the given order (filterPodsWithPDBViolation)."""
    if not budgets:
        return [], list(pods)
    allowed = [(budget.get("status") or {}).get("disruptionsAllowed") or 0 for budget in budgets]
    compiled = [_budget_selector(budget) for budget in budgets]
    violating: list[PodInfo] = []
    others: list[PodInfo] = []
    for pod in pods:
        breaks = False
        for index, budget in enumerate(budgets if pod.labels else ()):
            selector, same_namespace = compiled[index], budget["metadata"].get("namespace") == pod.namespace
            if not same_namespace or selector.is_everything or not selector.matches(pod.labels):
                continue
            if pod.name in ((budget.get("status") or {}).get("disruptedPods") or {}):
                continue
            allowed[index] -= 1
            breaks = breaks or allowed[index] < 0
        (violating if breaks else others).append(pod)
    return violating, others


def _budget_selector(budget: Object) -> selectors.LabelSelector:
    try:
        return selectors.from_label_selector((budget.get("spec") or {}).get("selector"))
    except selectors.SelectorError:
        return selectors.NOTHING
