"""How many pods of each node match a selector, kept up to date as pods come and go.

Topology spreading and pod affinity ask this for the same few selectors again and again. Answering by walking over pods costs the size
of the cluster per decision; a counter costs one addition per pod that is placed, and an array read per decision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from kubecosm.api.selectors import DOUBLE_EQUALS, EQUALS, IN, LabelSelector

from .columns import Column, ColumnSet, IntArray
from .podinfo import PodInfo

COUNTERS_MAX = 1024
"""Selectors counted at once; the least recently used is dropped and counted afresh when it is asked for again."""


@dataclass(frozen=True)
class PodQuery:
    """Pods in any of `namespaces` (None: all) that match every selector. Terminating pods count unless `live_only`."""

    namespaces: frozenset[str] | None
    selectors: tuple[LabelSelector, ...]
    live_only: bool = False

    def matches(self, pod: PodInfo) -> bool:
        if self.namespaces is not None and pod.namespace not in self.namespaces:
            return False
        if self.live_only and pod.is_terminating:
            return False
        return all(selector.matches(pod.labels) for selector in self.selectors)


class Indexed(Protocol):
    """Something found through the pods it may concern."""

    @property
    def namespaces(self) -> frozenset[str] | None: ...

    @property
    def selectors(self) -> tuple[LabelSelector, ...]: ...


T = TypeVar("T", bound=Indexed)


def exact_label(selectors: Iterable[LabelSelector]) -> tuple[str, str] | None:
    """A label and value without which a pod cannot match, if the selectors demand one."""
    for selector in selectors:
        for requirement in selector.requirements:
            if len(requirement.values) == 1 and requirement.operator in (IN, EQUALS, DOUBLE_EQUALS):
                return requirement.key, requirement.values[0]
    return None


class SelectorIndex(Generic[T]):
    """Finds, for a pod, the entries that might select it, without trying them all: by namespace and one demanded label."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str | None, str, str], dict[T, None]] = {}
        self._by_namespace: dict[str | None, dict[T, None]] = {}

    def add(self, entry: T) -> None:
        for bucket in self._buckets(entry):
            bucket[entry] = None

    def remove(self, entry: T) -> None:
        for bucket in self._buckets(entry):
            bucket.pop(entry, None)

    def candidates(self, namespace: str, labels: Mapping[str, str]) -> Iterator[T]:
        """Every entry that could match a pod with these labels in this namespace; some may not."""
        for scope in (namespace, None):
            if bucket := self._by_namespace.get(scope):
                yield from bucket
            if self._by_label:
                for key, value in labels.items():
                    if found := self._by_label.get((scope, key, value)):
                        yield from found

    def _buckets(self, entry: T) -> Iterator[dict[T, None]]:
        label = exact_label(entry.selectors)
        scopes: Iterable[str | None] = (None,) if entry.namespaces is None else entry.namespaces
        for scope in scopes:
            if label is None:
                yield self._by_namespace.setdefault(scope, {})
            else:
                yield self._by_label.setdefault((scope, *label), {})


class PodsByNamespace:
    """Every placed pod with its row, by namespace and uid: what a new counter starts from."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, tuple[int, PodInfo]]] = {}

    def add(self, row: int, pod: PodInfo) -> None:
        self._pods.setdefault(pod.namespace, {})[pod.uid] = (row, pod)

    def remove(self, pod: PodInfo) -> None:
        pods = self._pods[pod.namespace]
        del pods[pod.uid]
        if not pods:
            del self._pods[pod.namespace]

    def within(self, namespaces: frozenset[str] | None) -> Iterator[tuple[int, PodInfo]]:
        for namespace in list(self._pods) if namespaces is None else namespaces:
            yield from self._pods.get(namespace, {}).values()


class PodCounters:
    """The counters in use, least recently used first."""

    def __init__(self, columns: ColumnSet, pods: PodsByNamespace) -> None:
        self._columns = columns
        self._pods = pods
        self._counts: OrderedDict[PodQuery, Column] = OrderedDict()
        self._index: SelectorIndex[PodQuery] = SelectorIndex()

    def per_node(self, query: PodQuery) -> IntArray:
        """Per row the number of placed pods that match; a live array, not to be written or kept."""
        column = self._counts.get(query)
        if column is None:
            column = self._start(query)
        else:
            self._counts.move_to_end(query)
        return column.data[: self._columns.size]

    def pod_added(self, row: int, pod: PodInfo) -> None:
        self._count(row, pod, 1)

    def pod_removed(self, row: int, pod: PodInfo) -> None:
        self._count(row, pod, -1)

    def _count(self, row: int, pod: PodInfo, sign: int) -> None:
        if self._counts:
            for query in self._index.candidates(pod.namespace, pod.labels):
                if query.matches(pod):
                    self._counts[query].data[row] += sign

    def _start(self, query: PodQuery) -> Column:
        column = self._counts[query] = self._columns.add(np.int64)
        self._index.add(query)
        for row, pod in self._pods.within(query.namespaces):
            if query.matches(pod):
                column.data[row] += 1
        if len(self._counts) > COUNTERS_MAX:
            oldest, dropped = self._counts.popitem(last=False)
            self._columns.drop(dropped)
            self._index.remove(oldest)
        return column
