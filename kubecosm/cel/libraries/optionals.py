"""Optional values, and what two-variable comprehensions need. `or` and `orValue` are the interpreter's; they are declared here."""

from __future__ import annotations

from typing import Any

from ..functions import Overload, overload, static
from ..values import NONE, CelError, Optional


def _unless_zero(value: Any) -> Optional:
    is_zero = value is None or value is False or value == 0 or (isinstance(value, str | bytes | list | dict) and not value)
    return NONE if is_zero else Optional(value)


def _value(found: Optional) -> Any:
    if not found.present:
        raise CelError("optional.none() dereference")
    return found.value


def _inserted(entries: dict[Any, Any], *added: Any) -> dict[Any, Any]:
    new = dict([added]) if len(added) == 2 else added[0]
    for key in new:
        if key in entries:
            raise CelError(f"insert failed: key {key} already exists")
    entries.update(new)  # the macro's own, and nobody else's
    return entries


def _unwrapped(items: list[Any]) -> list[Any]:
    return [item.value for item in items if item.present]


def declarations() -> list[tuple[str, Overload]]:
    return [
        static("optional.of", "(A) optional(A)", Optional), static("optional.none", "() optional(A)", lambda: NONE),
        static("optional.ofNonZeroValue", "(A) optional(A)", _unless_zero),
        overload("optional(A).hasValue() bool", lambda found: found.present), overload("optional(A).value() A", _value),
        overload("optional(A).or(optional(A)) optional(A)", Optional), overload("optional(A).orValue(A) A", Optional),
        overload("list(A).first() optional(A)", lambda items: Optional(items[0]) if items else NONE),
        overload("list(A).last() optional(A)", lambda items: Optional(items[-1]) if items else NONE),
        static("optional.unwrap", "(list(optional(A))) list(A)", _unwrapped),
        overload("list(optional(A)).unwrapOpt() list(A)", _unwrapped),
        static("_[_]", "(optional(list(A)), int) optional(A)", Optional),
        static("_[_]", "(optional(map(A, B)), A) optional(B)", Optional),
        static("cel.@mapInsert", "(map(A, B), A, B) map(A, B)", _inserted),
        static("cel.@mapInsert", "(map(A, B), map(A, B)) map(A, B)", _inserted),
    ]  # fmt: skip
