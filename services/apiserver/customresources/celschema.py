"""Structural schemas as CEL sees them: declared types, escaped names of properties, and values by format.

Imitates k8s.io/apiserver/pkg/cel/common (schemas.go, values.go, escaping.go). Values of schemas that need none of it are handed over as
they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from kubecosm.api.schema.structural import EMBEDDED, INT_OR_STRING
from kubecosm.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of, object_of
from kubecosm.cel.values import UnorderedList, parse_duration, parse_timestamp

Schema = Mapping[str, Any]
LIST_TYPE, LIST_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"
_RESERVED = frozenset((
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while",
))  # fmt: skip
_PARTS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_TEXT_FORMATS = {"byte": BYTES, "duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}
_METADATA: Schema = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_TEXT: Schema = {"type": "string"}


def escape(name: str) -> str | None:
    """A property's name in expressions; None if it has none."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = re.sub(r"__|[.\-/]", lambda match: _PARTS[match[0]], name)
    return escaped if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", escaped) else None


def with_object_fields(schema: Schema) -> Schema:
    """The schema of a whole object: every object has apiVersion, kind and a name."""
    return {**schema, "properties": {**(schema.get("properties") or {}), "apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}}


def declared_type(schema: Schema, name: str, *, is_root: bool) -> Type | None:
    """The type of values; None for those that rules cannot speak of. `name` is told in errors about objects."""
    if schema.get(INT_OR_STRING):
        return DYN
    kind = schema.get("type")
    if kind == "object":
        return _object_type(with_object_fields(schema) if is_root else schema, name)
    if kind == "array":
        items = schema.get("items")
        inner = declared_type(items, f"{name}.@idx", is_root=bool(items.get(EMBEDDED))) if isinstance(items, dict) else None
        return list_of(inner) if inner is not None else None
    if kind == "string":
        return _TEXT_FORMATS.get(schema.get("format", ""), STRING)
    return {"boolean": BOOL, "number": DOUBLE, "integer": INT}.get(kind or "")


def _object_type(schema: Schema, name: str) -> Type | None:
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        inner = declared_type(additional, f"{name}.@prop", is_root=bool(additional.get(EMBEDDED)))
        return map_of(STRING, inner) if inner is not None else None
    fields: dict[str, Type] = {}
    for field, child in (schema.get("properties") or {}).items():
        escaped = escape(field)
        inner = declared_type(child, f"{name}.{field}", is_root=bool(child.get(EMBEDDED)))
        if escaped is not None and inner is not None:
            fields[escaped] = inner
    return object_of(name, fields)


# ---- values


def is_plain(schema: Schema) -> bool:
    """Whether values of a schema are in expressions what they are in JSON."""
    if schema.get("type") == "string":
        return schema.get("format") not in _TEXT_FORMATS
    if schema.get(LIST_TYPE) in ("set", "map"):
        return False
    children = [child for child in (schema.get("items"), schema.get("additionalProperties")) if isinstance(child, dict)]
    properties = schema.get("properties") or {}
    return all(map(is_plain, (*children, *properties.values()))) and all(escape(name) == name for name in properties)


def converted(schema: Schema, value: Any) -> Any:
    """A value as expressions see it."""
    if isinstance(value, dict):
        return _converted_object(schema, value)
    if isinstance(value, list):
        items = schema.get("items") or {}
        found = [converted(items, item) for item in value]
        if schema.get(LIST_TYPE) == "set":
            return UnorderedList(found)
        if schema.get(LIST_TYPE) == "map":
            return UnorderedList(found, tuple(escape(key) or key for key in schema.get(LIST_KEYS) or ()))
        return found
    if isinstance(value, str) and schema.get("type") == "string":
        return _converted_text(schema.get("format", ""), value)
    if isinstance(value, int) and not isinstance(value, bool) and schema.get("type") == "number":
        return float(value)
    return value


def _converted_object(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    additional, properties = schema.get("additionalProperties"), schema.get("properties") or {}
    if isinstance(additional, dict):
        return {name: converted(additional, item) for name, item in value.items()}
    found: dict[str, Any] = {}
    for name, item in value.items():
        escaped = escape(name)
        if escaped is not None:
            found[escaped] = converted(properties.get(name) or {}, item)
    return found


def _converted_text(form: str, text: str) -> Any:
    """What does not fit its format stays a text: the schema complains about it."""
    try:
        if form == "byte":
            return base64.b64decode(text, validate=True)
        if form == "duration":
            return parse_duration(text)
        if form in ("date", "date-time"):
            return parse_timestamp(text if form == "date-time" else f"{text}T00:00:00Z")
    except (ValueError, binascii.Error):
        pass
    return text
