"""The hot path of decoding: one compiled checker per definition, which accepts a well-formed object or gives up.

A checker walks a dict fresh from the JSON parser and changes it in place into what Go would hold after decoding it: nulls and empty scalars
that it would omit dropped, struct fields that it always has added, quantities and times canonical. At the first thing that is not plainly
right (wrong type, unknown field, null in a list) it raises Doubt; `explain` then decodes the body again, slowly, and finds the exact error.

Empty lists and maps stay, as they do in Go's memory: a client that sends `env: []` has set that field. `prune` drops them for storage.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kubecosm.api.quantity import canonical as canonical_quantity
from kubecosm.api.schema.model import LIST, MAP, STRUCT, Definition, Field, Type, schemas
from kubecosm.api.schema.scalars import canonical_base64, canonical_micro_time, canonical_time

Checker = Callable[[Any], Any]
"""Returns the canonical value (the same object where nothing changes); raises Doubt, or ValueError out of a scalar's own parser."""

DROP: Any = object()
"""What a checker returns for a value that Go would omit."""


class Doubt(Exception):
    """Not plainly right: look closer."""


_compiled: dict[str, Checker] = {}


def checker(name: str) -> Checker:
    """The checker of a definition, compiled at first use."""
    found = _compiled.get(name)
    if found is None:
        found = _compiled[name] = _struct(schemas().definition(name))
    return found


def _struct(definition: Definition) -> Checker:
    if definition.special:
        return _SPECIAL[definition.special]
    checks: dict[str, Checker] = {}
    texts = {f.name for f in definition.fields.values() if f.type.kind == "string" and (f.omitempty or f.type.pointer)}
    kept_texts = frozenset(name for name in texts if definition.fields[name].type.pointer)
    always = tuple((f.name, zero(f)) for f in definition.fields.values() if is_always_written(f))
    always_names = frozenset(name for name, _ in always)

    def late(field: Field, value: Any) -> Any:
        """Compile a field's checker when it is first met: definitions refer to each other in circles."""
        checks[field.name] = compiled = _field(field)
        return compiled(value)

    for field in definition.fields.values():
        checks[field.name] = partial(late, field)

    def check(obj: Any) -> Any:
        if type(obj) is not dict:
            raise Doubt
        drops = None
        for name, value in obj.items():
            if type(value) is str and name in texts:
                if value or name in kept_texts:
                    continue
                new = DROP
            elif value is None:
                new = DROP
                if name not in checks:
                    raise Doubt
            else:
                compiled = checks.get(name)
                if compiled is None:
                    raise Doubt
                new = compiled(value)
                if new is value:
                    continue
            if new is DROP:
                drops = [name] if drops is None else [*drops, name]
            else:
                obj[name] = new
        if drops is not None:
            for name in drops:
                del obj[name]
        if always and not always_names <= obj.keys():
            for name, make in always:
                if name not in obj:
                    obj[name] = make()
        return obj

    return check


def _field(field: Field) -> Checker:
    """The checker of a field: its type's, plus what omitempty does to an empty scalar."""
    kind = field.type.kind
    inner = compile_type(field.type)
    if field.type.pointer or kind in _NEVER_EMPTY:
        return inner
    if kind == "bytes":
        return _nonempty(inner, DROP if field.omitempty else None)
    return _nonempty(inner, DROP) if field.omitempty else inner


_NEVER_EMPTY = frozenset((STRUCT, LIST, MAP, "intorstring", "quantity", "time", "microtime", "raw", "fieldsv1", "json"))


def _nonempty(inner: Checker, otherwise: Any) -> Checker:
    def check(value: Any) -> Any:
        new = inner(value)
        return new if new else otherwise

    return check


def compile_type(kind: Type) -> Checker:
    """The checker of any non-null value of this type."""
    if kind.kind == STRUCT:
        name = kind.ref
        return _compiled.get(name) or (lambda value: checker(name)(value))
    if kind.kind == LIST:
        assert kind.elem is not None
        return _list(kind.elem)
    if kind.kind == MAP:
        assert kind.elem is not None
        return _map(kind.elem)
    return _SCALARS.get(kind.kind) or _SPECIAL[kind.kind]


def _stays_null(elem: Type) -> bool:
    """Whether a null element is its type's zero value and written as null again."""
    return elem.pointer or elem.kind in _NULLS


_NULLS = frozenset((LIST, MAP, "time", "microtime", "raw", "json", "fieldsv1"))


def _list(elem: Type) -> Checker:
    if elem.kind == "string":
        return _texts
    inner, nullable = compile_type(elem), _stays_null(elem)

    def check(value: Any) -> Any:
        if type(value) is not list:
            raise Doubt
        for index, item in enumerate(value):
            if item is None:
                if nullable:
                    continue
                raise Doubt
            new = inner(item)
            if new is not item:
                value[index] = new
        return value

    return check


def _texts(value: Any) -> Any:
    if type(value) is not list:
        raise Doubt
    for item in value:
        if type(item) is not str:
            raise Doubt
    return value


def _map(elem: Type) -> Checker:
    if elem.kind == "string":
        return _text_map
    inner, nullable = compile_type(elem), _stays_null(elem)

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise Doubt
        for key, item in value.items():
            if item is None:
                if nullable:
                    continue
                raise Doubt
            new = inner(item)
            if new is not item:
                value[key] = new
        return value

    return check


def _text_map(value: Any) -> Any:
    if type(value) is not dict:
        raise Doubt
    for item in value.values():
        if type(item) is not str:
            raise Doubt
    return value


def _string(value: Any) -> Any:
    if type(value) is not str:
        raise Doubt
    return value


def _bool(value: Any) -> Any:
    if type(value) is not bool:
        raise Doubt
    return value


def _integer(bits: int) -> Checker:
    low, high = -(1 << bits - 1), 1 << bits - 1

    def check(value: Any) -> Any:
        if type(value) is not int or not low <= value < high:
            raise Doubt
        return value

    return check


def _float(value: Any) -> Any:
    if type(value) is not int and type(value) is not float:
        raise Doubt
    return value


def _bytes(value: Any) -> Any:
    if type(value) is not str:
        raise Doubt
    canonical = canonical_base64(value)
    return value if canonical == value else canonical


def _quantity(value: Any) -> Any:
    if type(value) is str:
        canonical = canonical_quantity(value)
        return value if canonical == value else canonical
    if type(value) is int:
        return canonical_quantity(str(value))
    raise Doubt


def _time(value: Any) -> Any:
    if type(value) is not str:
        raise Doubt
    canonical = canonical_time(value)
    return value if canonical == value else canonical


def _micro_time(value: Any) -> Any:
    if type(value) is not str:
        raise Doubt
    canonical = canonical_micro_time(value)
    return value if canonical == value else canonical


_int32 = _integer(32)


def _int_or_string(value: Any) -> Any:
    return value if type(value) is str else _int32(value)


def _any(value: Any) -> Any:
    return value


def _schema_or_strings(value: Any) -> Any:
    return _texts(value) if type(value) is list else _json_schema(value)


def _schema_or_array(value: Any) -> Any:
    return [_json_schema(item) for item in value] if type(value) is list else _json_schema(value)


def _json_schema(value: Any) -> Any:
    return checker("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")(value)


def _schema_or_bool(value: Any) -> Any:
    return value if type(value) is bool else _json_schema(value)


_SCALARS: dict[str, Checker] = {
    "string": _string, "bool": _bool, "int32": _int32, "int64": _integer(64), "int": _integer(64), "float64": _float, "bytes": _bytes,
}  # fmt: skip
_SPECIAL: dict[str, Checker] = {
    "quantity": _quantity, "time": _time, "microtime": _micro_time, "intorstring": _int_or_string, "raw": _any, "fieldsv1": _any,
    "json": _any, "duration": _string, "schema-or-array": _schema_or_array, "schema-or-bool": _schema_or_bool,
    "schema-or-strings": _schema_or_strings,
}  # fmt: skip

ZEROS: dict[str, Any] = {
    "string": "", "bool": False, "int32": 0, "int64": 0, "int": 0, "float64": 0, "quantity": "0", "intorstring": 0, "duration": "0s",
}  # fmt: skip


def is_always_written(field: Field) -> bool:
    """Whether Go writes the field even when nobody set it: structs and custom types know no emptiness, other types need omitempty."""
    if not field.omitempty:
        return True
    custom = field.type.kind in ("struct", "quantity", "intorstring", "time", "microtime", "raw", "fieldsv1", "json")
    return custom and not field.type.pointer and not field.omitzero


def zero(field: Field) -> Callable[[], Any]:
    """A maker of what Go writes for the unset field: `{}` with its own always-written fields, `""`, `0`, null for nil."""
    if field.type.pointer or (field.type.kind not in ZEROS and field.type.kind != STRUCT):
        return lambda: None
    if field.type.kind == STRUCT:
        name = field.type.ref
        return lambda: checker(name)({})
    value = ZEROS[field.type.kind]
    return lambda: value
