"""The order in which nodes get their turn when only a share of them is looked at: zone by zone, one node each (backend/cache's node tree).

So a share of the nodes of a large cluster has nodes of all zones, whatever order they came in.
"""

from __future__ import annotations

import numpy as np

from kubecosm.api.placement import failure_zone

from .columns import IntArray
from .nodes import NodeTable


class NodeOrder:
    """Worked out anew when a node comes or goes, or a label changes."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._version = (-1, -1)
        self._rows: IntArray | None = None

    def rows(self) -> IntArray | None:
        """All rows in their order; None if that is the order of the table, as there are not two zones."""
        version = self._nodes.version, self._nodes.labels.version
        if version != self._version:
            self._version, self._rows = version, self._arranged()
        return self._rows

    def _arranged(self) -> IntArray | None:
        """The first node of each zone, then the second of each, and so on; zones in the order of their first nodes."""
        zones = self._zones()
        if not len(zones) or int(zones.max()) == 0:
            return None
        by_zone = np.argsort(zones, kind="stable")
        begins = np.searchsorted(zones[by_zone], zones[by_zone])
        turn = np.empty(len(zones), np.int64)
        turn[by_zone] = np.arange(len(zones)) - begins
        return np.lexsort((zones, turn))

    def _zones(self) -> IntArray:
        """Per row the number of its zone, which is one of a region: 0 for the zone of the first row."""
        numbers: dict[tuple[str, str], int] = {}
        found = (numbers.setdefault(failure_zone(labels), len(numbers)) for labels in self._nodes.labels_by_row)
        return np.fromiter(found, np.int64, len(self._nodes.labels_by_row))
