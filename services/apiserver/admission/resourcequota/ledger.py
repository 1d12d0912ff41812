"""Charges to the quotas of a namespace, many at a time.

Whatever arrives while the quotas of a namespace are being written is the next batch: it is checked in order against what is used by then,
and each quota is written once for all of it, with compare-and-swap on its status, so none can pass a limit. Where the storage promises
that nothing later becomes durable without that write, the objects do not wait for it, and share its commit.
Imitates resourcequota/controller.go (checkQuotas).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from kubecosm.api.errors import ApiError, InternalError, modified_conflict
from kubecosm.api.podresources import Amounts
from kubecosm.api.resources import RESOURCEQUOTAS, Object

from ...cache.entry import Entry
from ...storage.contract import StorageError
from ..chain import Attributes
from .accounting import Account, Demands, take

BATCH_MAX = 512
"""Charges checked in one go."""
SECONDS_MAX = 10.0
"""How long the writes of a batch wait for their quotas to be written."""
ATTEMPTS_MAX = 16
"""Tries to write a quota that somebody else (the controller) keeps changing."""


class Books(Protocol):
    """Where quotas are read and written."""

    def accounts(self, namespace: str) -> list[Account]:
        """The quotas of a namespace as they are now."""

    def write(self, entry: Entry, quota: Object, accepted: Callable[[], None]) -> Coroutine[None, None, bool]:
        """Replace a quota that must still be this entry; False if it is not. Raises StorageError.

        `accepted` may be called as soon as nothing that is written from then on can become durable without it.
        """


@dataclass(eq=False)
class Charge:
    """A write that waits for its quotas; `demands_of` may refuse it (Forbidden)."""

    attributes: Attributes
    demands_of: Callable[[Sequence[Account]], Demands]
    answer: asyncio.Future[None]
    taken: Demands = field(default_factory=dict)
    """What has been added to which quota on its behalf."""

    has_expired: bool = False

    def refuse(self, error: ApiError | StorageError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def admit(self) -> None:
        if not self.answer.done():
            self.answer.set_result(None)


class Refund(NamedTuple):
    """What was taken for a write that did not take place."""

    charge: Charge

    def of(self, account: Account) -> Amounts:
        return self.charge.taken.get(account.name, {})


class Deletion(NamedTuple):
    """What an object used that is gone, or does not count any more, since `revision`."""

    demands: Demands
    revision: int

    def of(self, account: Account) -> Amounts:
        """Nothing if somebody has counted since, who may have seen that it is gone."""
        return {} if account.counted_at > self.revision else self.demands.get(account.name, {})


class Ledger:
    """The charges under way, by namespace. `spawn` starts work that outlasts the request that asked for it."""

    def __init__(self, books: Books, spawn: Callable[[Coroutine[None, None, None], str], None]) -> None:
        self._books = books
        self._spawn = spawn
        self._waiting: dict[str, deque[Charge | Refund | Deletion]] = {}

    def add(self, namespace: str, item: Charge | Refund | Deletion) -> None:
        queue = self._waiting.get(namespace)
        if queue is None:
            queue = self._waiting[namespace] = deque()
            self._spawn(self._work(namespace), f"quota {namespace}")
        queue.append(item)

    async def _work(self, namespace: str) -> None:
        queue, loop = self._waiting[namespace], asyncio.get_running_loop()
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), BATCH_MAX))]
                charges = [item for item in batch if isinstance(item, Charge)]
                patience = loop.call_later(SECONDS_MAX, _give_up, charges)
                try:
                    await self._settle(namespace, charges, [item for item in batch if not isinstance(item, Charge)])
                except StorageError as error:
                    for charge in charges:  # those that were let go ahead cannot have been written either
                        charge.refuse(error)
                        charge.taken = {}
                finally:
                    patience.cancel()
                queue.extend(Refund(charge) for charge in charges if charge.has_expired and charge.taken)
        finally:
            del self._waiting[namespace]

    async def _settle(self, namespace: str, charges: list[Charge], refunds: list[Refund | Deletion]) -> None:
        """Check a batch and write what it changes. Raises StorageError."""
        again: frozenset[str] | None = None
        """The quotas that somebody else was faster to change; the others have been written."""
        secured: set[str] = set()

        def secure(name: str) -> None:
            secured.add(name)
            for charge in charges:
                if charge.taken and charge.taken.keys() <= secured:
                    charge.admit()

        for _ in range(ATTEMPTS_MAX):
            accounts = {account.name: account for account in self._books.accounts(namespace)}
            for account in accounts.values() if again is None else [accounts[name] for name in again if name in accounts]:
                for refund in refunds:
                    account.give_back(refund.of(account))
            for charge in charges:
                self._check(namespace, charge, accounts, again)
            lost = await self._write([account for account in accounts.values() if account.changed], secure)
            for charge in charges:
                if lost.isdisjoint(charge.taken):
                    charge.admit()
                charge.taken = {name: demand for name, demand in charge.taken.items() if name not in lost}
            if not lost:
                return
            charges = [charge for charge in charges if not charge.answer.done()]
            again = lost
        for charge in charges:
            self._refuse(namespace, charge, modified_conflict(RESOURCEQUOTAS, ",".join(sorted(again or ()))))

    def _check(self, namespace: str, charge: Charge, accounts: Mapping[str, Account], again: frozenset[str] | None) -> None:
        """Take what the charge demands, or refuse it; what needs nothing is done."""
        if charge.answer.done():  # its client has left
            return
        dry_run = charge.attributes.dry_run
        try:
            demands = _only(charge.demands_of(tuple(accounts.values())), again)
            take({n: a.copy() for n, a in accounts.items()} if dry_run else accounts, demands, charge.attributes)
        except ApiError as error:
            self._refuse(namespace, charge, error)
            return
        if not dry_run:
            charge.taken |= demands
        if not charge.taken:
            charge.admit()

    def _refuse(self, namespace: str, charge: Charge, error: ApiError) -> None:
        charge.refuse(error)
        if charge.taken:  # by quotas that had no objection
            self._waiting[namespace].append(Refund(charge))

    async def _write(self, accounts: Sequence[Account], secure: Callable[[str], None]) -> frozenset[str]:
        """Write them all at once; answers those that somebody else has changed. Raises StorageError."""
        if not accounts:
            return frozenset()
        waiting = [self._books.write(a.entry, a.rewritten(), partial(secure, a.name)) for a in accounts]
        if len(accounts) == 1:
            written = [await waiting[0]]
        else:
            try:
                async with asyncio.TaskGroup() as tasks:
                    writes = [tasks.create_task(one, name="quota status") for one in waiting]
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            written = [write.result() for write in writes]
        return frozenset(account.name for account, done in zip(accounts, written, strict=True) if not done)


def _give_up(charges: Sequence[Charge]) -> None:
    """Nobody waits any longer; what has been taken is given back as soon as that is known."""
    for charge in charges:
        if not charge.answer.done():
            charge.has_expired = True
            charge.refuse(InternalError("resource quota evaluation timed out"))


def _only(demands: Demands, names: frozenset[str] | None) -> Demands:
    return demands if names is None else {name: demand for name, demand in demands.items() if name in names}
