"""The plugin: finds out whether a write concerns a quota at all, and lets the ledger charge it if so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from kubecosm.api.errors import modified_conflict
from kubecosm.api.quota import Evaluator, evaluator_for
from kubecosm.api.resources import RESOURCEQUOTAS, Object, Resource

from ...cache.caches import prefix_of
from ...cache.entry import Entry
from ...cache.events import Event
from ...cache.resource import ResourceCache
from ...cache.selection import Selection
from ...rest.objectmeta import encode
from ...state import State
from ..chain import Attributes, Plugin
from .accounting import Account, Demands, LimitedResource, Use, counts_less, demands_of
from .ledger import Charge, Deletion, Ledger, Refund

_ENDED = (b'"phase":"Succeeded"', b'"phase":"Failed"')


class ResourceQuota(Plugin):
    """Asked last of all, so that nothing is charged for what another plugin refuses."""

    name = "ResourceQuota"

    def __init__(self, quotas: ResourceCache, state: State, limited: Sequence[LimitedResource] = ()) -> None:
        self._quotas = quotas
        self._state = state
        self._limited = tuple(limited)
        self._ledger = Ledger(self, self._spawn)
        self._under_way: Counter[str] = Counter()
        """Writes by namespace that have been charged and whose fate is not known yet."""
        self._listed: dict[str, list[Entry]] = {}
        self._listed_at = -1
        self._known: dict[str, Account] = {}
        """Quotas as last parsed, by key."""
        self._written: dict[str, int] = {}
        """By key of a quota the revision in which this server last wrote it."""
        self._counted: dict[str, int] = {}
        """By key of a quota the newest revision in which somebody else did."""
        self._followed: dict[str, ResourceCache] = {}
        """By group resource, the caches whose deletions are given back."""
        self._prefix = prefix_of(RESOURCEQUOTAS.group, RESOURCEQUOTAS.plural)

    def handles(self, resource: Resource, subresource: str) -> bool:
        evaluator = evaluator_for(resource)
        if (resource, subresource) == (RESOURCEQUOTAS, "status"):
            return True
        return evaluator is not None and any(sub == subresource for _, sub in evaluator.charged_writes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises Forbidden; waits only if a quota is to be charged."""
        if not self._limited and not len(self._quotas):
            return None
        if attributes.subresource == "status" and attributes.resource == RESOURCEQUOTAS:
            self._check_count(attributes)
            return None
        evaluator = evaluator_for(attributes.resource)
        if evaluator is None or (attributes.operation, attributes.subresource) not in evaluator.charged_writes:
            return None
        entries = self._entries(attributes.namespace)
        if not entries and not self._limited:
            return None
        use = Use(attributes, evaluator, self._state.clock.now())
        if not demands_of(use, [self._account(entry) for entry in entries], self._limited):
            return None
        return self._charge(use)

    def _check_count(self, attributes: Attributes) -> None:
        """Whoever counts less than was charged while charged objects are about to be written has not counted those. Raises Conflict."""
        if self._under_way[attributes.namespace] and counts_less(attributes.old or {}, attributes.obj or {}):
            raise modified_conflict(RESOURCEQUOTAS, attributes.name)

    async def _charge(self, use: Use) -> None:
        attributes = use.attributes
        answer = asyncio.get_running_loop().create_future()
        charge = Charge(attributes, lambda accounts: demands_of(use, accounts, self._limited), answer)

        def settled(succeeded: bool) -> None:
            self._under_way[attributes.namespace] -= 1
            if not self._under_way[attributes.namespace]:
                del self._under_way[attributes.namespace]
            if not succeeded and charge.taken:
                self._ledger.add(attributes.namespace, Refund(charge))

        self._follow(attributes.resource, use.evaluator)
        self._ledger.add(attributes.namespace, charge)
        try:
            await answer
        except asyncio.CancelledError:
            self._ledger.add(attributes.namespace, Refund(charge))
            raise
        self._under_way[attributes.namespace] += 1
        attributes.when_settled(settled)

    # ---- what goes away

    def _follow(self, resource: Resource, evaluator: Evaluator) -> None:
        """From the first charge for a kind on, what its objects used is given back when they are gone, or pods have ended."""
        cache = self._state.store(resource.group, resource.version, resource.plural).cache
        if self._followed.get(resource.group_resource) is not cache:
            self._followed[resource.group_resource] = cache
            cache.followers.append(lambda events: self._give_back(events, evaluator))

    def _give_back(self, events: Sequence[Event], evaluator: Evaluator) -> None:
        for event in events if self._state.tasks is not None else ():
            before = event.previous
            if before is None or not (event.entry is None or _has_ended(before, event.entry)):
                continue
            accounts = [self._account(entry) for entry in self._entries(before.namespace)]
            if accounts:
                demands = self._freed(event, before.decode(), accounts, evaluator)
                if demands:
                    self._ledger.add(before.namespace, Deletion(demands, event.revision))

    def _freed(self, event: Event, before: Object, accounts: Sequence[Account], evaluator: Evaluator) -> Demands:
        """What an object used of each quota and does no more."""
        now = self._state.clock.now()
        left = evaluator.usage(event.entry.decode(), now) if event.entry is not None else {}
        freed = {name: value for name, value in evaluator.usage(before, now).items() if value and name not in left}
        matching = [account for account in accounts if freed and account.terms.are_about(evaluator, before)]
        return {account.name: {name: value for name, value in freed.items() if name in account.hard} for account in matching}

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        assert self._state.tasks is not None, "quotas are charged only while the server runs"
        self._state.tasks.create_task(work, name=name)

    # ---- Books

    def _entries(self, namespace: str) -> list[Entry]:
        """The quotas of a namespace, looked up anew after each change of a quota."""
        if self._listed_at != self._quotas.revision:
            self._listed_at = self._quotas.revision
            self._listed.clear()
        found = self._listed.get(namespace)
        if found is None:
            found = self._listed[namespace] = self._quotas.page(Selection(namespace)).entries if namespace else []
        return found

    def _account(self, entry: Entry) -> Account:
        """Not to be charged: `accounts` answers copies."""
        known = self._known.get(entry.key)
        if known is None or known.entry is not entry:
            if len(self._known) > 2 * len(self._quotas):  # quotas that were deleted meanwhile
                self._known.clear()
                self._written.clear()
                self._counted.clear()
            known = self._known[entry.key] = Account.of(entry, known)
        return known

    def accounts(self, namespace: str) -> list[Account]:
        found = []
        for entry in self._entries(namespace):
            if self._written.get(entry.key) != entry.revision:
                self._counted[entry.key] = entry.revision
            account = self._account(entry).copy()
            account.counted_at = self._counted.get(entry.key, 0)
            found.append(account)
        return found

    async def write(self, entry: Entry, quota: Object, accepted: Callable[[], None]) -> bool:
        written = await self._state.storage.update(
            key=self._prefix + entry.key, value=encode(quota), expected_revision=entry.revision, accepted=accepted
        )
        if written.succeeded:
            self._written[entry.key] = written.revision
        else:
            await self._state.caches.wait_revision(written.revision)
        return written.succeeded


def _has_ended(before: Entry, now: Entry) -> bool:
    """Whether a pod has come to its end: it still exists, but counts no more."""
    return any(mark in now.data and mark not in before.data for mark in _ENDED)
