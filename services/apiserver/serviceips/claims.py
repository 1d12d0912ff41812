"""Node ports that several API servers give out of one storage: whoever writes the key of a port first has it.

Kubernetes keeps one bitmap of all ports (RangeAllocation) and replaces it under a compare; here each port is a key of its own, as each
address is an IPAddress. Claims are followed, so that a server knows of a port before it has seen its Service, and every few minutes what a
server that died has left behind is put right (portallocator's repair controller). Servers with a storage of their own have no claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.runtime.logs import get_logger

from ..cache.resource import ResourceCache
from ..registry.core.service_alloc import Allocator, holdings_of
from ..state import State
from ..storage.contract import Change, CompactedError, StorageError, Subscription
from .records import Owner, owner_of

log = get_logger("apiserver")

PREFIX = "/registry/ranges/servicenodeports/"
REPAIR_SECONDS = 180.0
GRACE_SECONDS = 10.0
"""How long a Service may take to follow its claim."""
Port = tuple[str, int]
"""(protocol, number)."""


class Claim(NamedTuple):
    owner: Owner
    since: str
    revision: int


def key_of(port: Port) -> str:
    return f"{PREFIX}{port[0]}-{port[1]}"


def port_of(key: str) -> Port:
    protocol, _, number = key[len(PREFIX) :].partition("-")
    return protocol, int(number)


class PortClaims:
    """`start` it once the caches are filled."""

    def __init__(self, state: State, allocator: Allocator, services: ResourceCache) -> None:
        self._state = state
        self._storage = state.storage
        self._allocator = allocator
        self._services = services
        self._claims: dict[Port, Claim] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Take up what is claimed and follow it from now on."""
        listed = await self._storage.list(prefix=PREFIX)
        self._deliver([Change(item.key, item.value, item.revision) for item in listed.items])
        self._subscription = await self._storage.subscribe(prefix=PREFIX, after_revision=listed.revision, deliver=self._deliver)

    def stop(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def _deliver(self, changes: Sequence[Change]) -> None:
        for change in changes:
            port = port_of(change.key)
            if change.value is None:
                self._claims.pop(port, None)
                self._allocator.claimed_ports.discard(port)
            else:
                told = orjson.loads(change.value)
                self._claims[port] = Claim((told["namespace"], told["name"]), told["since"], change.revision)
                self._allocator.claimed_ports.add(port)

    async def take(self, ports: Iterable[Port], owner: Owner) -> Port | None:
        """Claim all of them; if somebody has one, give the others back and answer that one. Raises StorageError."""
        value = orjson.dumps({"namespace": owner[0], "name": owner[1], "since": format_time(self._state.clock.now())})
        taken: list[Port] = []
        for port in sorted(ports):
            known = self._claims.get(port)
            if known is not None and known.owner == owner:
                continue  # claimed by a write that failed, or before a restart
            written = await self._storage.create(key=key_of(port), value=value)
            if not written.succeeded:
                await self.give_back(taken, owner)
                return port
            taken.append(port)
        return None

    async def give_back(self, ports: Iterable[Port], owner: Owner) -> None:
        """Release what this owner has claimed; what cannot be released now is when claims are repaired."""
        for port in ports:
            known = self._claims.get(port)
            if known is None or known.owner != owner:
                continue
            try:
                await self._storage.delete(key=key_of(port), expected_revision=known.revision)
            except StorageError as error:
                log.error("the claim of a node port could not be released", port=port[1], error=str(error))

    async def repair_forever(self) -> None:
        """Now and then, bring claims and Services in line."""
        while True:
            try:
                await self.repair()
            except (ApiError, StorageError, CompactedError) as error:
                log.error("the claims of node ports could not be kept up", error=str(error))
            await self._state.clock.sleep(REPAIR_SECONDS)

    async def repair(self) -> None:
        """Claim what Services hold, release what no Service holds any more. Raises StorageError."""
        held = held_ports(entry.decode() for entry in self._services.entries())
        for port, owner in held.items():
            known = self._claims.get(port)
            if known is not None and known.owner != owner:
                await self.give_back((port,), known.owner)
            if (other := await self.take((port,), owner)) is not None:
                log.error("two Services want one node port", port=other[1], service="/".join(owner))
        now = self._state.clock.now()
        for port, claim in list(self._claims.items()):
            if port not in held and (now - parse_time(claim.since)).total_seconds() > GRACE_SECONDS:
                await self.give_back((port,), claim.owner)


def held_ports(services: Iterable[Object]) -> dict[Port, Owner]:
    """Port → the Service that has it; if two have, the first."""
    found: dict[Port, Owner] = {}
    for service in services:
        for port in holdings_of(service).ports:
            found.setdefault(port, owner_of(service))
    return found
