"""The types of the API: what each definition's fields are called, hold, and how they merge. Facts come from data/schemas.msgpack.

The file is read once (0.2 MB of packed definitions); a definition is unpacked when first asked for. How the file writes a type:
`"string"` (or another scalar), `"#core.v1.Container"` (a definition), `["*", T]` (pointer), `["[]", T, go name?]`,
`["{}", T, key type, go name?]`, `["n", scalar, go name]` (a named scalar). Field flags: 1 omitempty, 2 required, 4 omitzero. Extras of a
field: `e` the embedded Go structs it comes from, `l`/`k` list type and map keys, `m` map type, `ps`/`pk` patch strategy and merge key,
`d` default, `n` protobuf field number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgpack

META = "apimachinery.pkg.apis.meta.v1."
STRUCT, LIST, MAP = "struct", "list", "map"

SPECIALS = frozenset({
    "quantity", "intorstring", "raw", "time", "microtime", "duration", "fieldsv1", "json",
    "schema-or-array", "schema-or-bool", "schema-or-strings",
})  # fmt: skip
"""Kinds that have a JSON form of their own (custom marshalling in Go)."""


@dataclass(frozen=True, slots=True)
class Type:
    """What a value is. `kind` is struct, list, map, a Go scalar (string, bool, int32, int64, float64, bytes) or one of SPECIALS."""

    kind: str
    go: str
    """How Go prints the type, as in decoding errors: `v1.Protocol`, `[]v1.Container`, `int32`."""
    pointer: bool = False
    elem: Type | None = None
    """What a list or map holds."""
    ref: str = ""
    """The definition of a struct."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a definition."""

    name: str
    type: Type
    omitempty: bool = False
    required: bool = False
    omitzero: bool = False
    embedded: tuple[str, ...] = ()
    list_type: str = ""
    """`atomic`, `set`, `map` or empty, which means atomic."""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_strategy: tuple[str, ...] = ()
    merge_key: str = ""
    default: Any = None
    number: int = 0
    """The protobuf field number."""


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A struct of the API, or, with `special`, a type with a JSON form of its own."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    map_type: str = ""
    kinds: tuple[tuple[str, str, str], ...] = ()
    """The (group, version, kind) it is the body of."""
    unions: tuple[dict[str, Any], ...] = ()
    special: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    """How a special type is published in OpenAPI."""

    @property
    def go_name(self) -> str:
        """`Container`."""
        return self.name.rpartition(".")[2]

    @property
    def go(self) -> str:
        """`v1.Container`."""
        return go_struct(self.name)


def go_struct(name: str) -> str:
    """How Go prints the struct of a definition: `core.v1.Container` → `v1.Container`."""
    return ".".join(name.rsplit(".", 2)[-2:])


class Schemas:
    """All definitions, unpacked one by one when first used."""

    def __init__(self, packed: bytes) -> None:
        data = msgpack.unpackb(packed)
        self._packed: dict[str, bytes] = data["definitions"]
        self._kinds: dict[str, str] = data["kinds"]
        self._loaded: dict[str, Definition] = {}

    def definition(self, name: str) -> Definition:
        """The definition of that short name (`core.v1.Pod`); KeyError if there is none."""
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = _definition(name, msgpack.unpackb(self._packed[name]))
        return found

    def of_kind(self, api_version: str, kind: str) -> Definition | None:
        """The definition of a kind, or None if it is not built in."""
        name = self._kinds.get(f"{api_version} {kind}")
        return self.definition(name) if name else None

    def names(self) -> list[str]:
        return list(self._packed)

    def kinds(self) -> list[tuple[str, str]]:
        """(apiVersion, kind) of every built-in kind, lists included."""
        return [(key.split(" ")[0], key.split(" ")[1]) for key in self._kinds]


@lru_cache(maxsize=1)
def schemas() -> Schemas:
    """The schemas of Kubernetes 1.36, loaded at first use."""
    return Schemas(files("kubecosm.api.data").joinpath("schemas.msgpack").read_bytes())


def _definition(name: str, raw: dict[str, Any]) -> Definition:
    kinds = tuple((group, version, kind) for group, version, kind in raw.get("k", ()))
    if "x" in raw:
        return Definition(name, special=raw["x"], document=raw["s"], kinds=kinds)
    fields = {entry[0]: _field(*entry) for entry in raw["f"]}
    return Definition(name, fields, raw.get("m", ""), kinds, tuple(raw.get("u", ())))


def _field(name: str, kind: Any, flags: int, extras: dict[str, Any] | None = None) -> Field:
    extra = extras or {}
    return Field(
        name, _type(kind), bool(flags & 1), bool(flags & 2), bool(flags & 4), tuple(extra.get("e", ())),
        extra.get("l", ""), tuple(extra.get("k", ())), extra.get("m", ""),
        tuple(extra["ps"].split(",")) if "ps" in extra else (), extra.get("pk", ""), extra.get("d"), extra.get("n", 0),
    )  # fmt: skip


@lru_cache(maxsize=512)
def _simple_type(kind: str, pointer: bool) -> Type:
    if kind.startswith("#"):
        return Type(STRUCT, go_struct(kind[1:]), pointer, ref=kind[1:])
    return Type(kind, "[]uint8" if kind == "bytes" else kind, pointer)


def _type(kind: Any, pointer: bool = False) -> Type:
    if isinstance(kind, str):
        return _simple_type(kind, pointer)
    code, inner, *rest = kind
    if code == "*":
        return _type(inner, pointer=True)
    if code == "n":
        return Type(inner, rest[0], pointer)
    elem = _type(inner)
    if code == "[]":
        return Type(LIST, rest[0] if rest else f"[]{elem.go}", pointer, elem)
    return Type(MAP, rest[1] if len(rest) > 1 else f"map[{rest[0]}]{elem.go}", pointer, elem)
