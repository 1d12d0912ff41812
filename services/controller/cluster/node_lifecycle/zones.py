"""The zones that nodes form, and how they fare: it decides how fast nodes may be emptied.

Imitates ComputeZoneState and handleDisruption of pkg/controller/nodelifecycle; counts are kept up to date node by node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kubecosm.api.meta import labels_of
from kubecosm.api.names import LABEL_EXCLUDE_DISRUPTION
from kubecosm.api.placement import failure_zone
from kubecosm.api.resources import Object
from kubecosm.client.metrics import COUNTER, GAUGE, Family, Meter

from ...common.nodes import ready_status

SIZE = Family("node_collector_zone_size", GAUGE, "Gauge measuring number of registered Nodes per zones.", ("zone",))
HEALTH = Family("node_collector_zone_health", GAUGE, "Gauge measuring percentage of healthy nodes per zone.", ("zone",))
UNHEALTHY = Family("node_collector_unhealthy_nodes_in_zone", GAUGE, "Gauge measuring number of not Ready Nodes per zones.", ("zone",))
EVICTIONS = Family(
    "node_collector_evictions_total", COUNTER,
    "Number of Node evictions that happened since current instance of NodeController started.", ("zone",),
)  # fmt: skip


class ZoneState(Enum):
    """How bad it is."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass
class Zone:
    """How many of its nodes are ready, and how many are not."""

    ready: int = 0
    not_ready: int = 0

    @property
    def size(self) -> int:
        return self.ready + self.not_ready

    def state(self, unhealthy_threshold: float) -> ZoneState:
        if self.not_ready and not self.ready:
            return ZoneState.FULL
        if self.not_ready > 2 and self.not_ready / self.size >= unhealthy_threshold:
            return ZoneState.PARTIAL
        return ZoneState.NORMAL


def zone_of(node: Object) -> str:
    """Region and zone as one key; empty for a node without either."""
    region, zone = failure_zone(labels_of(node))
    return f"{region}:\x00:{zone}" if region or zone else ""


class EvictionRate:
    """A token bucket of one token: how fast the nodes of a zone may be tainted NoExecute."""

    def __init__(self) -> None:
        self._free_at = float("-inf")

    def take(self, per_second: float, now: float) -> float:
        """Take a token and return 0, or the seconds until there is one (then nothing is taken)."""
        if now < self._free_at:
            return self._free_at - now
        self._free_at = now + 1 / per_second
        return 0.0


class Zones:
    """All nodes by zone. Nodes that a label excludes from disruption checks do not count."""

    def __init__(self, unhealthy_threshold: float) -> None:
        self._unhealthy_threshold = unhealthy_threshold
        self._zones: dict[str, Zone] = {}
        self._nodes: dict[str, tuple[str, bool]] = {}
        """Node → its zone and whether it is ready."""
        self._rates: dict[str, EvictionRate] = {}
        self._changed: set[str] = set()
        """Zones whose gauges are to be set again."""

    def put(self, node: Object) -> bool:
        """A node as it is now; whether that changes anything."""
        name = node["metadata"]["name"]
        if LABEL_EXCLUDE_DISRUPTION in labels_of(node):
            return self.drop(name)
        new = zone_of(node), ready_status(node) == "True"
        if self._nodes.get(name) == new:
            return False
        self.drop(name)
        self._nodes[name] = new
        self._count(*new, by=1)
        return True

    def drop(self, name: str) -> bool:
        """The node is gone, or no longer counts."""
        old = self._nodes.pop(name, None)
        if old is not None:
            self._count(*old, by=-1)
        return old is not None

    def _count(self, name: str, ready: bool, by: int) -> None:
        zone = self._zones.setdefault(name, Zone())
        if ready:
            zone.ready += by
        else:
            zone.not_ready += by
        if not zone.size:
            del self._zones[name]
        self._changed.add(name)

    def tell(self, meter: Meter) -> None:
        """Set the gauges of the zones that changed; a zone without nodes counts as healthy."""
        while self._changed:
            name = self._changed.pop()
            zone = self._zones.get(name, Zone())
            meter.set(SIZE, zone.size, name)
            meter.set(HEALTH, 100 * zone.ready / zone.size if zone.size else 100, name)
            meter.set(UNHEALTHY, zone.not_ready, name)
            if name not in self._rates:
                self._rates[name] = EvictionRate()
                meter.add(EVICTIONS, name, by=0)

    @property
    def all_disrupted(self) -> bool:
        """No node that counts is ready: more likely than all of them it is this controller that is cut off."""
        return bool(self._zones) and all(zone.not_ready and not zone.ready for zone in self._zones.values())

    def size_and_state(self, name: str) -> tuple[int, ZoneState]:
        zone = self._zones.get(name, Zone())
        return zone.size, zone.state(self._unhealthy_threshold)

    def rate(self, name: str) -> EvictionRate:
        return self._rates.setdefault(name, EvictionRate())
