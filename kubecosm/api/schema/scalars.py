"""The JSON forms of Go's custom types (times, base64 bytes) and their canonical texts; ValueError in the words of Go's own parsers."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from functools import lru_cache

from kubecosm.api.times import format_micro_time, format_time

CACHE_SIZE = 4096
RFC3339 = "2006-01-02T15:04:05Z07:00"
RFC3339_MICRO = "2006-01-02T15:04:05.000000Z07:00"

_STEPS = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"), ("15", r"\d\d?"), (":", ":"),
    ("04", r"\d\d"), (":", ":"), ("05", r"\d\d"),
)  # fmt: skip
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII)
_FRACTION = re.compile(r"[.,]\d+", re.ASCII)
_MICROS = re.compile(r"[.,]\d{6}(?!\d)", re.ASCII)


@lru_cache(maxsize=CACHE_SIZE)
def canonical_time(text: str) -> str:
    """metav1.Time as the server gives it back: UTC, whole seconds. ValueError as time.Parse words it."""
    return format_time(_parse(text, RFC3339))


@lru_cache(maxsize=CACHE_SIZE)
def canonical_micro_time(text: str) -> str:
    """metav1.MicroTime as the server gives it back: UTC, six digits. ValueError as time.Parse words it."""
    return format_micro_time(_parse(text, RFC3339_MICRO))


def canonical_base64(text: str) -> str:
    """Bytes as the server gives them back; ValueError `illegal base64 data at input byte N`."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (ValueError, binascii.Error):
        bad = _bad_base64_at(text)
        if bad is not None:
            raise ValueError(f"illegal base64 data at input byte {bad}") from None
        data = base64.b64decode(text.replace("\r", "").replace("\n", ""))
    return text if len(text) == (len(data) + 2) // 3 * 4 else base64.b64encode(data).decode()


def _bad_base64_at(text: str) -> int | None:
    """Where base64.StdEncoding (which skips newlines) stops; None if it does not."""
    quantum = 0
    for index, char in enumerate(text):
        if char in "\r\n":
            continue
        if char == "=":
            return _bad_padding_at(text, index, quantum)
        if not (char.isascii() and (char.isalnum() or char in "+/")):
            return index
        quantum = (quantum + 1) % 4
    return len(text) - quantum if quantum else None


def _bad_padding_at(text: str, index: int, quantum: int) -> int | None:
    if quantum < 2:
        return index
    rest = [position for position in range(index + 1, len(text)) if text[position] not in "\r\n"]
    if quantum == 2:
        if not rest:
            return len(text)
        if text[rest[0]] != "=":
            return rest[0] - 1
        rest = rest[1:]
    return rest[0] if rest else None


def _parse(text: str, layout: str) -> datetime:
    """time.Parse for the two layouts of the API."""
    quoted, micro = _go_quote(text), layout == RFC3339_MICRO

    def failure(rest: str, element: str) -> ValueError:
        return ValueError(f'parsing time {quoted} as "{layout}": cannot parse {_go_quote(rest)} as "{element}"')

    at, numbers = 0, []
    for element, pattern in _STEPS:
        match = re.compile(pattern, re.ASCII).match(text, at)
        if match is None:
            raise failure(text[at:], element)
        if element not in "-T:":
            numbers.append(int(match[0]))
        at = match.end()
    fraction = (_MICROS if micro else _FRACTION).match(text, at)
    if micro and fraction is None:
        raise failure(text[at:], ".000000")
    digits = fraction[0][1:7].ljust(6, "0") if fraction else "0"
    at = fraction.end() if fraction else at
    zone = _ZONE.match(text, at)
    if zone is None:
        raise failure(text[at:], "Z07:00")
    if zone.end() != len(text):
        raise ValueError(f"parsing time {quoted}: extra text: {_go_quote(text[zone.end() :])}")
    return _datetime(quoted, numbers, int(digits), zone[0])


def _datetime(quoted: str, numbers: list[int], micros: int, zone: str) -> datetime:
    year, month, day, hour, minute, second = numbers
    bounds = (("month", month, 1, 12), ("hour", hour, 0, 23), ("minute", minute, 0, 59), ("second", second, 0, 59))
    for name, number, low, high in bounds:
        if not low <= number <= high:
            raise ValueError(f"parsing time {quoted}: {name} out of range")
    offset = "+00:00" if zone == "Z" else zone
    try:
        text = f"{max(year, 1):04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}{offset}"
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"parsing time {quoted}: day out of range") from None


def _go_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
