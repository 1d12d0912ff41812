"""ResourceClaims, devices and classes as last heard of, and allocations that are on their way to the API server.

Watched only once a pod with resource claims waits (`ready` tells).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from .allocator import Matcher
from .capacity import added
from .devices import DeviceId, Pools, qualified
from .extended import IMPLICIT_PREFIX
from .room import Usage


class DeviceState:
    def __init__(self) -> None:
        self.ready = True
        """False while the first lists are under way."""
        self.claims: dict[str, Object] = {}
        """By namespace/name."""
        self.classes: dict[str, Object] = {}
        self.class_of: dict[str, str] = {}
        """Extended resource → the class that stands for it: of several the one made last."""
        self.pools = Pools()
        self.matcher = Matcher()
        self._assumed: dict[str, Object] = {}
        self._in_use: Usage | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    # ---- informers

    def set_claim(self, claim: Object) -> None:
        self.claims[_key(claim)] = claim
        if allocation_in(claim) is not None:
            self._assumed.pop(claim["metadata"].get("uid", ""), None)
        self._claims_changed()

    def remove_claim(self, claim: Object) -> None:
        self.claims.pop(_key(claim), None)
        self._assumed.pop(claim["metadata"].get("uid", ""), None)
        self._claims_changed()

    def _claims_changed(self) -> None:
        self._in_use = None
        while self._waiting:
            waiting = self._waiting.pop()
            if not waiting.done():
                waiting.set_result(None)

    async def wait_claim_changed(self) -> None:
        """Return when any claim has come, changed or gone."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def set_class(self, device_class: Object) -> None:
        self.classes[device_class["metadata"]["name"]] = device_class
        self._map_classes()

    def remove_class(self, device_class: Object) -> None:
        self.classes.pop(device_class["metadata"]["name"], None)
        self._map_classes()

    def _map_classes(self) -> None:
        oldest_first = sorted(self.classes.values(), key=lambda one: str(one["metadata"]["name"]), reverse=True)
        oldest_first.sort(key=lambda one: str(one["metadata"].get("creationTimestamp") or ""))
        self.class_of = {f"{IMPLICIT_PREFIX}{name}": name for name in self.classes}
        for one in oldest_first:
            if resource := (one.get("spec") or {}).get("extendedResourceName"):
                self.class_of[resource] = one["metadata"]["name"]

    # ---- allocations

    def is_assumed(self, claim: Object) -> bool:
        """Whether an allocation of the claim is on its way."""
        return claim["metadata"].get("uid", "") in self._assumed

    def assume(self, claim: Object, allocation: Object) -> None:
        self._assumed[claim["metadata"].get("uid", "")] = allocation
        self._in_use = None

    def forget(self, claim: Object) -> None:
        self._assumed.pop(claim["metadata"].get("uid", ""), None)
        self._in_use = None

    @property
    def in_use(self) -> Usage:
        """What some claim has; looking at a device as an administrator does not count."""
        if self._in_use is None:
            known = (allocation for claim in self.claims.values() if (allocation := allocation_in(claim)) is not None)
            self._in_use = _usage((*known, *self._assumed.values()))
        return self._in_use


def _usage(allocations: Iterable[Object]) -> Usage:
    alone: set[DeviceId] = set()
    shares: dict[DeviceId, dict[str, Quantity]] = {}
    for allocation in allocations:
        for result in (allocation.get("devices") or {}).get("results") or ():
            device = DeviceId(result["driver"], result["pool"], result["device"])
            if result.get("adminAccess"):
                continue
            if result.get("shareID"):
                taken = {qualified(name, device.driver): Quantity.of(one) for name, one in (result.get("consumedCapacity") or {}).items()}
                shares[device] = added(shares.get(device, {}), taken)
            else:
                alone.add(device)
    return Usage(frozenset(alone), shares)


def allocation_in(claim: Object) -> Object | None:
    """status.allocation, None if the claim has no devices."""
    found: Object | None = (claim.get("status") or {}).get("allocation")
    return found


def reservations_of(claim: Object) -> list[Object]:
    """status.reservedFor"""
    found: list[Object] = (claim.get("status") or {}).get("reservedFor") or []
    return found


def _key(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
