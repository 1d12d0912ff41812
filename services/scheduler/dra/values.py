"""Values of device selectors and what can be done with them. Integers and strings are Python's; quantities and versions have types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubecosm.api.quantity import Quantity, QuantityError

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class CelError(Exception):
    """An expression that is not understood, or has no value for this device."""


class Domains(dict[str, "dict[str, Any]"]):
    """Attributes or capacities by domain: a domain that a device does not know is an empty one."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, order=True)
class Semver:
    """A semantic version; a pre-release comes before its release."""

    numbers: tuple[int, int, int]
    is_release: bool = True
    pre_release: tuple[tuple[bool, int, str], ...] = ()

    @staticmethod
    def of(text: str) -> Semver:
        match = SEMVER.fullmatch(text)
        if match is None:
            raise CelError(f"Invalid character(s) found in version {text!r}")
        parts = match[4].split(".") if match[4] else []
        ranked = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
        return Semver((int(match[1]), int(match[2]), int(match[3])), not parts, ranked)


def same(left: Any, right: Any) -> bool:
    """Equality of CEL: values of different types are different, but numbers compare as numbers."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return type(left) is type(right) and bool(left == right)


def operate(operator: str, left: Any, right: Any) -> Any:
    """A comparison or arithmetic; CelError if the types do not fit."""
    if operator in ("==", "!="):
        return same(left, right) is (operator == "==")
    numbers = _is_number(left) and _is_number(right)
    texts = isinstance(left, str) and isinstance(right, str)
    lists = isinstance(left, list) and isinstance(right, list)
    if operator in _COMPARISONS and (numbers or texts):
        return _COMPARISONS[operator](left, right)
    if operator == "+" and (numbers or texts or lists):
        return left + right
    if operator in _ARITHMETIC and numbers:
        if operator in ("/", "%") and right == 0:
            raise CelError("division by zero" if operator == "/" else "modulus by zero")
        return _ARITHMETIC[operator](left, right)
    raise CelError("no such overload")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _divide(left: Any, right: Any) -> Any:
    """Integers are divided towards zero."""
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b), "<=": lambda a, b: bool(a <= b), ">": lambda a, b: bool(a > b), ">=": lambda a, b: bool(a >= b),
}  # fmt: skip
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": _divide, "%": lambda a, b: a - _divide(a, b) * b,
}  # fmt: skip


def select(value: Any, name: str) -> Any:
    """`value.name`"""
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        raise CelError(f"no such key: {name}")
    raise CelError("no such overload")


def index(value: Any, key: Any) -> Any:
    """`value[key]`"""
    if isinstance(value, Domains):
        return value[str(key)]
    if isinstance(value, Mapping):
        return select(value, str(key))
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        if 0 <= key < len(value):
            return value[key]
        raise CelError(f"index out of bounds: {key}")
    raise CelError("no such overload")


def call(name: str, target: Any, arguments: list[Any]) -> Any:
    """`name(arguments)`, or `target.name(arguments)` where a target is given."""
    operands = arguments if target is None else [target, *arguments]
    function = _FUNCTIONS.get((name, tuple(_type_of(operand) for operand in operands)))
    if function is None:
        raise CelError(f"found no matching overload for '{name}'")
    try:
        return function(*operands)
    except (QuantityError, re.error, ValueError) as error:
        raise CelError(str(error)) from None


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names: tuple[tuple[type, str], ...] = (
        (int, "int"), (float, "double"), (str, "string"), (Quantity, "quantity"), (Semver, "semver"), (list, "list"), (dict, "map"),
    )  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _compare(left: Any, right: Any) -> int:
    return 0 if left == right else -1 if left < right else 1


def _is_quantity(text: str) -> bool:
    try:
        Quantity.of(text)
    except QuantityError:
        return False
    return True


_FUNCTIONS: dict[tuple[str, tuple[str, ...]], Callable[..., Any]] = {
    ("startsWith", ("string", "string")): lambda text, start: text.startswith(start),
    ("endsWith", ("string", "string")): lambda text, end: text.endswith(end),
    ("contains", ("string", "string")): lambda text, part: part in text,
    ("matches", ("string", "string")): lambda text, pattern: re.search(pattern, text) is not None,
    ("lowerAscii", ("string",)): lambda text: text.lower(),
    ("upperAscii", ("string",)): lambda text: text.upper(),
    ("size", ("string",)): len, ("size", ("list",)): len, ("size", ("map",)): len,
    ("string", ("int",)): str, ("string", ("string",)): str, ("int", ("string",)): int, ("int", ("int",)): int,
    ("quantity", ("string",)): Quantity.of, ("isQuantity", ("string",)): _is_quantity,
    ("semver", ("string",)): Semver.of, ("isSemver", ("string",)): lambda text: SEMVER.fullmatch(text) is not None,
    ("asInteger", ("quantity",)): lambda quantity: quantity.value(),
    ("isInteger", ("quantity",)): lambda quantity: quantity.milli_value() % 1000 == 0,
    ("add", ("quantity", "quantity")): lambda a, b: a + b, ("sub", ("quantity", "quantity")): lambda a, b: a - b,
    ("major", ("semver",)): lambda version: version.numbers[0], ("minor", ("semver",)): lambda version: version.numbers[1],
    ("patch", ("semver",)): lambda version: version.numbers[2],
}  # fmt: skip
for _kind in ("quantity", "semver"):
    _FUNCTIONS["compareTo", (_kind, _kind)] = _compare
    _FUNCTIONS["isGreaterThan", (_kind, _kind)] = lambda a, b: _compare(a, b) > 0
    _FUNCTIONS["isLessThan", (_kind, _kind)] = lambda a, b: _compare(a, b) < 0
