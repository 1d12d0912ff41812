"""Policies and bindings, read when they change and found by what a request is about.

Imitates apiserver/pkg/admission/plugin/policy/generic (policy_source, policy_dispatcher). A policy without a binding does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kubecosm.api.resources import Object, Resource

from ...cache.events import Event
from ...cache.resource import ResourceCache
from ..chain import Attributes
from ..matching import GROUP, POLICY_KINDS, Criteria, Surroundings, read_criteria


class Policy(Protocol):
    """What the index needs of a policy."""

    @property
    def name(self) -> str: ...

    @property
    def criteria(self) -> Criteria: ...


P = TypeVar("P", bound=Policy)


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding, read once."""

    name: str
    policy: str
    criteria: Criteria | None
    """Further restrictions; None: none."""
    param_ref: Object | None
    actions: tuple[str, ...]


def read_binding(obj: Object) -> Binding:
    spec = obj["spec"]
    match = spec.get("matchResources")
    criteria = None if match is None else read_criteria(match, "resourceRules")
    return Binding(
        obj["metadata"]["name"], spec.get("policyName", ""), criteria, spec.get("paramRef"), tuple(spec.get("validationActions") or ())
    )


@dataclass(frozen=True, slots=True)
class Match(Generic[P]):
    """A policy whose rules match a request, the version in which it wants the object, and its bindings."""

    policy: P
    row: Resource
    bindings: tuple[Binding, ...]


class PolicyIndex(Generic[P]):
    """All policies of one kind. `changed` is called when they, or what binds them, are others."""

    def __init__(
        self, policies: ResourceCache, bindings: ResourceCache, surroundings: Surroundings, read: Callable[[Object], P]
    ) -> None:
        self._caches = policies, bindings
        self.surroundings = surroundings
        self._read = read
        self._policies: dict[str, P] = {}
        self._bindings: dict[str, Binding] = {}
        self._active: tuple[tuple[P, tuple[Binding, ...]], ...] = ()
        self._found: dict[tuple[Resource, str, str, bool], tuple[Match[P], ...]] = {}
        self._generation = -1
        self.changed: Callable[[], None] = lambda: None

    def start(self) -> None:
        policies, bindings = self._caches
        for entry in policies.entries():
            self._policies[entry.key] = self._read(entry.decode())
        for entry in bindings.entries():
            self._bindings[entry.key] = read_binding(entry.decode())
        policies.followers.append(lambda events: self._take_in(events, self._policies, self._read))
        bindings.followers.append(lambda events: self._take_in(events, self._bindings, read_binding))
        self._settle()

    T = TypeVar("T")

    def _take_in(self, events: Sequence[Event], into: dict[str, T], read: Callable[[Object], T]) -> None:
        for event in events:
            if event.entry is None:
                into.pop(event.key, None)
            else:
                into[event.key] = read(event.entry.decode())
        self._settle()

    def _settle(self) -> None:
        bound: dict[str, list[Binding]] = {}
        for key in sorted(self._bindings):
            bound.setdefault(self._bindings[key].policy, []).append(self._bindings[key])
        self._active = tuple((self._policies[name], tuple(bound[name])) for name in sorted(self._policies) if name in bound)
        self._found.clear()
        self.changed()

    def may_concern(self, row: Resource, subresource: str) -> bool:
        """Whether any policy in force could be about a resource. Policies are never about policies."""
        if not self._active or (row.group == GROUP and row.plural in POLICY_KINDS):
            return False
        versions = self.surroundings.versions(row, subresource)
        return any(policy.criteria.is_about(row, subresource, versions) for policy, _ in self._active)

    def find(self, attributes: Attributes) -> Sequence[Match[P]]:
        """The policies whose rules match, in the order of their names. Selectors, bindings and conditions are yet to be asked.

        They have no say about what the server writes by itself: one that fails must not keep it from starting.
        """
        if attributes.is_internal:
            return ()
        generation = self.surroundings.state.table.generation
        if self._generation != generation:
            self._found.clear()
            self._generation = generation
        key = attributes.resource, attributes.subresource, attributes.operation, bool(attributes.namespace)
        found = self._found.get(key)
        if found is None:
            found = tuple(self._matching(attributes))
            if not any(policy.criteria.depends_on_name for policy, _ in self._active):
                self._found[key] = found
        return found

    def _matching(self, attributes: Attributes) -> Iterable[Match[P]]:
        versions = self.surroundings.versions(attributes.resource, attributes.subresource)
        for policy, bindings in self._active:
            row = policy.criteria.matching_row(attributes, versions)
            if row is not None:
                yield Match(policy, row, bindings)

    def binds(self, binding: Binding, attributes: Attributes) -> bool:
        """Whether a binding puts its policy in force for a request. Raises NotFound where the namespace is missing."""
        criteria = binding.criteria
        if criteria is None:
            return True
        versions = self.surroundings.versions(attributes.resource, attributes.subresource)
        return criteria.matching_row(attributes, versions) is not None and self.surroundings.selects(criteria, attributes)
