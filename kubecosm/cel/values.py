"""CEL's values where Python has none of its own, and how values are told apart and compared. Imitates cel-go's common/types.

null, bool, int, double, string, bytes, list and map are Python's. Times and durations are counted in nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1
SECOND_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MIN, _TIME_MAX = -62135596800, 253402300799


class CelError(Exception):
    """An expression comes to nothing: `str()` says why, in cel-go's words."""


class CostExceeded(Exception):
    """An evaluation was given up since it cost too much."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Uint(int):
    """An unsigned integer."""

    cel_kind = "uint"


class Opaque:
    """The base of values that only functions know. `cel_kind` is the name of their type."""

    __slots__ = ()
    cel_kind = "opaque"


class Duration(Opaque):
    """A span of time."""

    __slots__ = ("nanos",)
    cel_kind = "duration"

    def __init__(self, nanos: int) -> None:
        if not INT_MIN <= nanos <= INT_MAX:
            raise CelError("integer overflow")
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.nanos == self.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: Duration) -> bool:
        return self.nanos < other.nanos

    def __str__(self) -> str:
        whole, rest = divmod(abs(self.nanos), SECOND_NANOS)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f"{'-' if self.nanos < 0 else ''}{whole}{fraction}s"


class Timestamp(Opaque):
    """A moment, in nanoseconds since 1970; `offset` are the seconds that its clock was ahead of UTC where it was written."""

    __slots__ = ("nanos", "offset")
    cel_kind = "timestamp"

    def __init__(self, nanos: int, offset: int = 0) -> None:
        if not _TIME_MIN <= nanos // SECOND_NANOS <= _TIME_MAX:
            raise CelError("timestamp overflow")
        self.nanos, self.offset = nanos, offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.nanos == self.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: Timestamp) -> bool:
        return self.nanos < other.nanos

    def local(self, zone: str = "UTC") -> datetime:
        """The moment on a clock of a time zone: a name, or an offset such as `+02:00`."""
        return (_EPOCH + timedelta(seconds=self.nanos // SECOND_NANOS)).astimezone(_zone(zone))

    def __str__(self) -> str:
        rest = self.nanos % SECOND_NANOS
        clock = _EPOCH + timedelta(seconds=self.nanos // SECOND_NANOS + self.offset)
        sign, minutes = "-" if self.offset < 0 else "+", abs(self.offset) // 60
        zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}" if self.offset else "Z"
        return f"{clock:%Y-%m-%dT%H:%M:%S}{f'.{rest:09d}'.rstrip('0') if rest else ''}{zone}"


def _zone(name: str) -> tzinfo:
    if match := re.fullmatch(r"([+-]?)(\d{1,2}):(\d\d)", name):
        minutes = int(match[2]) * 60 + int(match[3])
        return datetime.strptime(f"{'-' if match[1] == '-' else '+'}{minutes // 60:02d}{minutes % 60:02d}", "%z").tzinfo or UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise CelError(f"unknown time zone {name}") from None


class Optional(Opaque):
    """A value that may be missing."""

    __slots__ = ("present", "value")
    cel_kind = "optional_type"

    def __init__(self, value: Any = None, *, present: bool = True) -> None:
        self.value, self.present = value, present


NONE = Optional(present=False)


class TypeValue(Opaque):
    """A type as a value: what `type(x)` gives."""

    __slots__ = ("name",)
    cel_kind = "type"

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Fields(Opaque):
    """The base of objects whose fields are worked out when they are asked for."""

    __slots__ = ()
    cel_kind = "map"

    def cel_get(self, name: str) -> Any:
        """A field's value. Raises KeyError if there is none."""
        raise KeyError(name)

    def cel_has(self, name: str) -> bool:
        raise NotImplementedError


class UnorderedList(list[Any]):
    """A list of a schema with list type set or map: equal to others in any order, and joined without repetitions.

    `keys` are the keys of a list that is a map; none for a set.
    """

    __slots__ = ("keys",)
    cel_kind = "list"

    def __init__(self, items: list[Any], keys: tuple[str, ...] = ()) -> None:
        super().__init__(items)
        self.keys = keys

    def key_of(self, item: Any) -> Any:
        if not self.keys:
            return hashable(item)
        return tuple(hashable(item.get(key)) for key in self.keys) if isinstance(item, dict) else hashable(item)

    def joined(self, other: list[Any]) -> UnorderedList:
        """Sets: the union. Maps: items of the other replace those of equal keys in place, new ones follow."""
        merged = {self.key_of(item): item for item in self}
        for item in other:
            key = self.key_of(item)
            if self.keys or key not in merged:
                merged[key] = item
        return UnorderedList(list(merged.values()), self.keys)


def hashable(value: Any) -> Any:
    """Something that may be a key of a dictionary, equal for equal values."""
    if isinstance(value, bool) or value is None:
        return (type(value), value)
    if isinstance(value, list):
        return tuple(hashable(item) for item in value)
    if isinstance(value, dict):
        return frozenset((hashable(key), hashable(item)) for key, item in value.items())
    return value


_KINDS: dict[type, str] = {
    bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map", type(None): "null",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """The kind of a value, as `Type.kind` has it, or the name of an opaque type."""
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    found: str | None = getattr(value, "cel_kind", None)
    if found is not None:
        return found
    return next((kind for base, kind in _KINDS.items() if isinstance(value, base)), "dyn")


def type_name(value: Any) -> str:
    """What `type(value)` prints."""
    kind = kind_of(value)
    return {"null": "null_type", "timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}.get(kind, kind)


_NUMBERS = frozenset((int, float, Uint))
_PLAIN = frozenset((str, bool, int, float, bytes, type(None), Uint))


def equal(one: Any, other: Any) -> bool:
    """CEL's `==`: numbers of all kinds compare by value, lists and maps by what is in them, different kinds never."""
    kind, its_kind = type(one), type(other)
    if kind is its_kind and kind in _PLAIN:
        return bool(one == other)
    if kind in _NUMBERS and its_kind in _NUMBERS:
        return bool(one == other)
    if isinstance(one, dict):
        return isinstance(other, dict) and _equal_maps(one, other)
    if isinstance(one, list):
        return isinstance(other, list) and _equal_lists(one, other)
    if isinstance(one, Optional) and isinstance(other, Optional):
        return one.present == other.present and (not one.present or equal(one.value, other.value))
    if kind in _PLAIN or its_kind in _PLAIN:
        return False
    return bool(one == other)


def _equal_maps(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    return len(one) == len(other) and all(key in other and equal(value, other[key]) for key, value in one.items())


def _equal_lists(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    unordered = one if isinstance(one, UnorderedList) else other if isinstance(other, UnorderedList) else None
    if unordered is None:
        return all(map(equal, one, other))
    theirs = {unordered.key_of(item): item for item in other}
    return all((key := unordered.key_of(item)) in theirs and equal(item, theirs[key]) for item in one)


def size_of(value: Any) -> int:
    """What a value counts for in costs: its length if it has one, else 1."""
    return len(value) if isinstance(value, str | bytes | list | dict) else 1


# ---- texts of times


_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": SECOND_NANOS, "m": 60 * SECOND_NANOS, "h": 3600 * SECOND_NANOS}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d:\d\d)$")


def parse_duration(text: str) -> Duration:
    """`1h30m` as Go's time.ParseDuration reads it. Raises ValueError."""
    body = text[1:] if text[:1] in "+-" else text
    if body == "0":
        return Duration(0)
    total, position = 0, 0
    while match := _PART.match(body, position):
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2]]
        total += int(whole or 0) * unit + int((fraction or "0").ljust(18, "0")[:18]) * unit // 10**18
        position = match.end()
    if not body or position != len(body) or total > INT_MAX:
        raise ValueError(f'time: invalid duration "{text}"')
    return Duration(-total if text.startswith("-") else total)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises ValueError."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"cannot parse {text!r} as a timestamp")
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    moment = datetime(year, month, day, hour, minute, second, tzinfo=_zone(match[8]) if match[8] not in "Zz" else UTC)
    seconds, offset = (moment - _EPOCH) // timedelta(seconds=1), moment.utcoffset() or timedelta()
    return Timestamp(seconds * SECOND_NANOS + int((match[7] or "0").ljust(9, "0")[:9]), offset // timedelta(seconds=1))


def checked_int(value: int) -> int:
    """The value if it fits 64 bits. Raises CelError."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CelError("integer overflow")


def checked_uint(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise CelError("unsigned integer overflow")


Impl = Callable[..., Any]
