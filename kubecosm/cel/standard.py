"""CEL's own operators and functions. Imitates cel-spec's standard library as cel-go 0.26 has it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from .functions import Functions, of_both, of_product, of_regex, of_shorter, overload, static, table, traversal
from .patterns import compiled
from .values import (
    SECOND_NANOS,
    CelError,
    Duration,
    Impl,
    Timestamp,
    TypeValue,
    Uint,
    UnorderedList,
    checked_int,
    checked_uint,
    equal,
    parse_duration,
    parse_timestamp,
    type_name,
)

NUMBERS = ("int", "uint", "double")


def _divided(one: int, other: int) -> int:
    """Go's division: towards zero."""
    if other == 0:
        raise CelError("division by zero")
    result = abs(one) // abs(other)
    return result if (one < 0) == (other < 0) else -result


def _remainder(one: int, other: int) -> int:
    if other == 0:
        raise CelError("modulus by zero")
    result = abs(one) % abs(other)
    return -result if one < 0 else result


def _ratio(one: float, other: float) -> float:
    if other:
        return one / other
    return math.nan if one == 0 or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1.0, other)


def _joined(one: list[Any], other: list[Any]) -> list[Any]:
    return one.joined(other) if isinstance(one, UnorderedList) else [*one, *other]


_INT: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divided, "%": _remainder}
_DOUBLE: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": _ratio}


def _within(work: Callable[[int, int], int], check: Callable[[int], int]) -> Impl:
    return lambda one, other: check(work(one, other))


def _arithmetic() -> list[tuple[str, Any]]:
    found = []
    for symbol, work in _INT.items():
        found.append(static(f"_{symbol}_", "(int, int) int", _within(work, checked_int)))
        found.append(static(f"_{symbol}_", "(uint, uint) uint", _within(work, checked_uint)))
    found += [static(f"_{symbol}_", "(double, double) double", ratio) for symbol, ratio in _DOUBLE.items()]
    found += [
        static("_+_", "(string, string) string", operator.add, of_both, "add_string"),
        static("_+_", "(bytes, bytes) bytes", operator.add, of_both, "add_bytes"),
        static("_+_", "(list(A), list(A)) list(A)", _joined, id="add_list"),
        static("_+_", "(duration, duration) duration", lambda a, b: Duration(a.nanos + b.nanos)),
        static("_+_", "(duration, timestamp) timestamp", lambda a, b: Timestamp(a.nanos + b.nanos, b.offset)),
        static("_+_", "(timestamp, duration) timestamp", lambda a, b: Timestamp(a.nanos + b.nanos, a.offset)),
        static("_-_", "(duration, duration) duration", lambda a, b: Duration(a.nanos - b.nanos)),
        static("_-_", "(timestamp, duration) timestamp", lambda a, b: Timestamp(a.nanos - b.nanos, a.offset)),
        static("_-_", "(timestamp, timestamp) duration", lambda a, b: Duration(a.nanos - b.nanos)),
        static("-_", "(int) int", lambda a: checked_int(-a)),
        static("-_", "(double) double", operator.neg),
        static("!_", "(bool) bool", operator.not_),
    ]
    return found


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": lambda a, b: not b < a, ">": lambda a, b: b < a, ">=": lambda a, b: not a < b,
}  # fmt: skip
_FLOATS: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _comparisons() -> list[tuple[str, Any]]:
    found = []
    for symbol, work in _COMPARED.items():
        for kind in ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"):
            cost = of_shorter if kind in ("string", "bytes") else None
            impl = _FLOATS[symbol] if kind == "double" else work
            found.append(static(f"_{symbol}_", f"({kind}, {kind}) bool", impl, cost, f"compare_{kind}"))
        for one in NUMBERS:
            found += [static(f"_{symbol}_", f"({one}, {two}) bool", _FLOATS[symbol]) for two in NUMBERS if two != one]
    found += [
        static("_==_", "(A, A) bool", equal, of_shorter, "equals"),
        static("_!=_", "(A, A) bool", lambda a, b: not equal(a, b), of_shorter, "not_equals"),
        static("@in", "(A, list(A)) bool", lambda a, items: any(equal(a, item) for item in items), lambda args, _: len(args[1]), "in_list"),
        static("@in", "(A, map(A, B)) bool", lambda a, entries: _key(a) in entries, id="in_map"),
    ]
    return found


def _key(value: Any) -> Any:
    return value if not isinstance(value, list | dict) else None


def at_index(items: list[Any], index: Any) -> Any:
    """An element of a list. Raises CelError."""
    if isinstance(index, float) and index.is_integer():
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int):
        raise CelError("no such overload")
    if not 0 <= index < len(items):
        raise CelError(f"index out of bounds: {index}")
    return items[index]


def at_key(entries: dict[Any, Any], key: Any) -> Any:
    """A value of a map. Raises CelError."""
    try:
        return entries[key]
    except (KeyError, TypeError):
        raise CelError(f"no such key: {key}") from None


# ---- conversions


def _to_int(value: Any) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d+", value):
            raise CelError(f"strconv.ParseInt: parsing {_quoted(value)}: invalid syntax")
        return checked_int(int(value))
    if isinstance(value, Timestamp):
        return value.nanos // SECOND_NANOS
    if isinstance(value, float):
        if math.isnan(value) or not -(2.0**63) < value < 2.0**63:
            raise CelError("integer overflow")
        return int(value)
    return checked_int(int(value))


def _to_uint(value: Any) -> Uint:
    if isinstance(value, str):
        if not re.fullmatch(r"\d+", value):
            raise CelError(f"strconv.ParseUint: parsing {_quoted(value)}: invalid syntax")
        return checked_uint(int(value))
    if isinstance(value, float) and (math.isnan(value) or not 0 <= value < 2.0**64):
        raise CelError("unsigned integer overflow")
    return checked_uint(int(value))


def _to_double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise CelError(f"strconv.ParseFloat: parsing {_quoted(value)}: invalid syntax") from None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_text(value: Any) -> str:
    """`string(x)`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_double(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    return str(value) if not isinstance(value, Uint) else str(int(value))


def format_double(value: float) -> str:
    """As Go prints a float64 with %g and all its digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)


def _to_bool(text: str) -> bool:
    if text in ("true", "TRUE", "True", "t", "T", "1"):
        return True
    if text in ("false", "FALSE", "False", "f", "F", "0"):
        return False
    raise CelError("type conversion error from 'string' to 'bool'")


def _parsed(parse: Callable[[str], Any], kind: str) -> Impl:
    def impl(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            raise CelError(f"type conversion error from 'string' to '{kind}'") from None

    return impl


def _same(value: Any) -> Any:
    return value


def _conversions() -> list[tuple[str, Any]]:
    found = [static("type", "(A) type(A)", lambda value: TypeValue(type_name(value)), id="type"), static("dyn", "(A) dyn", _same, id="dyn")]
    for kind in ("int", "uint", "double", "string"):
        for name, work in (("int", _to_int), ("uint", _to_uint), ("double", _to_double), ("string", to_text)):
            found.append(static(name, f"({kind}) {name}", _same if kind == name else work))
    found += [
        static("int", "(timestamp) int", _to_int), static("int", "(duration) int", lambda d: d.nanos),
        static("string", "(bool) string", to_text), static("string", "(bytes) string", to_text, traversal(), "bytes_to_string"),
        static("string", "(timestamp) string", str), static("string", "(duration) string", str),
        static("bytes", "(string) bytes", str.encode, traversal(), "string_to_bytes"), static("bytes", "(bytes) bytes", _same),
        static("bool", "(bool) bool", _same), static("bool", "(string) bool", _to_bool),
        static("duration", "(string) duration", _parsed(parse_duration, "duration")), static("duration", "(duration) duration", _same),
        static("duration", "(int) duration", Duration),
        static("timestamp", "(string) timestamp", _parsed(parse_timestamp, "timestamp")),
        static("timestamp", "(timestamp) timestamp", _same), static("timestamp", "(int) timestamp", lambda s: Timestamp(s * SECOND_NANOS)),
    ]  # fmt: skip
    return found


def _matches(text: str, pattern: str) -> bool:
    return compiled(pattern).is_in(text)


def _texts_and_sizes() -> list[tuple[str, Any]]:
    found = []
    for kind in ("string", "bytes", "list(A)", "map(A, B)"):
        found += [overload(f"size({kind}) int", len), overload(f"{kind}.size() int", len)]
    return [
        *found,
        overload("string.startsWith(string) bool", str.startswith, traversal(), "starts_with_string"),
        overload("string.endsWith(string) bool", str.endswith, traversal(), "ends_with_string"),
        overload("string.contains(string) bool", lambda text, part: part in text, of_product, "contains_string"),
        overload("string.matches(string) bool", _matches, of_regex, "matches_string"),
        static("matches", "(string, string) bool", _matches, id="matches"),
    ]


# ---- times


_PARTS: dict[str, Callable[[Any], int]] = {
    "getFullYear": lambda t: t.year, "getMonth": lambda t: t.month - 1, "getDate": lambda t: t.day, "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfWeek": lambda t: t.isoweekday() % 7, "getDayOfYear": lambda t: t.timetuple().tm_yday - 1, "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute, "getSeconds": lambda t: t.second,
}  # fmt: skip
_SPANS = {"getHours": 3600 * SECOND_NANOS, "getMinutes": 60 * SECOND_NANOS, "getSeconds": SECOND_NANOS, "getMilliseconds": 10**6}


def _times() -> list[tuple[str, Any]]:
    found = []
    for name, part in _PARTS.items():

        def of_clock(moment: Timestamp, zone: str = "UTC", part: Callable[[Any], int] = part) -> int:
            return part(moment.local(zone))

        found += [overload(f"timestamp.{name}() int", of_clock), overload(f"timestamp.{name}(string) int", of_clock)]

    def millis(moment: Timestamp, zone: str = "UTC") -> int:
        return moment.nanos % SECOND_NANOS // 10**6

    found += [overload("timestamp.getMilliseconds() int", millis), overload("timestamp.getMilliseconds(string) int", millis)]
    for name, span in _SPANS.items():

        def of_span(length: Duration, span: int = span) -> int:
            return _divided(length.nanos, span)

        found.append(overload(f"duration.{name}() int", of_span))
    return found


def standard_functions() -> Functions:
    """All of them. `_&&_`, `_||_`, `_?_:_` and `@not_strictly_false` are declared only: the interpreter has its own way with them."""
    declared = [
        static("_&&_", "(bool, bool) bool", operator.and_, id="logical_and"),
        static("_||_", "(bool, bool) bool", operator.or_, id="logical_or"),
        static("_?_:_", "(bool, A, A) A", _same, id="conditional"),
        static("@not_strictly_false", "(bool) bool", _same, id="not_strictly_false"),
        static("_[_]", "(list(A), int) A", at_index, id="index_list"),
        static("_[_]", "(map(A, B), A) B", at_key, id="index_map"),
    ]
    return table(declared, _arithmetic(), _comparisons(), _conversions(), _texts_and_sizes(), _times())


