"""The arithmetic of quotas, free of effects: what a write asks of each quota, and whether that is still there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from kubecosm.api.podresources import Amounts, amounts
from kubecosm.api.quantity import Quantity
from kubecosm.api.quota import Evaluator, Scope, scopes_of
from kubecosm.api.quota.scopes import parse_scopes
from kubecosm.api.resources import Object

from ...cache.entry import Entry
from ..chain import Attributes
from ..refusal import refuse

ZERO = Quantity.from_value(0)
Demands = dict[str, Amounts]
"""Quota → what a write adds to its use; nothing that is zero."""


@dataclass(frozen=True)
class LimitedResource:
    """Consumption that is refused unless a quota covers it (limitedResources of the plugin's configuration)."""

    group_resource: str
    contains: tuple[str, ...] = ()
    """Parts of names of quota resources."""
    scopes: tuple[Scope, ...] = ()

    @classmethod
    def parse(cls, raw: Object) -> LimitedResource:
        group, resource = raw.get("apiGroup", ""), raw.get("resource", "")
        name = f"{resource}.{group}" if group else resource
        return cls(name, tuple(raw.get("matchContains") or ()), tuple(parse_scopes(raw.get("matchScopes"))))


def limited_resources(configuration: Object | None) -> tuple[LimitedResource, ...]:
    """Of a ResourceQuotaConfiguration."""
    return tuple(LimitedResource.parse(raw) for raw in (configuration or {}).get("limitedResources") or ())


class Terms:
    """What a quota grants, and to what: all that does not change from charge to charge."""

    def __init__(self, quota: Object) -> None:
        self.spec: Object = quota.get("spec") or {}
        self.raw_hard: Object = (quota.get("status") or {}).get("hard") or {}
        self.hard = amounts(self.raw_hard)
        self.scopes = scopes_of(quota)
        self._resources: dict[int, tuple[str, ...]] = {}

    def still_hold(self, quota: Object) -> bool:
        """Whether another state of the quota has the same terms."""
        return self.spec == (quota.get("spec") or {}) and self.raw_hard == ((quota.get("status") or {}).get("hard") or {})

    def resources(self, evaluator: Evaluator) -> tuple[str, ...]:
        """Those that are about a kind."""
        found = self._resources.get(id(evaluator))
        if found is None:
            found = self._resources[id(evaluator)] = tuple(evaluator.resources(self.hard))
        return found

    def are_about(self, evaluator: Evaluator, obj: Object) -> bool:
        """Whether the quota counts an object (Evaluator.matches)."""
        return bool(self.resources(evaluator)) and all(evaluator.matches_scope(scope, obj) for scope in self.scopes)


@dataclass
class Account:
    """One quota: what it grants, and what is used of that so far."""

    entry: Entry
    quota: Object
    terms: Terms
    used: Amounts = field(init=False)
    counted_at: int = 0
    """The newest revision in which somebody else (the controller) wrote what is used."""
    changed: bool = False

    def __post_init__(self) -> None:
        self.used = amounts((self.quota.get("status") or {}).get("used"))

    @classmethod
    def of(cls, entry: Entry, before: Account | None = None) -> Account:
        """The quota in an entry; `before` is a state that it may share its terms with."""
        quota = entry.decode()
        return cls(entry, quota, before.terms if before is not None and before.terms.still_hold(quota) else Terms(quota))

    @property
    def hard(self) -> Amounts:
        return self.terms.hard

    @property
    def name(self) -> str:
        return self.entry.name

    def copy(self) -> Account:
        """One that may be charged without consequence."""
        other = copy(self)
        other.used = dict(self.used)
        return other

    def is_exceeded_by(self, demand: Amounts) -> list[str]:
        """The resources of which there is not enough left."""
        return sorted(name for name, more in demand.items() if self.used.get(name, ZERO) + more > self.hard[name])

    def take(self, demand: Amounts) -> None:
        for name, more in demand.items():
            self.used[name] = self.used.get(name, ZERO) + more
        self.changed = self.changed or bool(demand)

    def give_back(self, demand: Amounts) -> None:
        """Never below zero: the controller may have counted anew meanwhile."""
        for name, less in demand.items():
            if name in self.used:
                self.used[name] = max(self.used[name] - less, ZERO)
                self.changed = True

    def rewritten(self) -> Object:
        """The quota with its new use."""
        status = {**(self.quota.get("status") or {}), "used": {name: str(value) for name, value in self.used.items()}}
        return {**self.quota, "status": status}


def counts_less(before: Object, now: Object) -> bool:
    """Whether a quota's status tells of less use than it did."""
    old, new = (amounts((quota.get("status") or {}).get("used")) for quota in (before, now))
    return any(value < old.get(name, ZERO) for name, value in new.items())


@dataclass
class Use:
    """What one write uses, measured when somebody needs it."""

    attributes: Attributes
    evaluator: Evaluator
    now: datetime
    answered: tuple[list[Terms], Demands] | None = None
    """What was demanded of quotas that asked for this; they are asked again when the charge's turn has come."""

    @cached_property
    def whole(self) -> Amounts:
        """Of the object as it is to be. Raises Forbidden."""
        assert self.attributes.obj is not None
        usage = self.evaluator.usage(self.attributes.obj, self.now)
        negative = sorted(name for name, value in usage.items() if value < ZERO)
        if negative:
            raise refuse(self.attributes, f"quota usage is negative for resource(s): {','.join(negative)}")
        return usage

    @cached_property
    def increase(self) -> Amounts:
        """Beyond what the object used before; what becomes less is for the controller to count."""
        if self.old is None:
            return self.whole
        before = self.evaluator.usage(self.old, self.now)
        return {name: max(value - before.get(name, ZERO), ZERO) for name, value in self.whole.items()}

    @property
    def old(self) -> Object | None:
        return self.attributes.old if self.attributes.operation == "UPDATE" else None


def demands_of(use: Use, accounts: Sequence[Account], limited: Sequence[LimitedResource] = ()) -> Demands:
    """What a write asks of each quota that counts its object (the first half of CheckRequest). Raises Forbidden."""
    asked = [account.terms for account in accounts]
    if use.answered is None or use.answered[0] != asked:
        use.answered = asked, _measured(use, accounts, limited)
    return use.answered[1]


def _measured(use: Use, accounts: Sequence[Account], limited: Sequence[LimitedResource]) -> Demands:
    evaluator, obj, old = use.evaluator, use.attributes.obj, use.old
    assert obj is not None
    matching = [account for account in accounts if account.terms.are_about(evaluator, obj)]
    for account in matching:
        _check_constraints(account, use.attributes, evaluator, obj)
    found: Demands = {}
    for account in matching:
        counted_before = old is not None and account.terms.are_about(evaluator, old)
        demand = use.increase if counted_before else use.whole
        found[account.name] = {name: value for name, value in demand.items() if value and name in account.hard}
    if limited and (any(found.values()) or (not matching and any(use.increase.values()))):
        _check_covered(use, accounts, matching, limited)
    return {name: demand for name, demand in found.items() if demand}


def _check_constraints(account: Account, attributes: Attributes, evaluator: Evaluator, obj: Object) -> None:
    resources = account.terms.resources(evaluator)
    complaint = evaluator.complaint(obj, resources)
    if complaint:
        raise refuse(attributes, f"failed quota: {account.name}: {complaint}")
    if any(name not in account.used for name in resources):
        raise refuse(attributes, f"status unknown for quota: {account.name}, resources: {','.join(sorted(resources))}")


def _check_covered(use: Use, accounts: Iterable[Account], matching: Iterable[Account], limited: Sequence[LimitedResource]) -> None:
    """Refuse what is limited by default and not covered by a quota."""
    evaluator, obj, resource = use.evaluator, use.attributes.obj, use.attributes.resource.group_resource
    assert obj is not None
    parts = [part for rule in limited if rule.group_resource == resource for part in rule.contains]
    consumed = {name for name, value in use.whole.items() if value > ZERO and any(part in name for part in parts)}
    uncovered = consumed.difference(*(account.terms.resources(evaluator) for account in matching))
    if uncovered:
        raise refuse(use.attributes, f"insufficient quota to consume: {','.join(sorted(uncovered))}")
    wanted = [scope for rule in limited for scope in rule.scopes if evaluator.matches_scope(scope, obj)]
    given = {scope.name for account in accounts for scope in account.terms.scopes if evaluator.matches_scope(scope, obj)}
    missing = [scope for scope in wanted if scope.name not in given]
    if missing:
        shown = " ".join(f"{{{scope.name} {scope.operator} [{' '.join(scope.values)}]}}" for scope in missing)
        raise refuse(use.attributes, f"insufficient quota to match these scopes: [{shown}]")


def take(accounts: Mapping[str, Account], demands: Demands, attributes: Attributes) -> None:
    """Charge a write to all its quotas, or to none if one of them refuses it. Raises Forbidden."""
    if attributes.subresource != "status":  # what a controller reports has happened already
        for name in sorted(demands):
            account, demand = accounts[name], demands[name]
            exceeded = account.is_exceeded_by(demand)
            if exceeded:
                requested, used, limits = (_shown(values, exceeded) for values in (demand, account.used, account.hard))
                raise refuse(attributes, f"exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limits}")
    for name, demand in demands.items():
        accounts[name].take(demand)


def _shown(values: Amounts, names: Iterable[str]) -> str:
    return ",".join(f"{name}={values.get(name, ZERO)}" for name in names)
