"""The formats of values: which are known for which type, and whether a value has one. Formats that are not known for a type say nothing.

Imitates kube-openapi's strfmt, its ranges of numbers, and apiextensions' formats.go.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from kubecosm.api.validation import dns1123_label, dns1123_subdomain

_LIMITS = {"int32": 2**31, "int64": 2**63}
_NUMBERS = {"integer": ("int32", "int64"), "number": ("float", "double")}


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _like(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _date_time(text: str) -> datetime:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)$", text):
        raise ValueError
    return datetime.fromisoformat(text.upper().replace("Z", "+00:00"))


def _is_cidr(text: str) -> bool:
    _, _, length = text.partition("/")
    return length.isdecimal() and _parses(lambda whole: ipaddress.ip_network(whole, strict=False))(text)


def _uuid(third: str, fourth: str) -> Callable[[str], bool]:
    return _like(rf"(?i)[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}")


def _is_isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    return sum((i + 1) * (10 if digit == "X" else int(digit)) for i, digit in enumerate(digits)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    return bool(re.fullmatch(r"[0-9]{13}", digits)) and sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(digits)) % 10 == 0


def _is_credit_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not 12 <= len(digits) <= 19:
        return False
    doubled = (int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_ANY, _BYTE = "[0-9a-f]{4}", r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_DURATION = r"[-+]?(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w|[a-z]+)(\s*(\d+(\.\d*)?|\.\d+)\s*[a-zµ]+)*"
_HOST = r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?"
_TEXTS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _like("[0-9a-fA-F]{24}"),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "cidr": _is_cidr,
    "creditcard": _is_credit_card,
    "date": _parses(date.fromisoformat),
    "datetime": _parses(_date_time),
    "duration": _like(f"0|{_DURATION}"),
    "email": _like(r"[^@\s]+@[^@\s]+"),
    "hexcolor": _like("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "hostname": _like(_HOST),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "k8slongname": lambda text: not dns1123_subdomain(text),
    "k8sshortname": lambda text: not dns1123_label(text),
    "mac": _like("[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}"),
    "password": lambda text: True,
    "rgbcolor": _like(rf"rgb\({_BYTE},{_BYTE},{_BYTE}\)"),
    "ssn": _like(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "uri": _like(r"([A-Za-z][A-Za-z0-9+.-]*:|/).*"),
    "uuid": _uuid(_ANY, _ANY),
    "uuid3": _uuid("3[0-9a-f]{3}", _ANY),
    "uuid4": _uuid("4[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
    "uuid5": _uuid("5[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
}


def is_known(kind: str, form: str) -> bool:
    """Whether a format is known for a type."""
    return form.replace("-", "") in _TEXTS if kind == "string" else form in _NUMBERS.get(kind, ())


def has_format(form: str, text: str) -> bool:
    """Whether a text has a format; unknown ones fit everything."""
    check = _TEXTS.get(form.replace("-", ""))
    return check is None or check(text)


def is_in_range(form: str, value: float) -> bool:
    """Whether a number can be written in a format of numbers."""
    if form == "float":
        try:
            struct.pack("<f", value)
        except OverflowError:
            return False
    if (limit := _LIMITS.get(form)) is None:
        return True
    return -limit <= value < limit and value == int(value)


def unknown_formats(schema: Mapping[str, Any]) -> Iterator[str]:
    """The formats in a schema that are not known for their type."""
    if (form := schema.get("format")) and not is_known(schema.get("type", ""), form):
        yield form
    for child in _children(schema):
        if isinstance(child, Mapping):
            yield from unknown_formats(child)


def _children(schema: Mapping[str, Any]) -> Iterable[Any]:
    yield from (schema.get("properties") or {}).values()
    for field in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(field) or ()
    for field in ("items", "additionalProperties", "not"):
        yield schema.get(field)
