"""Read struct types (field order, Go types, struct tags) from the runtime type data of a Go program such as kubectl.

Kubernetes' published API documents do not say what decides how an object looks after a round trip through the server: which fields are
pointers, which are omitted when empty, what the named types are called. Every Go program that registers the API types carries these facts.
Only static, little-endian 64-bit ELF files are understood. Layouts: internal/abi/type.go of Go 1.22-1.26.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = (
    "invalid", "bool", "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64", "uintptr",
    "float32", "float64", "complex64", "complex128", "array", "chan", "func", "interface", "map", "ptr", "slice", "string",
    "struct", "unsafe",
)  # fmt: skip
_EXTRA_BYTES = {"struct": 32, "ptr": 8, "slice": 8, "array": 24, "interface": 32, "map": 64, "chan": 16, "func": 8}
_NAMED, _EXTRA_STAR, _UNCOMMON = 4, 2, 1
_TYPE_SIZE = 48


@dataclass(frozen=True)
class GoField:
    """One struct field; type is written as reflect prints it (`*v1.SecurityContext`), package is the field type's import path."""

    name: str
    address: int
    tag: str
    embedded: bool


class GoBinary:
    """Random access to the types of one program, each named by its address."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._sections = dict(self._read_sections())
        self._rodata = self._sections[".rodata"][0]

    def _read_sections(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        offset, = struct.unpack_from("<Q", self._data, 0x28)
        size, count, names_index = struct.unpack_from("<HHH", self._data, 0x3A)
        headers = [struct.unpack_from("<IIQQQQ", self._data, offset + i * size) for i in range(count)]
        names = headers[names_index][4]
        for header in headers:
            start = names + header[0]
            yield self._data[start : self._data.index(b"\0", start)].decode(), (header[3], header[4], header[5])

    def _at(self, address: int) -> int:
        for start, offset, size in self._sections.values():
            if start and start <= address < start + size:
                return address - start + offset
        raise ValueError(f"no section holds {address:#x}")

    def _u64(self, address: int) -> int:
        value, = struct.unpack_from("<Q", self._data, self._at(address))
        return int(value)

    def _name(self, address: int) -> tuple[str, str, bool]:
        """(name, tag, embedded) of an abi.Name."""
        at = self._at(address)
        flags, at = self._data[at], at + 1
        parts = []
        for _ in range(2 if flags & 2 else 1):
            length = shift = 0
            while True:
                byte, at = self._data[at], at + 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            parts.append(self._data[at : at + length].decode())
            at += length
        return parts[0], parts[1] if len(parts) > 1 else "", bool(flags & 8)

    def kind(self, address: int) -> str:
        return KINDS[self._data[self._at(address) + 23] & 31]

    def text(self, address: int) -> str:
        """The type as reflect prints it."""
        at = self._at(address)
        offset, = struct.unpack_from("<i", self._data, at + 40)
        text = self._name(self._rodata + offset)[0]
        return text[1:] if self._data[at + 20] & _EXTRA_STAR else text

    def is_named(self, address: int) -> bool:
        return bool(self._data[self._at(address) + 20] & _NAMED)

    def package(self, address: int) -> str:
        """Import path of a named type's package; empty for built-in and unnamed types."""
        at = self._at(address)
        if not self._data[at + 20] & _UNCOMMON:
            return ""
        extra = _EXTRA_BYTES.get(self.kind(address), 0)
        offset, = struct.unpack_from("<i", self._data, at + _TYPE_SIZE + extra)
        return self._name(self._rodata + offset)[0] if offset else ""

    def elem(self, address: int) -> int:
        """What a pointer, slice or array holds; a map's values."""
        return self._u64(address + _TYPE_SIZE + (8 if self.kind(address) == "map" else 0))

    def key(self, address: int) -> int:
        """A map's keys."""
        return self._u64(address + _TYPE_SIZE)

    def fields(self, address: int) -> list[GoField]:
        start, count = self._u64(address + _TYPE_SIZE + 8), self._u64(address + _TYPE_SIZE + 16)
        found = []
        for index in range(count):
            name_at, type_at = self._u64(start + index * 24), self._u64(start + index * 24 + 8)
            name, tag, embedded = self._name(name_at)
            found.append(GoField(name, type_at, tag, embedded))
        return found

    def structs(self) -> dict[str, int]:
        """`import/path.Name` of every named struct that something points to → address."""
        _, offset, size = self._sections[".typelink"]
        found = {}
        for (link,) in struct.iter_unpack("<i", self._data[offset : offset + size]):
            pointer = self._rodata + link
            if self.kind(pointer) != "ptr":
                continue
            target = self.elem(pointer)
            if self.kind(target) == "struct" and self.is_named(target):
                found[f"{self.package(target)}.{self.text(target).rpartition('.')[2]}"] = target
        return found


if __name__ == "__main__":
    binary = GoBinary(Path(sys.argv[1]))
    for name, where in sorted(binary.structs().items()):
        if len(sys.argv) > 2 and sys.argv[2] in name:
            print(name)
            for field in binary.fields(where):
                print("   ", field.name, binary.text(field.address), field.tag, "embedded" if field.embedded else "")
