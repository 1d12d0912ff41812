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
from kubecosm.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Type, bounded, list_of, map_of, object_of
from kubecosm.cel.values import UnorderedList, parse_duration, parse_timestamp

Schema = Mapping[str, Any]
LIST_TYPE, LIST_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"
_RESERVED = frozenset((
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while",
))  # fmt: skip
_PARTS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_TEXT_FORMATS = {"byte": BYTES, "duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}
_NUMBERS = {"boolean": bounded(BOOL, 0, 4), "number": bounded(DOUBLE, 0, 1), "integer": bounded(INT, 0, 1)}
REQUEST_BYTES_MAX = 3 * 1024 * 1024
"""No value is larger than a request (apiserver/pkg/cel/limits.go)."""
_TIMES = {"duration": (32, 3), "date": (12, 12), "date-time": (32, 21)}
"""The largest and the least size of a time in JSON."""
_METADATA: Schema = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_TEXT: Schema = {"type": "string"}


def escape(name: str) -> str | None:
    """A property's name in expressions; None if it has none."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = re.sub(r"__|[.\-/]", lambda match: _PARTS[match[0]], name)
    return escaped if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", escaped) else None


def with_object_fields(schema: Schema) -> Schema:
    """The schema of a whole object: every object has apiVersion, kind and a name, be they written or not."""
    properties = schema.get("properties") or {}
    metadata = properties.get("metadata") or {}
    named = metadata.get("properties") or {}
    wanted = ((properties, "kind"), (properties, "apiVersion"), (named, "name"), (named, "generateName"))
    if metadata.get("type") == "object" and all((part.get(name) or {}).get("type") == "string" for part, name in wanted):
        return schema
    return {**schema, "properties": {**(schema.get("properties") or {}), "apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}}


def declared_type(schema: Schema, name: str, *, is_root: bool) -> Type | None:
    """The type of values, with its bounds; None for those that rules cannot speak of. `name` is told in errors about objects."""
    if schema.get(INT_OR_STRING):
        return bounded(DYN, _text_max(schema), 1)
    kind = schema.get("type")
    if kind == "object":
        return _object_type(with_object_fields(schema) if is_root else schema, name)
    if kind == "array":
        items = schema.get("items")
        inner = declared_type(items, f"{name}.@idx", is_root=bool(items.get(EMBEDDED))) if isinstance(items, dict) else None
        if inner is None:
            return None
        return bounded(list_of(inner), _limit(schema, "maxItems", (REQUEST_BYTES_MAX - 2) // (inner.least_bytes + 1)), 2)
    if kind == "string":
        return _text_type(schema)
    return _NUMBERS.get(kind or "")


def _text_type(schema: Schema) -> Type:
    form, enum = schema.get("format", ""), schema.get("enum") or ()
    if form == "byte":
        return bounded(BYTES, _limit(schema, "maxLength", REQUEST_BYTES_MAX - 2), 2)
    if form in _TIMES:
        return bounded(_TEXT_FORMATS[form], *_TIMES[form])
    if enum and schema.get("maxLength") is None:
        return bounded(STRING, max(len(value.encode()) if isinstance(value, str) else 0 for value in enum), 2)
    return bounded(STRING, _text_max(schema), 2)


def _text_max(schema: Schema) -> int:
    """Bytes of a text: a character may have four."""
    return _limit(schema, "maxLength", None) * 4 if schema.get("maxLength") is not None else REQUEST_BYTES_MAX - 2


def _limit(schema: Schema, keyword: str, otherwise: int | None) -> int:
    value = schema.get(keyword)
    return max(int(value), 0) if value is not None else otherwise or 0


def _object_type(schema: Schema, name: str) -> Type | None:
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        inner = declared_type(additional, f"{name}.@prop", is_root=bool(additional.get(EMBEDDED)))
        if inner is None:
            return None
        return bounded(map_of(STRING, inner), _limit(schema, "maxProperties", (REQUEST_BYTES_MAX - 2) // (inner.least_bytes + 6)), 2)
    fields: dict[str, Type] = {}
    required, least = set(schema.get("required") or ()), 2
    for field, child in (schema.get("properties") or {}).items():
        escaped = escape(field)
        inner = declared_type(child, f"{name}.{field}", is_root=bool(child.get(EMBEDDED)))
        if inner is None:
            continue
        if escaped is not None:
            fields[escaped] = inner
        if field in required and child.get("default") is None:
            least += len(field.encode()) + inner.least_bytes + 4
    return bounded(object_of(name, fields), 0, least)


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
