"""The node table: allocatable, requested, labels, taints and images of every node as columns.

Rows are given out lowest first and reused. `exists` tells which rows hold a node. Everything a Filter or Score reads lies here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kubecosm.api import names
from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object

from .columns import ROWS_INITIAL, BoolArray, Column, ColumnSet, IntArray, LabelColumns
from .podinfo import PodInfo
from .requests import PODS, amounts

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
TAINT_LISTS_MAX = 65536


class Taint(NamedTuple):
    key: str
    value: str
    effect: str


Taints = tuple[Taint, ...]


class Interned:
    """Small integers for distinct values that many rows share; ids stay valid until `compact`."""

    def __init__(self) -> None:
        self.values: list[Taints] = [()]
        self._id_of: dict[Taints, int] = {(): 0}

    def id(self, value: Taints) -> int:
        found = self._id_of.get(value)
        if found is None:
            found = self._id_of[value] = len(self.values)
            self.values.append(value)
        return found


class NodeTable:
    """Every node the scheduler knows, by row."""

    def __init__(self) -> None:
        self.columns = ColumnSet()
        self.row_of: dict[str, int] = {}
        self.names: list[str] = []
        self.objects: list[Object | None] = []
        self.pods: list[dict[str, PodInfo]] = []
        """Per row the pods that run or are assumed there, by uid."""
        self.generations: IntArray = np.zeros(ROWS_INITIAL, np.int64)
        """Per row a number that changes with the node and with each of its pods, and never returns; perhaps longer than `size`."""
        self.labels_by_row: list[dict[str, str]] = []
        self.labels = LabelColumns(self.columns, self.labels_by_row)
        self.taint_lists = Interned()
        self.taints_version = 0
        self.version = 0
        """Changes when a node comes or goes."""
        self.images: dict[str, dict[int, int]] = {}
        """Image name → row → size in bytes."""
        self._image_names: dict[int, tuple[str, ...]] = {}
        self._names_now: tuple[int, tuple[str, ...]] = (-1, ())
        self._free: list[int] = []
        self._exists = self.columns.add(np.bool_)
        self._unschedulable = self.columns.add(np.bool_)
        self._taints = self.columns.add(np.int32)
        self._allocatable: dict[str, Column] = {}
        self._requested: dict[str, Column] = {}
        self._nonzero = (self.columns.add(np.int64), self.columns.add(np.int64))

    # ---- reading

    @property
    def names_now(self) -> tuple[str, ...]:
        """`names` as it is now, shared by all who ask before it changes."""
        if self._names_now[0] != self.version:
            self._names_now = (self.version, tuple(self.names))
        return self._names_now[1]

    @property
    def count(self) -> int:
        return len(self.row_of)

    @property
    def size(self) -> int:
        """Rows in use, holes included: the length of every array below."""
        return self.columns.size

    @property
    def exists(self) -> BoolArray:
        return self._exists.data[: self.size]

    @property
    def unschedulable(self) -> BoolArray:
        return self._unschedulable.data[: self.size]

    @property
    def taint_ids(self) -> IntArray:
        """Per row the index of its taints in `taint_lists.values`."""
        return self._taints.data[: self.size]

    @property
    def nonzero_cpu(self) -> IntArray:
        return self._nonzero[0].data[: self.size]

    @property
    def nonzero_memory(self) -> IntArray:
        return self._nonzero[1].data[: self.size]

    def allocatable(self, resource: str) -> IntArray:
        return self._resource(self._allocatable, resource).data[: self.size]

    def requested(self, resource: str) -> IntArray:
        """What the pods of each node request; for `pods` their number."""
        return self._resource(self._requested, resource).data[: self.size]

    def taints_of(self, row: int) -> Taints:
        return self.taint_lists.values[int(self._taints.data[row])]

    def _resource(self, columns: dict[str, Column], resource: str) -> Column:
        column = columns.get(resource)
        if column is None:
            column = columns[resource] = self.columns.add(np.int64)
        return column

    # ---- nodes come, change and go

    def set_node(self, node: Object) -> int:
        """Add or update a node; answers its row."""
        name = node["metadata"]["name"]
        row = self.row_of.get(name)
        if row is None:
            row = self._new_row(name)
        self.generations[row] += 1
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.objects[row] = node
        self._set_labels(row, labels_of(node))
        self._unschedulable.data[row] = bool(spec.get("unschedulable"))
        taints = taints_of(node)
        if taints != self.taints_of(row):
            self._set_taints(row, taints)
        available = amounts(status.get("allocatable"))
        for resource in self._allocatable.keys() - available.keys():
            self._allocatable[resource].data[row] = 0
        for resource, value in available.items():
            self._resource(self._allocatable, resource).data[row] = value
        self._set_images(row, status.get("images") or ())
        return row

    def remove_node(self, name: str) -> None:
        """Forget a node and its row; its pods must have been removed."""
        row = self.row_of.pop(name)
        self._set_labels(row, {})
        self._set_images(row, ())
        self.columns.reset_row(row)
        self.names[row], self.objects[row] = "", None
        self.pods[row] = {}
        self.generations[row] += 1
        heapq.heappush(self._free, row)
        self.version += 1
        self.taints_version += 1

    def _new_row(self, name: str) -> int:
        if self._free:
            row = heapq.heappop(self._free)
            self.names[row] = name
        else:
            row = len(self.names)
            self.columns.reserve(row)
            self.names.append(name)
            self.objects.append(None)
            self.pods.append({})
            if row == len(self.generations):
                self.generations = np.concatenate((self.generations, np.zeros_like(self.generations)))
            self.labels_by_row.append({})
        self.row_of[name] = row
        self._exists.data[row] = True
        self.version += 1
        self.taints_version += 1
        return row

    def _set_labels(self, row: int, labels: dict[str, str]) -> None:
        if labels != self.labels_by_row[row]:
            self.labels_by_row[row] = labels
            self.labels.update_row(row, labels)

    def _set_taints(self, row: int, taints: Taints) -> None:
        if len(self.taint_lists.values) > TAINT_LISTS_MAX:
            self._rebuild_taints()
        self._taints.data[row] = self.taint_lists.id(taints)
        self.taints_version += 1

    def _rebuild_taints(self) -> None:
        """Drop the taint lists that no node has any more."""
        old, self.taint_lists = self.taint_lists, Interned()
        for row in self.row_of.values():
            self._taints.data[row] = self.taint_lists.id(old.values[int(self._taints.data[row])])

    def _set_images(self, row: int, images: Iterable[Object]) -> None:
        sizes = {name: int(image.get("sizeBytes") or 0) for image in images for name in image.get("names") or ()}
        if not sizes and row not in self._image_names:
            return
        for name in self._image_names.pop(row, ()):
            rows = self.images[name]
            del rows[row]
            if not rows:
                del self.images[name]
        for name, size in sizes.items():
            self.images.setdefault(name, {})[row] = size
        if sizes:
            self._image_names[row] = tuple(sizes)

    # ---- pods come and go

    def add_pod(self, row: int, pod: PodInfo) -> None:
        """Count a pod that runs, or is assumed to run, on the node of `row`."""
        self.pods[row][pod.uid] = pod
        self._count(row, pod, 1)

    def remove_pod(self, row: int, pod: PodInfo) -> None:
        """Undo `add_pod` with the very PodInfo that was added."""
        del self.pods[row][pod.uid]
        self._count(row, pod, -1)

    def _count(self, row: int, pod: PodInfo, sign: int) -> None:
        self.generations[row] += 1
        for resource, value in pod.requests.items():
            self._resource(self._requested, resource).data[row] += sign * value
        self._resource(self._requested, PODS).data[row] += sign
        self._nonzero[0].data[row] += sign * pod.nonzero_cpu
        self._nonzero[1].data[row] += sign * pod.nonzero_memory


def taints_of(node: Object) -> Taints:
    """The taints of a Node object."""
    taints = (node.get("spec") or {}).get("taints")
    return tuple(_taint(t["key"], t.get("value") or "", t["effect"]) for t in taints) if taints else ()


@lru_cache(maxsize=1024)
def _taint(key: str, value: str, effect: str) -> Taint:
    return Taint(key, value, effect)


UNSCHEDULABLE_TAINT = Taint(names.TAINT_UNSCHEDULABLE, "", NO_SCHEDULE)
"""What a cordoned node counts as for pods that tolerate it."""
