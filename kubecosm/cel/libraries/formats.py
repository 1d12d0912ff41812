"""Named formats: `format.dns1123Label().validate(text)` gives an optional list of complaints. Imitates library/format.go."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from kubecosm.api.validation import dns1035_label, dns1123_label, dns1123_subdomain, label_value, qualified_name

from ..functions import REGEX_LENGTH, TRAVERSAL, Overload, overload, static
from ..values import NONE, Opaque, Optional, parse_timestamp
from .texts import _is_url

Check = Callable[[str], Sequence[str]]


class Format(Opaque):
    """A rule for texts."""

    __slots__ = ("check", "name")
    cel_kind = "kubernetes.NamedFormat"

    def __init__(self, name: str, check: Check) -> None:
        self.name, self.check = name, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def _parses(parse: Callable[[str], Any], complaint: str) -> Check:
    def check(text: str) -> Sequence[str]:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return [complaint]
        return []

    return check


def _prefix(check: Check) -> Check:
    """A prefix may end with a dash: what follows makes it complete."""
    return lambda text: check(re.sub(r"-+$", "a", text))


def _uri(text: str) -> list[str]:
    return [] if _is_url(text) else ["invalid URI"]


FORMATS: dict[str, Check] = {
    "dns1123Label": dns1123_label, "dns1123Subdomain": dns1123_subdomain, "dns1035Label": dns1035_label,
    "qualifiedName": qualified_name, "labelValue": label_value, "dns1123LabelPrefix": _prefix(dns1123_label),
    "dns1123SubdomainPrefix": _prefix(dns1123_subdomain), "dns1035LabelPrefix": _prefix(dns1035_label), "uri": _uri,
    "uuid": _parses(UUID, "does not match the UUID format"),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True), "invalid base64"),
    "date": _parses(date.fromisoformat, "invalid date"), "datetime": _parses(parse_timestamp, "invalid datetime"),
}  # fmt: skip


def _named(name: str) -> Optional:
    return Optional(Format(name, FORMATS[name])) if name in FORMATS else NONE


def _validate(found: Format, text: str) -> Optional:
    complaints = found.check(text)
    return Optional(list(complaints)) if complaints else NONE


REGEX_SIZES = {
    "dns1123Label": 30, "dns1123Subdomain": 60, "dns1035Label": 30, "qualifiedName": 60, "labelValue": 40, "dns1123LabelPrefix": 30,
    "dns1123SubdomainPrefix": 60, "dns1035LabelPrefix": 30, "uri": 1120, "uuid": 70, "byte": 84, "date": 71, "datetime": 71,
}  # fmt: skip
"""How long the regular expressions are that Kubernetes takes a format to be checked with."""


def _of_format(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil((1 + len(args[1])) * TRAVERSAL) * math.ceil(REGEX_SIZES[args[0].name] * REGEX_LENGTH)


def declarations() -> list[tuple[str, Overload]]:
    made = [static(f"format.{name}", "() kubernetes.NamedFormat", lambda name=name: Format(name, FORMATS[name])) for name in FORMATS]
    return [
        *made, static("format.named", "(string) optional(kubernetes.NamedFormat)", _named),
        overload("kubernetes.NamedFormat.validate(string) optional(list(string))", _validate, _of_format),
    ]  # fmt: skip
