"""What is free: whole devices, shares of devices that several claims may have, counters of pools that devices draw on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .capacity import ZERO, Amounts, added, consumption
from .devices import CounterId, Device, DeviceId


@dataclass(frozen=True)
class Usage:
    """What the claims of the cluster have."""

    devices: frozenset[DeviceId] = frozenset()
    """Each is one claim's alone."""
    shares: Mapping[DeviceId, Amounts] = field(default_factory=dict)
    """Of devices that several claims may have: what is taken of their capacity."""


NOTHING_USED = Usage()


class Room:
    """What one search still finds free; `take` and `give_back` follow its steps."""

    def __init__(self, devices: Sequence[Device], usage: Usage, counters: Mapping[CounterId, int]) -> None:
        """`devices`: all there are, as those of other nodes may draw on the same counters; `counters`: how much each holds."""
        self._usage = usage
        self._taken: Counter[DeviceId] = Counter()
        self._shares: dict[DeviceId, Amounts] = dict(usage.shares)
        self._left: dict[CounterId, int] = dict(counters)
        for device in devices if counters else ():
            if device.counters and (device.id in usage.devices or device.id in usage.shares):
                self._draw(device, 1)

    def take(self, device: Device, asked: Amounts) -> bool:
        """Take the device, or of a shared one what is asked of its capacity. False, and nothing happens, if that is not free."""
        if device.is_shared:
            return self._take_share(device, asked)
        if device.id in self._usage.devices or self._taken[device.id] or not self._may_draw(device):
            return False
        if asked and consumption(asked, device.capacities) is None:
            return False
        self._taken[device.id] = 1
        self._draw(device, 1)
        return True

    def give_back(self, device: Device, asked: Amounts) -> None:
        """Undo the last `take` of this device."""
        self._taken[device.id] -= 1
        if device.is_shared:
            minus = {name: -amount for name, amount in (consumption(asked, device.capacities) or {}).items()}
            self._shares[device.id] = added(self._shares[device.id], minus)
        if not self._is_held(device):
            self._draw(device, -1)

    def _take_share(self, device: Device, asked: Amounts) -> bool:
        wanted = consumption(asked, device.capacities)
        if wanted is None or (not self._is_held(device) and not self._may_draw(device)):
            return False
        after = added(self._shares.get(device.id, {}), wanted)
        if any(amount > device.capacities[name].value for name, amount in after.items() if name in device.capacities):
            return False
        if not self._is_held(device):
            self._draw(device, 1)
        self._taken[device.id] += 1
        self._shares[device.id] = after
        return True

    def _is_held(self, device: Device) -> bool:
        """Whether a claim, or this search, has a share already: counters are drawn on once."""
        return bool(self._taken[device.id]) or device.id in self._usage.shares

    def _may_draw(self, device: Device) -> bool:
        return all(self._left.get(counter, ZERO.nanos) >= amount for counter, amount in device.counters.items())

    def _draw(self, device: Device, sign: int) -> None:
        for counter, amount in device.counters.items():
            self._left[counter] = self._left.get(counter, 0) - sign * amount
