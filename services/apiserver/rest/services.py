"""The store of Services: a new one is committed together with the IPAddresses that say whose its addresses are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from kubecosm.api.errors import InternalError
from kubecosm.api.resources import IPADDRESSES, Object

from ..cache.caches import prefix_of
from ..cache.entry import Entry
from ..serviceips.records import addresses_of, new_record, owner_of
from ..storage.contract import StorageError
from .objectmeta import encode, fill_system_fields
from .store import ResourceStore
from .storedkind import Caller

RECORD_PREFIX = prefix_of(IPADDRESSES.group, IPADDRESSES.plural)


class ServiceStore(ResourceStore):
    """What goes wrong with a record (somebody has left one behind) is put right by serviceips.keeper."""

    async def _insert(self, obj: Object, caller: Caller, version: str) -> Entry | None:
        addresses = addresses_of(obj)
        key = self.key_of(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if caller.dry_run or not addresses or version or self.cache.get(key) is not None:
            return await super()._insert(obj, caller, version)
        if self.state.is_shared:
            await self._claim(addresses, obj)
        elif self.state.tasks is not None:
            for address in addresses:
                self.state.tasks.create_task(self._put(address, obj), name="ipaddress")
        return await super()._insert(obj, caller, version)  # the records' tasks run before this commit leaves, so they are part of it

    async def _claim(self, addresses: Sequence[str], service: Object) -> None:
        """Another server may have given out the same address just now: whose record comes first has it. Raises InternalError."""
        claimed: list[tuple[str, int]] = []
        for address in addresses:
            written = await self.state.storage.create(key=RECORD_PREFIX + address, value=encode(self._record(address, service)))
            if written.succeeded:
                claimed.append((address, written.revision))
                continue
            for mine, revision in claimed:
                await self.state.storage.delete(key=RECORD_PREFIX + mine, expected_revision=revision)
            raise InternalError(f"failed to allocate IP {address}: provided IP is already allocated")

    async def _put(self, address: str, service: Object) -> None:
        value = encode(self._record(address, service))
        with suppress(StorageError):  # then the Service is not stored either
            await self.state.storage.create(key=RECORD_PREFIX + address, value=value)

    def _record(self, address: str, service: Object) -> Object:
        record = new_record(address, owner_of(service))
        fill_system_fields(record["metadata"], self.state.clock.now(), self.state.rng)
        return record
