"""What the EndpointSlice controller remembers for zone hints: the CPUs of each zone, and which Services have hints.

Imitates topologycache.go. Nodes are looked at from the first Service on that asks for hints; then their changes are followed one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kubecosm.api.meta import Key, labels_of
from kubecosm.api.names import LABEL_NODE_ROLE_CONTROL_PLANE, LABEL_NODE_ROLE_MASTER, LABEL_ZONE
from kubecosm.api.quantity import milli_value
from kubecosm.api.resources import Object

from ..common.nodes import ready_status
from .zone_hints import DISABLED, Draft, Notice, Ratios, disabled, enabled, is_overloaded, plan_hints

ZONES_MIN = 2
EXCLUDED_LABELS = (LABEL_NODE_ROLE_CONTROL_PLANE, LABEL_NODE_ROLE_MASTER)


class Place(NamedTuple):
    """What a node adds to its zone."""

    zone: str
    milli_cpu: int


def place_of(node: Object) -> Place | None:
    """None for nodes that do not count: not ready, or of the control plane."""
    labels = labels_of(node)
    if ready_status(node) != "True" or any(label in labels for label in EXCLUDED_LABELS):
        return None
    return Place(labels.get(LABEL_ZONE, ""), milli_value(((node.get("status") or {}).get("allocatable") or {}).get("cpu", 0)))


def place_changed(old: Object, new: Object) -> bool:
    """Whether an update of a node can matter to hints; heartbeats do not."""
    labels = labels_of(old), labels_of(new)
    return ready_status(old) != ready_status(new) or labels[0].get(LABEL_ZONE) != labels[1].get(LABEL_ZONE)


class Topology:
    """One per controller."""

    def __init__(self) -> None:
        self._places: dict[str, Place] | None = None
        self._milli_by_zone: dict[str, int] = {}
        self._incomplete = 0
        """Nodes that count but have no zone or no CPU: with one such node the shares of all zones are unknown."""
        self._counts: dict[Key, dict[str, dict[str, int]]] = {}
        """Service → address family → zone → endpoints."""

    @property
    def ratios(self) -> Ratios | None:
        total = sum(self._milli_by_zone.values())
        if self._incomplete or len(self._milli_by_zone) < ZONES_MIN or not total:
            return None
        return {zone: milli / total for zone, milli in self._milli_by_zone.items()}

    def has_hints(self, key: Key) -> bool:
        """Whether some endpoints of the Service have hints in proportion."""
        return key in self._counts

    def learn(self, nodes: Iterable[Object]) -> None:
        """Look at all nodes, once."""
        if self._places is None:
            self._places = {}
            for node in nodes:
                self._put(node["metadata"]["name"], place_of(node))

    def node_changed(self, name: str, node: Object | None) -> list[Key]:
        """Follow a node (None: it is gone); the Services that have too few endpoints in some zone by now."""
        if self._places is None:
            return []
        self._put(name, place_of(node) if node is not None else None)
        ratios = self.ratios
        return [key for key, families in self._counts.items() if any(is_overloaded(counts, ratios) for counts in families.values())]

    def add_hints(self, key: Key, family: str, draft: Draft) -> tuple[Draft, Notice | None]:
        """The slices of one family with hints in proportion, or without any, and what there is to tell about it."""
        draft, found = plan_hints(self.ratios, draft)
        if isinstance(found, str):
            self.forget(key, family)
            return draft, disabled(found, family)
        known = key in self._counts
        self._counts.setdefault(key, {})[family] = found
        return draft, None if known else enabled(family)

    def drop_hints(self, key: Key, family: str) -> Notice:
        """The Service no longer asks for hints."""
        self.forget(key, family)
        return disabled(DISABLED, family)

    def forget(self, key: Key, family: str = "") -> None:
        """The hints of one family are gone, or those of all."""
        families = self._counts.get(key, {})
        families.pop(family, None)
        if not family or not families:
            self._counts.pop(key, None)

    def _put(self, name: str, place: Place | None) -> None:
        assert self._places is not None
        for sign, one in ((-1, self._places.pop(name, None)), (1, place)):
            if one is None:
                continue
            if not one.zone or not one.milli_cpu:
                self._incomplete += sign
                continue
            milli = self._milli_by_zone.get(one.zone, 0) + sign * one.milli_cpu
            if milli:
                self._milli_by_zone[one.zone] = milli
            else:
                del self._milli_by_zone[one.zone]
        if place is not None:
            self._places[name] = place
