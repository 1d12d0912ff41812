"""Which requests a webhook or a policy is about: rules, selectors, and the versions a resource can be had in.

Imitates k8s.io/apiserver/pkg/admission/plugin/webhook/{predicates,generic} and plugin/policy/matching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson

from kubecosm.api import errors, selectors
from kubecosm.api.resources import NAMESPACES, Object, Resource
from kubecosm.api.schema import prune
from kubecosm.api.selectors import LabelSelector

from ..rest.unconverted import ROUNDS_MAX, Unconverted
from ..state import State
from .chain import CREATE, UPDATE, Attributes
from .waiting import Waits

T = TypeVar("T")
GROUP = "admissionregistration.k8s.io"
POLICY_KINDS = frozenset((
    "validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
))  # fmt: skip
EXEMPT = POLICY_KINDS | {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"}
"""What admission is configured by: webhooks have no say about it, else a broken one could not be removed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled. Names are only known to the rules of policies."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    """(resource, subresource), each may be `*`."""
    scope: str
    names: frozenset[str]

    def is_about(self, row: Resource, subresource: str) -> bool:
        """Whatever the operation, the scope and the name."""
        if not ({"*", row.group} & self.groups and {"*", row.version} & self.versions):
            return False
        return any(name in ("*", row.plural) and sub in ("*", subresource) for name, sub in self.resources)

    def matches(self, attributes: Attributes, row: Resource) -> bool:
        """`row` is the resource asked for, or an equivalent one."""
        if not ("*" in self.operations or attributes.operation in self.operations) or not self.is_about(row, attributes.subresource):
            return False
        if self.names and attributes.name not in self.names:
            return False
        if self.scope == "*":
            return True
        is_namespaced = bool(attributes.namespace) and attributes.resource != NAMESPACES
        return is_namespaced == (self.scope == "Namespaced")


def read_rules(rules: Iterable[Object] | None) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            frozenset(rule.get("operations") or ()), frozenset(rule.get("apiGroups") or ()), frozenset(rule.get("apiVersions") or ()),
            tuple((name, sub) for name, _, sub in (text.partition("/") for text in rule.get("resources") or ())),
            rule.get("scope") or "*", frozenset(rule.get("resourceNames") or ()),
        )
        for rule in rules or ()
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Criteria:
    """Rules and selectors of one webhook, policy or binding. Without rules everything matches (bindings)."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    equivalent: bool
    namespaces: LabelSelector
    objects: LabelSelector
    everything: bool = False

    @property
    def depends_on_name(self) -> bool:
        return any(rule.names for rule in (*self.rules, *self.excluded))

    def is_about(self, row: Resource, subresource: str, versions: Sequence[Resource]) -> bool:
        """Whether any operation on the resource could match."""
        rows = [row, *versions] if self.equivalent else [row]
        return self.everything or any(rule.is_about(each, subresource) for rule in self.rules for each in rows)

    def matching_row(self, attributes: Attributes, versions: Sequence[Resource]) -> Resource | None:
        """The version of the resource that the rules ask for; None if they are not about this request.

        `versions` are the other ones that the resource is served in.
        """
        if self.excluded and self._first(self.excluded, attributes, versions) is not None:
            return None
        return attributes.resource if self.everything else self._first(self.rules, attributes, versions)

    def _first(self, rules: tuple[Rule, ...], attributes: Attributes, versions: Sequence[Resource]) -> Resource | None:
        if any(rule.matches(attributes, attributes.resource) for rule in rules):
            return attributes.resource
        if not self.equivalent:
            return None
        return next((row for rule in rules for row in versions if rule.matches(attributes, row)), None)


def read_criteria(source: Object, rules: str = "rules") -> Criteria:
    """Of a webhook, or (rules: `resourceRules`) of matchConstraints or matchResources."""
    wanted = read_rules(source.get(rules))
    return Criteria(
        wanted, read_rules(source.get("excludeResourceRules")), source.get("matchPolicy", "Equivalent") == "Equivalent",
        selectors.from_label_selector(source.get("namespaceSelector") or {}),
        selectors.from_label_selector(source.get("objectSelector") or {}),
        everything=rules != "rules" and not wanted,
    )  # fmt: skip


class Surroundings:
    """What rules and selectors need to know of the server: namespaces, and the versions of resources."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._versions: dict[tuple[Resource, str], tuple[Resource, ...]] = {}
        self._generation = -1

    def versions(self, row: Resource, subresource: str) -> tuple[Resource, ...]:
        """The other rows under which the same objects (or their subresource) are served."""
        if self._generation != self.state.table.generation:
            self._versions.clear()
            self._generation = self.state.table.generation
        found = self._versions.get((row, subresource))
        if found is None:
            found = self._versions[row, subresource] = self._other_versions(row, subresource)
        return found

    def _other_versions(self, row: Resource, subresource: str) -> tuple[Resource, ...]:
        stores = self.state.stores
        mine = stores.get((row.group, row.version, row.plural))
        if mine is None:
            return ()
        rows = (store.row for store in stores.values() if store.stored == mine.stored and store.row != row)
        return tuple(other for other in rows if not subresource or other.subresource(subresource) is not None)

    def selects(self, criteria: Criteria, attributes: Attributes) -> bool:
        """Both selectors. Raises NotFound where the namespace is missing."""
        return self._selects_object(criteria.objects, attributes) and self.selects_namespace(criteria.namespaces, attributes)

    def selects_namespace(self, selector: LabelSelector, attributes: Attributes) -> bool:
        is_namespace = attributes.resource == NAMESPACES
        if selector.is_everything or not (is_namespace or attributes.namespace):
            return True
        if is_namespace and not attributes.subresource and attributes.operation in (CREATE, UPDATE) and attributes.obj is not None:
            labels = attributes.obj["metadata"].get("labels")
        else:
            labels = self.namespace(attributes.name if is_namespace else attributes.namespace)["metadata"].get("labels")
        return selector.matches(labels or {})

    def namespace(self, name: str) -> Object:
        """Raises NotFound."""
        entry = self.state.caches.of("", NAMESPACES.plural).get(name)
        if entry is None:
            raise errors.not_found(NAMESPACES, name)
        return entry.decode()

    @staticmethod
    def _selects_object(selector: LabelSelector, attributes: Attributes) -> bool:
        if selector.is_everything:
            return True
        sides = (side for side in (attributes.obj, attributes.old) if side is not None)
        return any(selector.matches((side.get("metadata") or {}).get("labels") or {}) for side in sides)

    def converted(self, attributes: Attributes, work: Callable[[], T]) -> Waits[T]:
        """What `work` gives once all it looks at has been converted; it is called again until then. Raises ApiError."""
        row = attributes.resource
        for _ in range(ROUNDS_MAX):
            try:
                return work()
            except Unconverted as missing:
                store = missing.store or self.state.store(row.group, row.version, row.plural)
                yield store.convert(missing.objects, missing.desired)
        return work()

    def in_version(self, attributes: Attributes, obj: Object | None, row: Resource) -> Object | None:
        """A copy of an object of the request in the version of `row`, without the empty fields that are never stored."""
        if obj is None:
            return None
        copy: Object = orjson.loads(orjson.dumps(obj))
        if attributes.kind[2] == attributes.resource.kind:
            store = self.state.stores.get((row.group, row.version, row.plural))
            if store is not None:
                copy = store.conversion.from_stored(copy)
        prune(copy)
        return copy
