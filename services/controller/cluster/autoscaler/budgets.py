"""What disruption budgets still allow while nodes are judged one after the other (core/scaledown/pdb). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object
from kubecosm.api.selectors import LabelSelector, SelectorError, from_label_selector


class Budgets:
    """Counts down as pods are planned to be moved."""

    def __init__(self, budgets: Iterable[Object]) -> None:
        self._budgets = [(one, selector) for one in budgets if (selector := _selector(one)) is not None]
        self._left = [int((one.get("status") or {}).get("disruptionsAllowed") or 0) for one, _ in self._budgets]

    def covers(self, pod: Object) -> bool:
        """Whether any budget is about this pod."""
        return bool(self._of(pod))

    def allow(self, pods: Sequence[Object]) -> bool:
        """Whether all of these may be moved at once."""
        wanted = self._wanted(pods)
        return all(count <= self._left[index] for index, count in wanted.items())

    def take(self, pods: Sequence[Object]) -> None:
        for index, count in self._wanted(pods).items():
            self._left[index] -= count

    def _wanted(self, pods: Sequence[Object]) -> dict[int, int]:
        wanted: dict[int, int] = {}
        for pod in pods:
            for index in self._of(pod):
                wanted[index] = wanted.get(index, 0) + 1
        return wanted

    def _of(self, pod: Object) -> list[int]:
        namespace, labels = pod["metadata"]["namespace"], labels_of(pod)
        return [
            index for index, (one, selector) in enumerate(self._budgets)
            if one["metadata"]["namespace"] == namespace and selector.matches(labels)
        ]  # fmt: skip


def _selector(budget: Object) -> LabelSelector | None:
    try:
        return from_label_selector(budget["spec"].get("selector"))
    except SelectorError:
        return None
