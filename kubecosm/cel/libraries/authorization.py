"""The authorizer of admission policies: `authorizer.group('').resource('pods').namespace('n').check('get').allowed()`.

Imitates library/authz.go. The caller gives an `Authorizer` made of a function that decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..functions import LIST_COST, STRUCT_COST, TRAVERSAL, Overload, fixed, overload
from ..values import Opaque

CHECK_COST = 350_000
Decide = Callable[[dict[str, Any]], tuple[bool, str, str]]
"""Attributes (path, or group, resource, subresource, namespace, name; verb, serviceAccount) → (allowed, reason, error)."""


class Authorizer(Opaque):
    """Whom to ask; `attributes` are what the calls so far have said."""

    __slots__ = ("attributes", "cel_kind", "decide")

    def __init__(self, decide: Decide, attributes: dict[str, Any] | None = None, kind: str = "kubernetes.authorization.Authorizer") -> None:
        self.decide, self.attributes, self.cel_kind = decide, attributes or {}, kind

    def having(self, kind: str, **more: Any) -> Authorizer:
        return Authorizer(self.decide, {**self.attributes, **more}, f"kubernetes.authorization.{kind}")


class Decision(Opaque):
    """An answer."""

    __slots__ = ("allowed", "error", "reason")
    cel_kind = "kubernetes.authorization.Decision"

    def __init__(self, allowed: bool, reason: str, error: str) -> None:
        self.allowed, self.reason, self.error = allowed, reason, error


def _check(found: Authorizer, verb: str = "") -> Decision:
    return Decision(*found.decide({**found.attributes, "verb": verb}))


def _of_selector(args: tuple[Any, ...], result: Any) -> int:
    """A list of requirements, each of two characters at least, each a struct and a list."""
    length = len(args[1])
    return LIST_COST + math.ceil(length * TRAVERSAL) + math.ceil(length * 0.5) * (LIST_COST + STRUCT_COST)


def declarations() -> list[tuple[str, Overload]]:
    root, path, group, resource = (f"kubernetes.authorization.{kind}" for kind in ("Authorizer", "PathCheck", "GroupCheck",
    "ResourceCheck"))
    decision, one, check = "kubernetes.authorization.Decision", fixed(1), fixed(CHECK_COST)

    def setting(field: str) -> Callable[[Authorizer, str], Authorizer]:
        return lambda found, value: found.having("ResourceCheck", **{field: value})

    return [
        overload(f"{root}.path(string) {path}", lambda a, text: a.having("PathCheck", path=text), one),
        overload(f"{root}.group(string) {group}", lambda a, text: a.having("GroupCheck", group=text), one),
        overload(f"{root}.serviceAccount(string, string) {root}",
                 lambda a, namespace, name: a.having("Authorizer", serviceAccount=(namespace, name)), one),
        overload(f"{group}.resource(string) {resource}", setting("resource"), one),
        *(overload(f"{resource}.{field}(string) {resource}", setting(field), one)
          for field in ("subresource", "namespace", "name")),
        *(overload(f"{resource}.{field}(string) {resource}", setting(field), _of_selector) for field in ("fieldSelector", "labelSelector")),
        overload(f"{path}.check(string) {decision}", _check, check), overload(f"{resource}.check(string) {decision}", _check, check),
        overload(f"{decision}.allowed() bool", lambda d: d.allowed, one), overload(f"{decision}.reason() string", lambda d: d.reason, one),
        overload(f"{decision}.errored() bool", lambda d: bool(d.error), one),
        overload(f"{decision}.error() string", lambda d: d.error, one),
    ]  # fmt: skip
