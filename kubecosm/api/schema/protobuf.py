"""Kubernetes' protobuf bodies as JSON-shaped dicts: kubectl sends some of its creates that way. Decoding only; answers are JSON.

A body is `k8s\\0` and a runtime.Unknown that names the kind. Field numbers come with the schemas. What Go embeds in a struct without a name
(VolumeSource in Volume) is flat in JSON but a message of its own on the wire; its number is the first that no other field uses.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from kubecosm.api.schema.model import LIST, MAP, STRUCT, Definition, Type, schemas
from kubecosm.api.times import format_micro_time, format_time

MAGIC = b"k8s\0"
MESSAGE_DEPTH_MAX = 100
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Reader = Callable[[Any, dict[str, Any], int], None]
"""Takes one wire value into the dict of its message; the last argument is the depth left."""


class ProtobufError(ValueError):
    """The body is not what its schema says."""


def decode(body: bytes) -> dict[str, Any]:
    """The object of a body, with apiVersion and kind. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = {number: value for number, _, value in _fields(memoryview(body)[4:])}
    type_meta = {number: value for number, _, value in _fields(envelope.get(1, b""))}
    api_version, kind = _text(type_meta.get(1, b"")), _text(type_meta.get(2, b""))
    definition = schemas().of_kind(api_version, kind)
    if definition is None and kind == "DeleteOptions":
        definition = schemas().definition("apimachinery.pkg.apis.meta.v1.DeleteOptions")
    if definition is None:
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    return {"apiVersion": api_version, "kind": kind, **_message(definition, envelope.get(2, b""), MESSAGE_DEPTH_MAX)}


def _fields(data: Any) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of every field of a message; values are ints or memoryviews."""
    view, position = memoryview(data), 0
    while position < len(view):
        tag, position = _varint(view, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(view, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(view, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if position + size > len(view):
            raise ProtobufError("unexpected EOF")
        yield number, wire, view[position : position + size]
        position += size


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(view):
            raise ProtobufError("unexpected EOF")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ProtobufError("proto: integer overflow")


def _message(definition: Definition, data: Any, depth: int) -> dict[str, Any]:
    if depth <= 0:
        raise ProtobufError("proto: message is nested too deeply")
    readers = _readers(definition.name)
    found: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        reader = readers.get(number)
        if reader is not None:
            if wire != _BYTES and isinstance(value, memoryview):
                value = bytes(value)
            reader(value, found, depth - 1)
    return found


@lru_cache(maxsize=1024)
def _readers(name: str) -> dict[int, Reader]:
    """Field number → reader, for one definition; made at first use."""
    fields = schemas().definition(name).fields.values()
    own = [(f.number, _reader(f.name, f.type)) for f in fields if not f.embedded and f.number]
    chains: dict[tuple[str, ...], list[tuple[int, Reader]]] = {}
    for f in fields:
        chain = tuple(go for go in f.embedded if go != "TypeMeta")
        if chain and f.number:
            chains.setdefault(chain, []).append((f.number, _reader(f.name, f.type)))
    return _nest(own, chains)


def _nest(own: list[tuple[int, Reader]], chains: dict[tuple[str, ...], list[tuple[int, Reader]]]) -> dict[int, Reader]:
    """Readers of a message's own fields and, behind the first free number each, of the messages it embeds."""
    readers = dict(own)
    heads = dict.fromkeys(chain[0] for chain in chains)
    for head in heads:
        inner_own = chains.get((head,), [])
        deeper = {chain[1:]: found for chain, found in chains.items() if chain[0] == head and len(chain) > 1}
        number = next(n for n in range(1, len(readers) + 2) if n not in readers)
        readers[number] = _embedded(_nest(inner_own, deeper))
    return readers


def _embedded(readers: dict[int, Reader]) -> Reader:
    def read(value: Any, into: dict[str, Any], depth: int) -> None:
        for number, _, inner in _fields(value):
            reader = readers.get(number)
            if reader is not None:
                reader(inner, into, depth - 1)

    return read


def _reader(name: str, kind: Type) -> Reader:
    if kind.kind == LIST:
        assert kind.elem is not None
        return _list_reader(name, kind.elem)
    if kind.kind == MAP:
        assert kind.elem is not None
        return _map_reader(name, kind.elem)

    def read(value: Any, into: dict[str, Any], depth: int) -> None:
        into[name] = _value(kind, value, depth)

    return read


def _list_reader(name: str, elem: Type) -> Reader:
    def read(value: Any, into: dict[str, Any], depth: int) -> None:
        items = into.setdefault(name, [])
        if isinstance(value, memoryview) and elem.kind in ("int32", "int64", "bool"):  # packed
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                items.append(_value(elem, number, depth))
            return
        items.append(_value(elem, value, depth))

    return read


def _map_reader(name: str, elem: Type) -> Reader:
    def read(value: Any, into: dict[str, Any], depth: int) -> None:
        entry = {number: inner for number, _, inner in _fields(value)}
        into.setdefault(name, {})[_text(entry.get(1, b""))] = _value(elem, entry[2], depth) if 2 in entry else _zero(elem)

    return read


def _zero(kind: Type) -> Any:
    return "" if kind.kind in ("string", "bytes") else _value(kind, memoryview(b""), 1)


def _value(kind: Type, value: Any, depth: int) -> Any:
    if kind.kind == STRUCT:
        return _message(schemas().definition(kind.ref), value, depth)
    if kind.kind == LIST:  # a list inside a map or list is wrapped in a message
        into: dict[str, Any] = {}
        assert kind.elem is not None
        read = _list_reader("items", kind.elem)
        for _, _, inner in _fields(value):
            read(inner, into, depth)
        return into.get("items", [])
    convert = _SCALARS.get(kind.kind)
    if convert is None:
        raise ProtobufError(f"proto: cannot decode {kind.go}")
    return convert(value)


def _text(value: Any) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise ProtobufError("proto: invalid UTF-8") from error


def _int64(value: Any) -> int:
    number = int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def _int32(value: Any) -> int:
    number = int(value) & 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def _float(value: Any) -> float:
    return float(struct.unpack("<d", value)[0])


def _numbered(value: Any) -> dict[int, Any]:
    return {number: inner for number, _, inner in _fields(value)}


def _moment(value: Any) -> datetime | None:
    """A Timestamp; the empty one is Go's zero time, which JSON writes as null."""
    parts = _numbered(value)
    seconds, nanos = _int64(parts.get(1, 0)), _int32(parts.get(2, 0))
    if not seconds and not nanos:
        return None
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError as error:
        raise ProtobufError("proto: time out of range") from error


def _time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else format_time(moment)


def _micro_time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else format_micro_time(moment)


def _int_or_string(value: Any) -> int | str:
    parts = _numbered(value)
    return _text(parts.get(3, b"")) if parts.get(1) else _int32(parts.get(2, 0))


def _json(value: Any) -> Any:
    raw = bytes(_numbered(value).get(1, b""))
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError as error:
        raise ProtobufError(f"proto: raw JSON: {error}") from error


def _duration(value: Any) -> str:
    nanos = _int64(_numbered(value).get(1, 0))
    return f"{nanos / 1e9:g}s"


def _json_schema(value: Any) -> Any:
    return _message(schemas().definition("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"), value, MESSAGE_DEPTH_MAX)


def _schema_or_array(value: Any) -> Any:
    found = list(_fields(value))
    many = [_json_schema(inner) for number, _, inner in found if number == 2]
    if many:
        return many
    return next((_json_schema(inner) for number, _, inner in found if number == 1), None)


def _schema_or_bool(value: Any) -> Any:
    parts = _numbered(value)
    return _json_schema(parts[2]) if 2 in parts else bool(parts.get(1))


def _schema_or_strings(value: Any) -> Any:
    found = list(_fields(value))
    texts = [_text(inner) for number, _, inner in found if number == 2]
    if texts:
        return texts
    return next((_json_schema(inner) for number, _, inner in found if number == 1), None)


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": _text, "bool": bool, "int32": _int32, "int64": _int64, "float64": _float,
    "bytes": lambda value: b64encode(value).decode(), "quantity": lambda value: _text(_numbered(value).get(1, b"0")), "time": _time,
    "microtime": _micro_time, "intorstring": _int_or_string, "raw": _json, "fieldsv1": _json, "json": _json, "duration": _duration,
    "schema-or-array": _schema_or_array, "schema-or-bool": _schema_or_bool, "schema-or-strings": _schema_or_strings,
}  # fmt: skip
