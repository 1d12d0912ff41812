"""How values are taken apart: fields, entries and elements, present or not; and the names of types, which are values too."""

from __future__ import annotations

from typing import Any

from .standard import at_index, at_key
from .values import NONE, CelError, Fields, Optional

TYPES = {
    **{name: name for name in ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "optional_type")},
    "google.protobuf.Timestamp": "google.protobuf.Timestamp", "google.protobuf.Duration": "google.protobuf.Duration",
    **{name: name for name in ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.URL")},
}  # fmt: skip
"""What an expression may call a type, and what the type is called."""


def select(value: Any, name: str) -> Any:
    """A field of a value. Raises CelError."""
    if isinstance(value, dict):
        return at_key(value, name)
    if isinstance(value, Optional):
        return optional_entry(value, name)
    if isinstance(value, Fields):
        try:
            return value.cel_get(name)
        except KeyError:
            raise CelError(f"no such key: {name}") from None
    raise CelError("no such overload")


def entry(value: Any, key: Any) -> Any:
    """`value[key]`. Raises CelError."""
    if isinstance(value, dict):
        return at_key(value, key)
    if isinstance(value, list):
        return at_index(value, key)
    if isinstance(value, Fields):
        return select(value, key)
    raise CelError("no such overload")


def has(value: Any, name: str) -> bool:
    """`has(value.name)`. Raises CelError."""
    if isinstance(value, dict):
        return name in value
    if isinstance(value, Optional):
        return value.present and has(value.value, name)
    if isinstance(value, Fields):
        return value.cel_has(name)
    raise CelError("no such overload")


def optional_entry(value: Optional, key: Any) -> Optional:
    """`value.?key` and `value[?key]`. Raises CelError."""
    if not value.present:
        return NONE
    inner = value.value
    if isinstance(inner, dict):
        return Optional(inner[key]) if key in inner else NONE
    if isinstance(inner, list):
        return Optional(inner[key]) if isinstance(key, int) and 0 <= key < len(inner) else NONE
    if isinstance(inner, Fields):
        return Optional(inner.cel_get(key)) if inner.cel_has(key) else NONE
    if inner is None:
        return NONE
    raise CelError("no such overload")
