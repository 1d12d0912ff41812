"""Keeps one IPAddress for every ClusterIP, gives out addresses of ServiceCIDRs that are ready, and keeps the default ServiceCIDR.

A new Service and its IPAddresses go into one commit (`ServiceStore`); everything else - changes, deletions, records that somebody removed
or left behind - is followed here and put right at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network

import orjson

from kubecosm.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubecosm.api.names import DEFAULT_SERVICE_CIDR
from kubecosm.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES, Object, Resource
from kubecosm.api.times import parse_time
from kubecosm.runtime.logs import get_logger

from ..bootstrap import APISERVER
from ..cache.caches import prefix_of
from ..customresources.names import with_condition
from ..registry.core.service import ServiceStrategy
from ..registry.core.service_alloc import NOTHING_HELD, Holdings, holdings_of
from ..rest.options import DeleteOptions
from ..rest.services import ServiceStore
from ..rest.store import ResourceStore
from ..state import State
from ..storage.contract import Change, StorageError, Subscription
from .claims import PortClaims
from .records import Owner, is_ours, new_record, owner_of, repair

log = get_logger("apiserver")

SERVICE_PREFIX = prefix_of(SERVICES.group, SERVICES.plural)
RECORD_PREFIX = prefix_of(IPADDRESSES.group, IPADDRESSES.plural)
CIDR_PREFIX = prefix_of(SERVICECIDRS.group, SERVICECIDRS.plural)
RETRY_SECONDS = 1.0
CLAIM_SECONDS = 10.0
"""How long a Service may take to follow its record."""
READY = "Ready"


class AddressKeeper:
    """`start` it once the caches are filled, then `run` it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._services = _store(state, SERVICES)
        self._records = _store(state, IPADDRESSES)
        self._ranges = _store(state, SERVICECIDRS)
        strategy = self._services.strategy
        assert isinstance(strategy, ServiceStrategy)
        self._allocator = strategy.allocator
        self._owners: dict[str, Owner] = {}
        self._held: dict[str, Holdings] = {}  # by Service
        self._dirty: dict[str, bool] = {}  # address → whether a Service has just given it up
        self._wake = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self.claims: PortClaims | None = None

    async def start(self) -> None:
        """Take up what is stored and follow it from now on."""
        self._allocator.is_told = True
        for entry in self._services.cache.entries():
            self._service_changed(entry.key, entry.decode())
        for entry in self._records.cache.entries():
            self._record_changed(entry.name, entry.decode())
        self._ranges_changed()
        revision = self._state.caches.revision
        for prefix in (SERVICE_PREFIX, RECORD_PREFIX, CIDR_PREFIX):
            subscription = await self._state.storage.subscribe(prefix=prefix, after_revision=revision, deliver=self._deliver)
            self._subscriptions.append(subscription)
        if self._state.is_shared:
            await self._start_claims()

    async def _start_claims(self) -> None:
        """Other servers give out ports too."""
        assert isinstance(self._services, ServiceStore)
        self.claims = PortClaims(self._state, self._allocator, self._services.cache)
        await self.claims.start()
        await self.claims.repair()
        self._services.claims = self.claims

    def stop(self) -> None:
        if self.claims is not None:
            self.claims.stop()
        for subscription in self._subscriptions:
            subscription.close()

    def _deliver(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key = change.key
            if key.startswith(SERVICE_PREFIX):
                self._service_changed(key[len(SERVICE_PREFIX) :], _decode(change.value))
            elif key.startswith(RECORD_PREFIX):
                self._record_changed(key[len(RECORD_PREFIX) :], _decode(change.value))
            elif key.startswith(CIDR_PREFIX):
                self._ranges_changed()

    def _service_changed(self, key: str, service: Object | None) -> None:
        before, now = self._held.get(key, NOTHING_HELD), NOTHING_HELD if service is None else holdings_of(service)
        if before == now:
            return
        self._allocator.changed(before, now)
        for address in before.addresses - now.addresses:
            self._owners.pop(address, None)
            self._touch(address, was_owned=True)
        for address in now.addresses - before.addresses:
            assert service is not None
            self._owners[address] = owner_of(service)
            self._touch(address)
        if now == NOTHING_HELD:
            del self._held[key]
        else:
            self._held[key] = now

    def _record_changed(self, address: str, record: Object | None) -> None:
        is_mere_note = record is not None and is_ours(record) and not self._state.is_shared  # its Service tells the same
        if record is None or is_mere_note:
            self._allocator.foreign.discard(address)
            self._allocator.ranges.came_free()
        else:
            self._allocator.foreign.add(address)
        self._touch(address)

    def _ranges_changed(self) -> None:
        """Addresses may come from ServiceCIDRs that are ready and not on their way out."""
        networks = []
        for entry in sorted(self._ranges.cache.entries(), key=lambda entry: entry.key):
            found = entry.decode()
            conditions = (found.get("status") or {}).get("conditions") or ()
            if not found["metadata"].get("deletionTimestamp") and any(c["type"] == READY and c["status"] == "True" for c in conditions):
                networks += [ip_network(text) for text in found["spec"].get("cidrs") or ()]
        self._allocator.ranges.set_further(networks)

    def _touch(self, address: str, *, was_owned: bool = False) -> None:
        self._dirty[address] = was_owned or self._dirty.get(address, False)
        self._wake.set()

    async def run(self, service_range: str) -> None:
        """Put right what is not."""
        await self._ensure_default(service_range)
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            failed = []
            for address, was_owned in dirty.items():
                record = self._record(address)
                action = repair(record, self._owners.get(address))
                if not action or (action == "delete" and not was_owned and self._is_claim(address, record)):
                    continue
                try:
                    await self._repair(address, record, action)
                except (ApiError, StorageError) as error:
                    log.error("an IPAddress could not be kept up", address=address, error=str(error))
                    failed.append(address)
            if failed:
                await self._state.clock.sleep(RETRY_SECONDS)
                for address in failed:
                    self._touch(address)

    def _is_claim(self, address: str, record: Object | None) -> bool:
        """Where servers share the storage, a record may be there before its Service; it is looked at again when that should have come."""
        if record is None or not self._state.is_shared:
            return False
        age = (self._state.clock.now() - parse_time(record["metadata"]["creationTimestamp"])).total_seconds()
        if age >= CLAIM_SECONDS:
            return False
        asyncio.get_running_loop().call_later(CLAIM_SECONDS, self._touch, address)
        return True

    def _record(self, address: str) -> Object | None:
        entry = self._records.cache.get(address)
        return None if entry is None else entry.decode()

    async def _repair(self, address: str, record: Object | None, action: str) -> None:
        if action != "create" and record is not None:
            with suppress(NotFound, Conflict):  # another apiserver was faster
                await self._records.delete("", address, DeleteOptions(uid=record["metadata"]["uid"]), APISERVER)
        owner = self._owners.get(address)
        if action != "delete" and owner is not None:
            try:
                await self._records.create(new_record(address, owner), "", APISERVER)
            except AlreadyExists:
                self._touch(address)

    async def _ensure_default(self, service_range: str) -> None:
        """The ServiceCIDR of the flags (defaultservicecidr controller)."""
        if self._ranges.cache.get(DEFAULT_SERVICE_CIDR) is None:
            new: Object = {
                "kind": SERVICECIDRS.kind, "apiVersion": SERVICECIDRS.api_version, "metadata": {"name": DEFAULT_SERVICE_CIDR},
                "spec": {"cidrs": [service_range]}, "status": {},
            }  # fmt: skip
            with suppress(AlreadyExists):  # another apiserver was faster
                await self._ranges.create(new, "", APISERVER)
        stored = self._ranges.entry("", DEFAULT_SERVICE_CIDR).decode()
        if stored["spec"]["cidrs"] != [service_range]:
            stored_ranges = stored["spec"]["cidrs"]
            log.error("the default ServiceCIDR is not that of --service-cluster-ip-range", cidrs=stored_ranges, flag=service_range)
        if not (stored.get("status") or {}).get("conditions"):
            now = self._state.clock.now()
            conditions = with_condition((), READY, "True", "", "Kubernetes default Service CIDR is ready", now)
            await self._ranges.change_system_fields(
                "", DEFAULT_SERVICE_CIDR, lambda obj: {**obj, "status": {"conditions": conditions}}, APISERVER
            )


def _store(state: State, row: Resource) -> ResourceStore:
    return state.store(row.group, row.version, row.plural)


def _decode(value: bytes | None) -> Object | None:
    found: Object | None = None if value is None else orjson.loads(value)
    return found
