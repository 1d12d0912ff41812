"""Growing numpy columns with one cell per node row, and the label columns that turn label values into small integers.

A row is a node's place in every column for as long as the node lives. Columns double when rows run out, so adding nodes is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
IdArray = NDArray[np.int32]
FloatArray = NDArray[np.float64]

Rows = slice | NDArray[np.intp]
"""Which rows a question is about: `ALL`, one row as a slice, or an array of row numbers."""

ALL = slice(None)
ROWS_INITIAL = 16
MISSING = -1
"""Id of the value of a label that a node does not carry."""


class Column:
    """One cell per row. `data` is as long as the capacity; use `ColumnSet.size` to cut it."""

    __slots__ = ("data", "fill")

    def __init__(self, capacity: int, dtype: Any, fill: int) -> None:
        self.fill = fill
        self.data: NDArray[Any] = np.full(capacity, fill, dtype)

    def grow(self, capacity: int) -> None:
        grown = np.full(capacity, self.fill, self.data.dtype)
        grown[: len(self.data)] = self.data
        self.data = grown


class ColumnSet:
    """All columns of one table; they grow together. `size` is one more than the highest row ever in use."""

    def __init__(self) -> None:
        self.size = 0
        self._capacity = ROWS_INITIAL
        self._columns: dict[int, Column] = {}

    def add(self, dtype: Any, fill: int = 0) -> Column:
        column = Column(self._capacity, dtype, fill)
        self._columns[id(column)] = column
        return column

    def drop(self, column: Column) -> None:
        self._columns.pop(id(column), None)

    def reserve(self, row: int) -> None:
        """Make `row` exist in every column."""
        if row >= self._capacity:
            while row >= self._capacity:
                self._capacity *= 2
            for column in self._columns.values():
                column.grow(self._capacity)
        self.size = max(self.size, row + 1)

    def reset_row(self, row: int) -> None:
        """Give a freed row its initial values back in every column."""
        for column in self._columns.values():
            column.data[row] = column.fill


class LabelColumn:
    """The values of one label over all nodes: `ids` holds per row the index into `values`, or MISSING."""

    def __init__(self, columns: ColumnSet, key: str) -> None:
        self.key = key
        self.values: list[str] = []
        self.id_of: dict[str, int] = {}
        self._column = columns.add(np.int32, MISSING)
        self._columns = columns
        self._uses: list[int] = []
        self._shared = 0
        self._slots: NDArray[np.intp] | None = None

    @property
    def ids(self) -> IdArray:
        """Value ids of the rows in use."""
        return self._column.data[: self._columns.size]

    @property
    def is_unique(self) -> bool:
        """No two nodes share a value, as with kubernetes.io/hostname."""
        return self._shared == 0

    def set(self, row: int, value: str | None) -> None:
        old = int(self._column.data[row])
        if old != MISSING and value is not None and self.values[old] == value:
            return
        self._slots = None
        if old != MISSING:
            self._uses[old] -= 1
            self._shared -= self._uses[old] == 1
        if value is None:
            self._column.data[row] = MISSING
            return
        new = self.id_of.get(value)
        if new is None:
            new = self.id_of[value] = len(self.values)
            self.values.append(value)
            self._uses.append(0)
        self._uses[new] += 1
        self._shared += self._uses[new] == 2
        self._column.data[row] = new

    @property
    def slots(self) -> NDArray[np.intp]:
        """One more than the value id of each row in use, so that MISSING has a slot, too: what numpy indexes fastest with."""
        slots = self._slots
        if slots is None or len(slots) != self._columns.size:
            slots = self._slots = self.ids.astype(np.intp) + 1
        return slots

    def in_same_domain(self, chosen: BoolArray) -> BoolArray:
        """Rows that share their value with a chosen row; False where the label is missing."""
        if self.is_unique:
            alone: BoolArray = chosen & (self.ids != MISSING)
            return alone
        slots = self.slots
        found = np.zeros(len(self.values) + 1, np.bool_)
        found[slots[chosen]] = True
        found[0] = False
        together: BoolArray = found[slots]
        return together

    def domain_sums(self, amounts: NDArray[Any], where: BoolArray | None = None) -> IntArray:
        """Per value id the sum of `amounts` (one per row) over the rows `where` holds; rows without the label count nowhere.

        One more cell than values: the last one is always 0, so that MISSING, as an index, finds nothing.
        """
        slots = self.slots
        if where is not None and not where.all():
            slots, amounts = slots[where], amounts[where]
        sums = np.zeros(len(self.values) + 1, np.int64)
        sums[:-1] = np.bincount(slots, weights=amounts, minlength=len(sums))[1:]
        return sums


class LabelColumns:
    """Label columns, made when a selector or a topology first asks for a key. `version` changes with any label of any node."""

    def __init__(self, columns: ColumnSet, labels: Sequence[Mapping[str, str]]) -> None:
        self.version = 0
        self._columns = columns
        self._labels = labels
        self._by_key: dict[str, LabelColumn] = {}

    def get(self, key: str) -> LabelColumn:
        column = self._by_key.get(key)
        if column is None:
            column = self._by_key[key] = self._build(key)
        elif len(column.values) > 2 * self._columns.size + 64:
            self._columns.drop(column._column)
            column = self._by_key[key] = self._build(key)
        return column

    def update_row(self, row: int, labels: Mapping[str, str]) -> None:
        self.version += 1
        for key, column in self._by_key.items():
            column.set(row, labels.get(key))

    def _build(self, key: str) -> LabelColumn:
        """A fresh column, free of values that no node carries any more."""
        column = LabelColumn(self._columns, key)
        for row, labels in enumerate(self._labels):
            if key in labels:
                column.set(row, labels[key])
        return column
