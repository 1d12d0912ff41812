"""Quantities and semantic versions. Imitates library/quantity.go and semverlib.go."""

from __future__ import annotations

import re
from typing import Any

from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.quantity import parse as parse_quantity

from ..functions import Overload, overload, traversal
from ..values import INT_MAX, INT_MIN, CelError, Opaque


class QuantityValue(Opaque):
    """`quantity("500m")`."""

    __slots__ = ("quantity",)
    cel_kind = "kubernetes.Quantity"

    def __init__(self, quantity: Quantity) -> None:
        self.quantity = quantity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and other.quantity == self.quantity

    def __hash__(self) -> int:
        return hash(self.quantity)


def _quantity(text: str) -> QuantityValue:
    try:
        return QuantityValue(parse_quantity(text))
    except QuantityError as error:
        raise CelError(str(error)) from None


def _valid(parse: Any) -> Any:
    def impl(*args: Any) -> bool:
        try:
            parse(*args)
        except CelError:
            return False
        return True

    return impl


def _nanos(value: QuantityValue) -> int:
    return value.quantity.scaled_value(-9)


def _is_integer(value: QuantityValue) -> bool:
    return _nanos(value) % 10**9 == 0 and INT_MIN <= _nanos(value) // 10**9 <= INT_MAX


def _as_integer(value: QuantityValue) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return _nanos(value) // 10**9


def _compared(one: QuantityValue, other: QuantityValue) -> int:
    return (_nanos(one) > _nanos(other)) - (_nanos(one) < _nanos(other))


def _with_int(value: QuantityValue, number: int) -> QuantityValue:
    return QuantityValue(value.quantity + Quantity.from_value(number))


# ---- versions


_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?$"
)


class Semver(Opaque):
    """A version of Semantic Versioning 2; `order` sorts as it asks for."""

    __slots__ = ("major", "minor", "order", "patch")
    cel_kind = "kubernetes.Semver"

    def __init__(self, match: re.Match[str]) -> None:
        self.major, self.minor, self.patch = int(match[1]), int(match[2]), int(match[3])
        parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in match[4].split(".")] if match[4] else []
        self.order = (self.major, self.minor, self.patch, not parts, tuple(parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and other.order == self.order

    def __hash__(self) -> int:
        return hash(self.order)


def parse_semver(text: str, normalize: bool = False) -> Semver:
    written = _normalized(text) if normalize else text
    match = _VERSION.match(written)
    if match is None:
        raise CelError(f"invalid semver: {text}" if text else "Version string empty")
    return Semver(match)


def _normalized(text: str) -> str:
    """Without a leading v and leading zeros, with missing parts as zeros."""
    core = re.match(r"v?(\d+(?:\.\d+){0,2})(.*)$", text, re.DOTALL)
    if core is None:
        return text
    parts = [str(int(part)) for part in core[1].split(".")]
    if len(parts) < 3 and core[2]:
        return text
    return ".".join([*parts, "0", "0"][:3]) + core[2]


def declarations() -> list[tuple[str, Overload]]:
    once = traversal()
    quantity = "kubernetes.Quantity"
    found = [
        overload(f"quantity(string) {quantity}", _quantity, once), overload("isQuantity(string) bool", _valid(_quantity), once),
        overload(f"{quantity}.sign() int", lambda q: (_nanos(q) > 0) - (_nanos(q) < 0)),
        overload(f"{quantity}.isInteger() bool", _is_integer),
        overload(f"{quantity}.asInteger() int", _as_integer),
        overload(f"{quantity}.asApproximateFloat() double", lambda q: _nanos(q) / 1e9),
        overload(f"{quantity}.add({quantity}) {quantity}", lambda a, b: QuantityValue(a.quantity + b.quantity)),
        overload(f"{quantity}.add(int) {quantity}", _with_int),
        overload(f"{quantity}.sub({quantity}) {quantity}", lambda a, b: QuantityValue(a.quantity - b.quantity)),
        overload(f"{quantity}.sub(int) {quantity}", lambda a, n: _with_int(a, -n)),
        overload("semver(string) kubernetes.Semver", parse_semver, once),
        overload("semver(string, bool) kubernetes.Semver", parse_semver, once),
        overload("isSemver(string) bool", _valid(parse_semver), once), overload("isSemver(string, bool) bool", _valid(parse_semver), once),
        *(overload(f"kubernetes.Semver.{part}() int", _part(part)) for part in ("major", "minor", "patch")),
    ]  # fmt: skip
    for kind, compare in ((quantity, _compared), ("kubernetes.Semver", lambda a, b: (a.order > b.order) - (a.order < b.order))):
        found += [
            overload(f"{kind}.compareTo({kind}) int", compare),
            overload(f"{kind}.isGreaterThan({kind}) bool", lambda a, b, compare=compare: compare(a, b) > 0),
            overload(f"{kind}.isLessThan({kind}) bool", lambda a, b, compare=compare: compare(a, b) < 0),
        ]
    return found


def _part(name: str) -> Any:
    return lambda version: getattr(version, name)


