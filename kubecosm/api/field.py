"""Complaints about fields and the Invalid error that carries them, worded as k8s.io/apimachinery/pkg/util/validation/field does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kubecosm.api.errors import Invalid
from kubecosm.api.resources import Object, Resource


class _Omit:
    """Marks a complaint that shows no value."""


OMIT = _Omit()

TYPE_TEXT = {
    "FieldValueNotFound": "Not found",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "FieldValueTypeInvalid": "Invalid value",
    "InternalError": "Internal error",
}
_WITHOUT_VALUE = {"FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong", "InternalError"}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One complaint: `type` is the cause's reason, `field` a path such as `spec.containers[0].name`."""

    type: str
    field: str
    detail: str = ""
    value: Any = OMIT

    def body(self) -> str:
        """The message without the field: what a cause carries."""
        text = TYPE_TEXT[self.type]
        if self.type not in _WITHOUT_VALUE and self.value is not OMIT:
            text += f": {quote(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"


def quote(value: Any) -> str:
    """A value as Go prints it in a complaint: strings quoted, the rest as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return go_quote(value)
    if isinstance(value, int | float):
        return str(value)
    text = orjson.dumps(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")  # as encoding/json does


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


def go_quote(text: str) -> str:
    """Go's %q of a string."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escape(c) for c in text) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, detail)


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, detail, value)


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", field, detail, value)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """`supported` is listed in the order given; Kubernetes sorts most of its sets first."""
    names = ", ".join(go_quote(name) for name in supported)
    return FieldError("FieldValueNotSupported", field, f"supported values: {names}" if names else "", value)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, "", value)


def not_found_value(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", field, "", value)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, detail)


def too_long(field: str, length_max: int) -> FieldError:
    detail = f"may not be more than {length_max} bytes" if length_max >= 0 else "value is too long"
    return FieldError("FieldValueTooLong", field, detail)


def too_many(field: str, count: int, count_max: int) -> FieldError:
    detail = f"must have at most {count_max} item{'' if count_max == 1 else 's'}" if count_max >= 0 else "has too many items"
    return FieldError("FieldValueTooMany", field, detail, count)


def internal(field: str, detail: str) -> FieldError:
    return FieldError("InternalError", field, detail)


def invalid(resource: Resource, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 that tells of all complaints about one object (errors.NewInvalid)."""
    return invalid_kind(resource.group, resource.kind, name, errors)


def invalid_kind(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> Invalid:
    """As `invalid`, for a body whose kind is not the resource's own (Scale, Eviction, …)."""
    qualified = f"{kind}.{group}" if group else kind
    details: Object = {"name": name} if name else {}
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    message = f"{qualified} {go_quote(name)} is invalid"
    if errors:
        details["causes"] = [{"reason": e.type, "message": e.body(), **({"field": e.field} if e.field else {})} for e in errors]
        texts = list(dict.fromkeys(map(str, errors)))
        message += ": " + (texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    return Invalid(message, details=details)
