"""The slow twin of `fast`: decodes a body as Go's JSON decoder does and words every failure as it does.

Imitates encoding/json as vendored in sigs.k8s.io/json: the first type error wins and decoding goes on; an error of a custom type (quantity,
time) ends it at once; unknown and duplicate fields are collected, at most STRICT_ERRORS_MAX of them.
"""

from __future__ import annotations

from typing import Any

from kubecosm.api.quantity import FORMAT_ERROR
from kubecosm.api.quantity import canonical as canonical_quantity
from kubecosm.api.schema.gojson import Number, Pairs, plain
from kubecosm.api.schema.model import LIST, MAP, SPECIALS, STRUCT, Definition, Type, schemas
from kubecosm.api.schema.scalars import canonical_base64, canonical_micro_time, canonical_time

STRICT_ERRORS_MAX = 100
JSON_SCHEMA = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_BITS = {"int32": 32, "int64": 64, "int": 64}
_PARSERS = {"time": canonical_time, "microtime": canonical_micro_time}
_ZERO_SCALARS: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, "int": 0, "float64": 0, "bytes": "", "quantity": "0",
                                 "intorstring": 0}  # fmt: skip


class DecodeError(ValueError):
    """The body does not fit the type; the message is Go's."""


class _TypeError(Exception):
    """An UnmarshalTypeError that a custom type's own decoder raised: it still gets the outer struct and fields."""

    def __init__(self, value: str, go: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(value)
        self.value, self.go, self.fields = value, go, fields


class _Abort(Exception):
    """A custom type's own error, which ends decoding."""


def decode(definition: Definition, node: Any, *, strict: bool) -> tuple[Any, list[str]]:
    """The object with unknown fields, nulls and repeats gone, and the strict errors found; DecodeError if it does not fit."""
    decoder = _Decoder(strict)
    try:
        value = decoder.value(Type(STRUCT, definition.go, ref=definition.name), node)
    except _Abort as error:
        raise DecodeError(str(error)) from None
    except _TypeError as error:
        raise DecodeError(decoder.type_error(error.value, error.go, error.fields)) from None
    if decoder.error:
        raise DecodeError(decoder.error)
    return value, list(decoder.strict_errors)


class _Decoder:
    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self.strict_errors: dict[str, None] = {}
        self.error = ""
        self.first: tuple[str, str, tuple[str, ...]] | None = None
        self._struct = ""
        self._fields: list[str] = []
        self._path = ""

    def type_error(self, value: str, go: str, inner: tuple[str, ...] = ()) -> str:
        fields = [*self._fields, *inner]
        if self._struct or fields:
            return f"json: cannot unmarshal {value} into Go struct field {self._struct}.{'.'.join(fields)} of type {go}"
        return f"json: cannot unmarshal {value} into Go value of type {go}"

    def _mismatch(self, value: str, kind: Type) -> None:
        if not self.error:
            self.error = self.type_error(value, kind.go)
            self.first = (value, kind.go, tuple(self._fields))

    def _note(self, what: str, name: str) -> None:
        if self._strict and len(self.strict_errors) < STRICT_ERRORS_MAX:
            path = f"{self._path}.{name}" if self._path else name
            self.strict_errors.setdefault(f'{what} field "{path}"')

    def value(self, kind: Type, node: Any) -> Any:
        """The value of a node that is not null."""
        if kind.kind in _CUSTOM:
            return self._custom(kind, node)
        if kind.kind == STRUCT:
            return self._object(kind, node)
        if kind.kind == MAP:
            return self._map(kind, node)
        if kind.kind == LIST:
            return self._list(kind, node)
        return self._scalar(kind, node)

    def _object(self, kind: Type, node: Any) -> Any:
        if not isinstance(node, Pairs):
            self._mismatch(_name_of(node), kind)
            return {}
        definition = schemas().definition(kind.ref)
        if definition.special:
            return self._custom(Type(definition.special, kind.go), node)
        before = (self._struct, len(self._fields), self._path)
        result: dict[str, Any] = {}
        seen: set[str] = set()
        for name, value in node:
            field = definition.fields.get(name)
            if field is None:
                self._note("unknown", name)
                continue
            if name in seen:
                self._note("duplicate", name)
            seen.add(name)
            self._struct = definition.go_name
            self._fields += [*field.embedded, name]
            self._path = f"{before[2]}.{name}" if before[2] else name
            if value is not None:
                result[name] = self.value(field.type, value)
            elif not field.type.pointer and field.type.kind in ("string", "bool", "int32", "int64", "float64"):
                pass  # null leaves a scalar as it was
            else:
                result.pop(name, None)
            self._struct, self._path = before[0], before[2]
            del self._fields[before[1] :]
        return result

    def _map(self, kind: Type, node: Any) -> Any:
        assert kind.elem is not None
        if not isinstance(node, Pairs):
            self._mismatch(_name_of(node), kind)
            return {}
        before, result = self._path, {}
        for key, value in node:
            if key in result:
                self._note("duplicate", key)
            self._path = f"{before}.{key}" if before else key
            result[key] = _zero(kind.elem) if value is None else self.value(kind.elem, value)
            self._path = before
        return result

    def _list(self, kind: Type, node: Any) -> Any:
        assert kind.elem is not None
        if not isinstance(node, list) or isinstance(node, Pairs):
            self._mismatch(_name_of(node), kind)
            return []
        before, result = self._path, []
        for index, value in enumerate(node):
            self._path = f"{before}[{index}]"
            result.append(_zero(kind.elem) if value is None else self.value(kind.elem, value))
            self._path = before
        return result

    def _scalar(self, kind: Type, node: Any) -> Any:
        if kind.kind == "string" and isinstance(node, str) and not isinstance(node, Number):
            return node
        if kind.kind == "bool" and isinstance(node, bool):
            return node
        if kind.kind == "bytes" and isinstance(node, str) and not isinstance(node, Number):
            try:
                return canonical_base64(node)
            except ValueError as error:
                self.error = self.error or str(error)
                return ""
        if isinstance(node, Number) and kind.kind in (*_BITS, "float64"):
            number = node.plain()
            bits = _BITS.get(kind.kind)
            if bits is None:
                return number
            if isinstance(number, int) and -(1 << bits - 1) <= number < 1 << bits - 1:
                return number
            self._mismatch(f"number {node}", kind)
            return 0
        self._mismatch(_name_of(node), kind)
        return _ZERO_SCALARS.get(kind.kind)

    def _custom(self, kind: Type, node: Any) -> Any:
        if kind.kind in ("raw", "json", "fieldsv1"):
            return plain(node)
        if kind.kind == "quantity":
            if not isinstance(node, str):
                raise _Abort(FORMAT_ERROR)
            return _own(canonical_quantity, node.strip())
        if kind.kind in _PARSERS:
            if not isinstance(node, str) or isinstance(node, Number):
                raise _TypeError(_name_of(node), "string")
            return _own(_PARSERS[kind.kind], node)
        if kind.kind == "intorstring":
            return self._int_or_string(node)
        return self._schema_or(kind.kind, node)

    def _int_or_string(self, node: Any) -> Any:
        if isinstance(node, str) and not isinstance(node, Number):
            return node
        if not isinstance(node, Number):
            raise _TypeError(_name_of(node), "int32")
        number = node.plain()
        if not isinstance(number, int) or not -(1 << 31) <= number < 1 << 31:
            raise _TypeError(f"number {node}", "int32")
        return number

    def _schema_or(self, kind: str, node: Any) -> Any:
        if isinstance(node, Pairs):
            return self._schema(node)
        if kind == "schema-or-bool":
            if isinstance(node, bool):
                return node
            raise _Abort("boolean or JSON schema expected")
        if not isinstance(node, list):
            raise _Abort("Only string arrays are allowed as JSONSchemaPropsOrStringArray" if kind == "schema-or-strings" else
                         f"json: cannot unmarshal {_name_of(node)} into Go value of type v1.JSONSchemaProps")  # fmt: skip
        if kind == "schema-or-strings":
            return plain(node)
        return [self._schema(item) for item in node]

    def _schema(self, node: Any) -> Any:
        """A nested JSON schema, decoded on its own and never strictly."""
        inner = _Decoder(strict=False)
        value = inner.value(Type(STRUCT, "v1.JSONSchemaProps", ref=JSON_SCHEMA), node)
        if inner.first:
            raise _TypeError(*inner.first)
        return value


_CUSTOM = SPECIALS - {"duration"}


def _own(parser: Any, text: str) -> Any:
    try:
        return parser(text)
    except ValueError as error:
        raise _Abort(str(error)) from None


def _name_of(node: Any) -> str:
    """How Go names the JSON value in a type error."""
    if isinstance(node, Pairs):
        return "object"
    if isinstance(node, list):
        return "array"
    if isinstance(node, bool):
        return "bool"
    return "number" if isinstance(node, Number) else "string"


def _zero(kind: Type) -> Any:
    """What null becomes as a list's or map's element."""
    if kind.pointer:
        return None
    if kind.kind in _ZERO_SCALARS:
        return _ZERO_SCALARS[kind.kind]
    return {} if kind.kind == STRUCT else None
