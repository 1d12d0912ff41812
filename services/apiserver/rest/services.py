"""The store of Services: a new one is committed together with the IPAddresses that say whose its addresses are.

Where servers share the storage, addresses and node ports are claimed before a Service is written: who is second tries again with others,
or is refused if the client asked for these.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import orjson

from kubecosm.api.errors import ApiError, InternalError
from kubecosm.api.field import invalid_kind, invalid_value
from kubecosm.api.resources import IPADDRESSES, Object

from ..cache.caches import prefix_of
from ..cache.entry import Entry
from ..registry.core.service_alloc import NOTHING_HELD, Holdings, holdings_of
from ..serviceips.claims import PortClaims
from ..serviceips.records import Owner, addresses_of, is_ours, new_record, owner_of
from ..storage.contract import StorageError
from .objectmeta import encode, fill_system_fields
from .store import ResourceStore
from .storedkind import Caller, Change

RECORD_PREFIX = prefix_of(IPADDRESSES.group, IPADDRESSES.plural)
CLASHES_MAX = 16
"""Tries to find addresses and ports that no other server has given out at the same moment."""


class Clash(InternalError):
    """Another server was faster; `refusal` is for the client if nothing else will do."""

    def __init__(self, refusal: ApiError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ServiceStore(ResourceStore):
    """What goes wrong with a record (somebody has left one behind) is put right by serviceips.keeper."""

    claims: PortClaims | None = None
    """None if no other server uses the storage."""

    async def create(self, obj: Object, namespace: str, caller: Caller, **options: Any) -> Entry:
        if self.claims is None:
            return await super().create(obj, namespace, caller, **options)
        for attempt in range(CLASHES_MAX):
            try:
                return await super().create(copy.deepcopy(obj), namespace, caller, **options)
            except Clash as clash:
                if attempt + 1 == CLASHES_MAX:
                    raise clash.refusal from clash
        raise AssertionError

    async def update(self, namespace: str, name: str, change: Change, caller: Caller, **options: Any) -> tuple[Entry, bool]:
        for attempt in range(CLASHES_MAX):
            try:
                return await super().update(namespace, name, change, caller, **options)
            except Clash as clash:
                if attempt + 1 == CLASHES_MAX:
                    raise clash.refusal from clash
        raise AssertionError

    async def _insert(self, obj: Object, caller: Caller, version: str) -> Entry | None:
        key = self.key_of(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if caller.dry_run or version or self.cache.get(key) is not None:
            return await super()._insert(obj, caller, version)
        if self.claims is not None:
            taken = await self._claim(obj, NOTHING_HELD)
            return await self._written(super()._insert(obj, caller, version), obj, taken, NOTHING_HELD)
        if self.state.tasks is not None:
            for address in addresses_of(obj):
                self.state.tasks.create_task(self._put(address, obj), name="ipaddress")
        return await super()._insert(obj, caller, version)  # the records' tasks run before this commit leaves, so they are part of it

    async def _write(self, entry: Entry, value: bytes, caller: Caller) -> Entry | None:
        if self.claims is None or caller.dry_run:
            return await super()._write(entry, value, caller)
        obj, held = orjson.loads(value), holdings_of(entry.decode())
        if holdings_of(obj) == held:
            return await super()._write(entry, value, caller)
        taken = await self._claim(obj, held)
        return await self._written(super()._write(entry, value, caller), obj, taken, held)

    async def _remove(self, entry: Entry) -> int | None:
        removed = await super()._remove(entry)
        if removed is not None and self.claims is not None:
            service = entry.decode()
            await self._release(service, holdings_of(service))
        return removed

    async def _written(self, write: Any, service: Object, taken: Holdings, held: Holdings) -> Entry | None:
        """Carry out a write; claims that it does not need, or no longer, are released."""
        entry: Entry | None = None
        try:
            entry = await write
        finally:
            now = holdings_of(service)
            await self._release(service, without(held, now) if entry is not None else taken)
        return entry

    async def _claim(self, service: Object, held: Holdings) -> Holdings:
        """What the Service does not hold yet. Raises Clash, StorageError."""
        assert self.claims is not None
        wanted, owner = without(holdings_of(service), held), owner_of(service)
        if (port := await self.claims.take(wanted.ports, owner)) is not None:
            raise Clash(port_refusal(service, port))
        claimed: set[str] = set()
        for address in sorted(wanted.addresses):
            written = await self.state.storage.create(key=RECORD_PREFIX + address, value=encode(self._record(address, service)))
            if not written.succeeded and not await self._has_record(address, owner):
                await self._release(service, Holdings(frozenset(claimed), wanted.ports))
                raise Clash(address_refusal(service, address))
            claimed.add(address)
        return wanted

    async def _has_record(self, address: str, owner: Owner) -> bool:
        """Whether an earlier Service of that name has left its record."""
        found = (await self.state.storage.get(key=RECORD_PREFIX + address)).item
        return found is not None and is_record_of(orjson.loads(found.value), owner)

    async def _release(self, service: Object, holdings: Holdings) -> None:
        """Give claims back, if they are this Service's; what fails is put right later."""
        assert self.claims is not None
        owner = owner_of(service)
        await self.claims.give_back(holdings.ports, owner)
        for address in holdings.addresses:
            with suppress(StorageError):
                found = (await self.state.storage.get(key=RECORD_PREFIX + address)).item
                if found is not None and is_record_of(orjson.loads(found.value), owner):
                    await self.state.storage.delete(key=found.key, expected_revision=found.revision)

    async def _put(self, address: str, service: Object) -> None:
        value = encode(self._record(address, service))
        with suppress(StorageError):  # then the Service is not stored either
            await self.state.storage.create(key=RECORD_PREFIX + address, value=value)

    def _record(self, address: str, service: Object) -> Object:
        record = new_record(address, owner_of(service))
        fill_system_fields(record["metadata"], self.state.clock.now(), self.state.rng)
        return record


def without(some: Holdings, others: Holdings) -> Holdings:
    return Holdings(some.addresses - others.addresses, some.ports - others.ports)


def is_record_of(record: Object, owner: Owner) -> bool:
    parent = record["spec"]["parentRef"]
    return is_ours(record) and (parent.get("namespace"), parent["name"]) == owner


def port_refusal(service: Object, port: tuple[str, int]) -> ApiError:
    """For a client that asked for a port which somebody has."""
    ports = service["spec"].get("ports") or ()
    place = next((i for i, one in enumerate(ports) if (one.get("protocol"), one.get("nodePort")) == port), None)
    if place is None:
        return InternalError(f"failed to allocate requested HealthCheck NodePort {port[1]}: provided port is already allocated")
    complaint = invalid_value(f"spec.ports[{place}].nodePort", port[1], "provided port is already allocated")
    return invalid_kind("", "Service", service["metadata"]["name"], [complaint])


def address_refusal(service: Object, address: str) -> ApiError:
    detail = f"failed to allocate IP {address}: provided IP is already allocated"
    return invalid_kind("", "Service", service["metadata"]["name"], [invalid_value("spec.clusterIPs", list(addresses_of(service)), detail)])
