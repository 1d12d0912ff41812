"""CEL's types, how they are written, and which fits where. Imitates cel-go's common/types and checker/types.go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PRIMITIVES = ("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint")
_NULLABLE = frozenset(("opaque", "duration", "object", "timestamp"))


class Type:
    """`kind` is the name of a primitive, or list, map, type, opaque, object, param, dyn, null, error."""

    __slots__ = ("fields", "kind", "least_bytes", "name", "params", "size_max")

    def __init__(self, kind: str, name: str = "", params: Sequence[Type] = (), fields: Mapping[str, Type] | None = None) -> None:
        self.kind, self.name, self.params, self.fields = kind, name or kind, tuple(params), fields
        self.size_max = 0
        """How large a declared value may be: characters of a text, items of a list, entries of a map. For the estimation of costs."""
        self.least_bytes = 0
        """How many bytes a declared value has at least in JSON."""

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Type) and self.kind == other.kind and self.name == other.name and self.params == other.params
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.params))

    def __str__(self) -> str:
        if self.kind == "error":
            return "!error!"
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name

    __repr__ = __str__


BOOL, BYTES, DOUBLE, DURATION, INT, STRING, TIMESTAMP, UINT = (Type(name) for name in _PRIMITIVES)
DYN, NULL, ERROR = Type("dyn"), Type("null"), Type("error")


def bounded(found: Type, size_max: int, least_bytes: int) -> Type:
    """A type of its own with these bounds."""
    made = Type(found.kind, found.name, found.params, found.fields)
    made.size_max, made.least_bytes = size_max, least_bytes
    return made


def list_of(element: Type) -> Type:
    return Type("list", "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def type_of(inner: Type) -> Type:
    return Type("type", "type", (inner,))


def optional_of(inner: Type) -> Type:
    return Type("opaque", "optional_type", (inner,))


def opaque(name: str, *params: Type) -> Type:
    return Type("opaque", name, params)


def object_of(name: str, fields: Mapping[str, Type] | None) -> Type:
    """An object with these fields; None for one that may have any."""
    return Type("object", name, (), fields)


def param(name: str) -> Type:
    return Type("param", name)


_BY_NAME = {
    **{t.name: t for t in (BOOL, BYTES, DOUBLE, DURATION, INT, STRING, TIMESTAMP, UINT, DYN, NULL)},
    "list": list_of(DYN), "map": map_of(DYN, DYN), "type": Type("type", "type"),
}  # fmt: skip
_TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|[(),])")


def parse_types(text: str) -> list[Type]:
    """`int, list(T), map(string, dyn), net.IP` → types. A single capital letter is a type parameter."""
    tokens, position = _TOKEN.findall(text), 0

    def one() -> Type:
        nonlocal position
        name = tokens[position]
        position += 1
        inner: list[Type] = []
        if position < len(tokens) and tokens[position] == "(":
            while tokens[position] != ")":
                position += 1
                inner.append(one())
            position += 1
        return _named(name, inner)

    found: list[Type] = []
    while position < len(tokens):
        found.append(one())
        position += 1  # the comma
    return found


def _named(name: str, inner: list[Type]) -> Type:
    if len(name) == 1 and name.isupper():
        return param(name)
    if inner:
        if name == "optional":
            return optional_of(*inner)
        return Type(name, name, inner) if name in ("list", "map", "type") else opaque(name, *inner)
    return _BY_NAME.get(name) or opaque(name)


# ---- which fits where


class Bindings(dict[Type, Type]):
    """What type parameters stand for."""

    def resolve(self, found: Type, *, params_to_dyn: bool = False) -> Type:
        """The type with parameters replaced by what they are bound to; with `params_to_dyn` free ones become dyn."""
        if (bound := self.get(found)) is not None:
            return self.resolve(bound, params_to_dyn=params_to_dyn)
        if found.kind == "param":
            return DYN if params_to_dyn else found
        if found.params:
            inner = [self.resolve(part, params_to_dyn=params_to_dyn) for part in found.params]
            return Type(found.kind, found.name, inner, found.fields) if list(found.params) != inner else found
        return found

    def assign_all(self, have: Sequence[Type], want: Sequence[Type]) -> bool:
        """Whether each of `have` may stand where `want` is asked for; binds parameters if so, else leaves all as it was."""
        if len(have) != len(want):
            return False
        before = dict(self)
        if all(self._fits(a, b) for a, b in zip(have, want, strict=True)):
            return True
        self.clear()
        self.update(before)
        return False

    def assign(self, have: Type, want: Type) -> bool:
        return self.assign_all((have,), (want,))

    def _fits(self, have: Type, want: Type) -> bool:
        if want.kind == "param":
            valid, bound = self._bind(have, want)
            if valid or bound:
                return valid
        if have.kind == "param":
            return self._bind(want, have)[0]
        if have.kind in ("dyn", "error") or want.kind in ("dyn", "error"):
            return True
        if have.kind == "null" or want.kind == "null":
            other = want if have.kind == "null" else have
            return other.kind == "null" or other.kind in _NULLABLE
        if have.kind != want.kind:
            return False
        if have.kind == "type":
            return True
        if have.kind in ("opaque", "list", "map"):
            same = have.name == want.name and len(have.params) == len(want.params)
            return same and all(self._fits(a, b) for a, b in zip(have.params, want.params, strict=True))
        return have.name == want.name

    def _bind(self, found: Type, parameter: Type) -> tuple[bool, bool]:
        """(whether `found` is what the parameter may stand for, whether it stood for something before)."""
        if found == parameter:
            return True, True
        bound = self.get(parameter)
        if bound is None:
            if self._mentions(found, parameter):
                return False, False
            self[parameter] = found
            return True, False
        if found == bound:
            return True, True
        if not self._fits(found, bound):
            return False, True
        wider = most_general(found, bound)
        if not self._mentions(wider, parameter):
            self[parameter] = wider
        return True, True

    def _mentions(self, found: Type, parameter: Type) -> bool:
        if found == parameter:
            return True
        if found.kind == "param":
            bound = self.get(found)
            return bound is not None and self._mentions(bound, parameter)
        return any(self._mentions(part, parameter) for part in found.params)


def most_general(one: Type, other: Type) -> Type:
    return one if _is_as_general(one, other) else other


def _is_as_general(one: Type, other: Type) -> bool:
    if one.kind in ("dyn", "param"):
        return True
    if other.kind in ("dyn", "param"):
        return False
    if one.kind == "null":
        return other.kind == "null"
    if other.kind == "null":
        return one.kind in _NULLABLE
    if one.kind != other.kind or one.name != other.name or len(one.params) != len(other.params):
        return False
    return all(_is_as_general(a, b) for a, b in zip(one.params, other.params, strict=True))
