"""The plugin: finds out whether a write concerns a quota at all, and lets the ledger charge it if so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine, Sequence

from kubecosm.api.errors import InternalError, modified_conflict
from kubecosm.api.quota import evaluator_for
from kubecosm.api.resources import RESOURCEQUOTAS, Object, Resource

from ...cache.caches import prefix_of
from ...cache.entry import Entry
from ...cache.resource import ResourceCache
from ...cache.selection import Selection
from ...rest.objectmeta import encode
from ...state import State
from ..chain import Attributes, Plugin
from .accounting import Account, LimitedResource, Use, counts_less, demands_of
from .ledger import Charge, Ledger, Refund

EVALUATION_SECONDS_MAX = 10.0
"""How long a write waits for its quotas to be written."""


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
        self._known: dict[str, Account] = {}
        """Quotas as last parsed, by key."""
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

        self._ledger.add(attributes.namespace, charge)
        try:
            async with asyncio.timeout(EVALUATION_SECONDS_MAX):
                await answer
        except TimeoutError:
            self._ledger.add(attributes.namespace, Refund(charge))
            raise InternalError("resource quota evaluation timed out") from None
        except asyncio.CancelledError:
            self._ledger.add(attributes.namespace, Refund(charge))
            raise
        self._under_way[attributes.namespace] += 1
        attributes.when_settled(settled)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        assert self._state.tasks is not None, "quotas are charged only while the server runs"
        self._state.tasks.create_task(work, name=name)

    # ---- Books

    def _entries(self, namespace: str) -> list[Entry]:
        return self._quotas.page(Selection(namespace)).entries if namespace else []

    def _account(self, entry: Entry) -> Account:
        """Not to be charged: `accounts` answers copies."""
        known = self._known.get(entry.key)
        if known is None or known.entry is not entry:
            if len(self._known) > 2 * len(self._quotas):  # quotas that were deleted meanwhile
                self._known.clear()
            known = self._known[entry.key] = Account(entry, entry.decode())
        return known

    def accounts(self, namespace: str) -> list[Account]:
        return [self._account(entry).copy() for entry in self._entries(namespace)]

    async def write(self, entry: Entry, quota: Object) -> bool:
        written = await self._state.storage.update(
            key=self._prefix + entry.key, value=encode(quota), expected_revision=entry.revision
        )
        if not written.succeeded:
            await self._state.caches.wait_revision(written.revision)
        return written.succeeded
