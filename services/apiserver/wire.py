"""Protobuf messages field by field: maps from field numbers to values, for which no generated code is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

VARINT, BYTES = 0, 2
Fields = dict[int, list[bytes | int]]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes | str | int) -> bytes:
    """One field; nothing for its zero value, as proto3 has it."""
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def entries(number: int, values: Mapping[str, bytes]) -> bytes:
    """A map<string, bytes>."""
    return b"".join([varint(number << 3 | BYTES) + _sized(field(1, key) + field(2, value)) for key, value in sorted(values.items())])


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def parse(message: bytes) -> Fields:
    """The fields by number. Raises ValueError for what is no such message."""
    found: Fields = {}
    for number, value in _read(message):
        found.setdefault(number, []).append(value)
    return found


def _read(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0

    def read_varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(message) or shift > 63:
                raise ValueError("not a protobuf message")
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = read_varint()
        if tag & 7 == VARINT:
            yield tag >> 3, read_varint()
        elif tag & 7 == BYTES:
            size = read_varint()
            if at + size > len(message):
                raise ValueError("not a protobuf message")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError("not a protobuf message")


def data_of(fields: Fields, number: int) -> bytes:
    """The last value of a field of bytes; empty if it is not there."""
    value = fields.get(number, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def text_of(fields: Fields, number: int) -> str:
    return data_of(fields, number).decode(errors="replace")


def number_of(fields: Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    return value if isinstance(value, int) else 0


def map_of(fields: Fields, number: int) -> dict[str, bytes]:
    pairs = (parse(entry) for entry in fields.get(number, ()) if isinstance(entry, bytes))
    return {text_of(pair, 1): data_of(pair, 2) for pair in pairs}
