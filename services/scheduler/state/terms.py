"""The (anti-)affinity terms of placed pods, grouped: equal terms of many pods are one group with a count per node.

An incoming pod asks which groups select it: a required anti-affinity term that does keeps it out of that pod's topology domain, the
others raise or lower scores there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from kubecosm.api.selectors import NOTHING, LabelSelector

from .columns import Column, ColumnSet, IntArray
from .counters import SelectorIndex
from .podinfo import NO_POD_AFFINITY, AffinityTerm, PodInfo


class TermKind(Enum):
    REQUIRED = "required"
    PREFERRED = "preferred"
    ANTI_REQUIRED = "anti-required"
    ANTI_PREFERRED = "anti-preferred"


@dataclass(frozen=True)
class TermGroup:
    """All placed pods with this very term."""

    kind: TermKind
    term: AffinityTerm

    @property
    def namespaces(self) -> frozenset[str] | None:
        return self.term.namespaces if self.term.namespace_selector == NOTHING else None

    @property
    def selectors(self) -> tuple[LabelSelector, ...]:
        return (self.term.selector,)


def term_matches(term: AffinityTerm, pod: PodInfo, namespace_labels: Mapping[str, str]) -> bool:
    """Whether the term is about `pod`, whose namespace has these labels (AffinityTerm.Matches)."""
    in_scope = pod.namespace in term.namespaces or term.namespace_selector.matches(namespace_labels)
    return in_scope and term.selector.matches(pod.labels)


class TermGroups:
    """The groups of all placed pods; a group lives as long as a pod has its term."""

    def __init__(self, columns: ColumnSet) -> None:
        self._columns = columns
        self._counts: dict[TermGroup, Column] = {}
        self._totals: dict[TermGroup, int] = {}
        self._index: dict[TermKind, SelectorIndex[TermGroup]] = {kind: SelectorIndex() for kind in TermKind}
        self._sizes: dict[TermKind, int] = dict.fromkeys(TermKind, 0)

    def any_of(self, *kinds: TermKind) -> bool:
        """Whether any placed pod has a term of these kinds."""
        return any(self._sizes[kind] for kind in kinds)

    def selecting(self, kind: TermKind, pod: PodInfo, namespace_labels: Mapping[str, str]) -> Iterator[tuple[AffinityTerm, IntArray]]:
        """Terms of `kind` that select `pod`, each with how many pods of every node have it (a live array)."""
        if not self._sizes[kind]:
            return
        size = self._columns.size
        for group in self._index[kind].candidates(pod.namespace, pod.labels):
            if term_matches(group.term, pod, namespace_labels):
                yield group.term, self._counts[group].data[:size]

    def pod_added(self, row: int, pod: PodInfo) -> None:
        if pod.affinity is not NO_POD_AFFINITY:
            for group in _groups_of(pod):
                self._add(group, row)

    def pod_removed(self, row: int, pod: PodInfo) -> None:
        if pod.affinity is not NO_POD_AFFINITY:
            for group in _groups_of(pod):
                self._remove(group, row)

    def _add(self, group: TermGroup, row: int) -> None:
        column = self._counts.get(group)
        if column is None:
            column = self._counts[group] = self._columns.add(np.int64)
            self._totals[group] = 0
            self._index[group.kind].add(group)
            self._sizes[group.kind] += 1
        column.data[row] += 1
        self._totals[group] += 1

    def _remove(self, group: TermGroup, row: int) -> None:
        self._counts[group].data[row] -= 1
        self._totals[group] -= 1
        if not self._totals[group]:
            self._columns.drop(self._counts.pop(group))
            del self._totals[group]
            self._index[group.kind].remove(group)
            self._sizes[group.kind] -= 1


def _groups_of(pod: PodInfo) -> Iterator[TermGroup]:
    affinity = pod.affinity
    for kind, terms in (
        (TermKind.REQUIRED, affinity.required), (TermKind.PREFERRED, affinity.preferred),
        (TermKind.ANTI_REQUIRED, affinity.anti_required), (TermKind.ANTI_PREFERRED, affinity.anti_preferred),
    ):  # fmt: skip
        for term in terms:
            yield TermGroup(kind, term)
