"""Lists and sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..functions import Cost, Overload, of_tree, overload, static
from ..values import CelError, Duration, checked_int, checked_uint, equal

_ORDERED = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMMED: dict[str, Any] = {"int": 0, "uint": 0, "double": 0.0, "duration": Duration(0)}


def _sorted(items: list[Any]) -> bool:
    return all(not items[i + 1] < items[i] for i in range(len(items) - 1))


def _extreme(pick: Callable[[list[Any]], Any], name: str) -> Callable[[list[Any]], Any]:
    def impl(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        return pick(items)

    return impl


def _sum_of(kind: str) -> Callable[[list[Any]], Any]:
    def impl(items: list[Any]) -> Any:
        if kind == "duration":
            return Duration(sum(item.nanos for item in items))
        total = sum(items, _SUMMED[kind])
        return checked_int(total) if kind == "int" else checked_uint(total) if kind == "uint" else total

    return impl


def _index_of(items: list[Any], wanted: Any) -> int:
    return next((index for index, item in enumerate(items) if equal(item, wanted)), -1)


def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((index for index in range(len(items) - 1, -1, -1) if equal(items[index], wanted)), -1)


def _contains(items: list[Any], wanted: list[Any]) -> bool:
    return all(any(equal(item, one) for item in items) for one in wanted)


def _intersects(items: list[Any], others: list[Any]) -> bool:
    return any(equal(item, other) for item in items for other in others)


def _of_pairs(factor: int) -> Cost:
    return lambda args, result: 1 + len(args[0]) * len(args[1]) * factor


def declarations() -> list[tuple[str, Overload]]:
    found = []
    for kind in _ORDERED:
        found += [
            overload(f"list({kind}).isSorted() bool", _sorted, of_tree),
            overload(f"list({kind}).min() {kind}", _extreme(min, "min"), of_tree),
            overload(f"list({kind}).max() {kind}", _extreme(max, "max"), of_tree),
        ]
    found += [overload(f"list({kind}).sum() {kind}", _sum_of(kind), of_tree) for kind in _SUMMED]
    return [
        *found, overload("list(A).indexOf(A) int", _index_of, of_tree), overload("list(A).lastIndexOf(A) int", _last_index_of, of_tree),
        static("sets.contains", "(list(A), list(A)) bool", _contains, _of_pairs(1)),
        static("sets.equivalent", "(list(A), list(A)) bool", lambda a, b: _contains(a, b) and _contains(b, a), _of_pairs(2)),
        static("sets.intersects", "(list(A), list(A)) bool", _intersects, _of_pairs(1)),
    ]  # fmt: skip
