"""ResourceClaims, devices and classes as last heard of, and allocations that are on their way to the API server.

Watched only once a pod with resource claims waits (`ready` tells).
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.resources import Object

from .allocator import Matcher
from .devices import DeviceId, Pools


class DeviceState:
    def __init__(self) -> None:
        self.ready = True
        """False while the first lists are under way."""
        self.claims: dict[str, Object] = {}
        """By namespace/name."""
        self.classes: dict[str, Object] = {}
        self.pools = Pools()
        self.matcher = Matcher()
        self._assumed: dict[str, Object] = {}
        self._in_use: frozenset[DeviceId] | None = None

    # ---- informers

    def set_claim(self, claim: Object) -> None:
        self.claims[_key(claim)] = claim
        if allocation_in(claim) is not None:
            self._assumed.pop(claim["metadata"].get("uid", ""), None)
        self._in_use = None

    def remove_claim(self, claim: Object) -> None:
        self.claims.pop(_key(claim), None)
        self._assumed.pop(claim["metadata"].get("uid", ""), None)
        self._in_use = None

    def set_class(self, device_class: Object) -> None:
        self.classes[device_class["metadata"]["name"]] = device_class

    def remove_class(self, device_class: Object) -> None:
        self.classes.pop(device_class["metadata"]["name"], None)

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
    def in_use(self) -> frozenset[DeviceId]:
        """Devices that some claim has; looking at a device as an administrator does not count."""
        if self._in_use is None:
            known = (allocation for claim in self.claims.values() if (allocation := allocation_in(claim)) is not None)
            self._in_use = frozenset((*_devices_in(known), *_devices_in(self._assumed.values())))
        return self._in_use


def _devices_in(allocations: Iterable[Object]) -> Iterable[DeviceId]:
    for allocation in allocations:
        for result in (allocation.get("devices") or {}).get("results") or ():
            if not result.get("adminAccess"):
                yield DeviceId(result["driver"], result["pool"], result["device"])


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
