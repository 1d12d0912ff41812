"""What the EndpointSlice controller counts, under kube-controller-manager's names (endpointslice/metrics)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object
from kubecosm.client.metrics import GAUGE, HISTOGRAM, Family, Meter

from ..common.slices import SlicePlan

PREFIX = "endpoint_slice_controller_"
_PER_SYNC = tuple(float(2**exponent) for exponent in range(1, 16))
ADDED = Family(PREFIX + "endpoints_added_per_sync", HISTOGRAM, "Endpoints that a sync of a Service added.", (), _PER_SYNC)
REMOVED = Family(PREFIX + "endpoints_removed_per_sync", HISTOGRAM, "Endpoints that a sync of a Service removed.", (), _PER_SYNC)
DESIRED = Family(PREFIX + "endpoints_desired", GAUGE, "Endpoints there should be, of all Services.")
SLICES = Family(PREFIX + "num_endpoint_slices", GAUGE, "EndpointSlices there are, of all Services.")
SLICES_DESIRED = Family(PREFIX + "desired_endpoint_slices", GAUGE, "EndpointSlices there would be if all were packed best.")
FAMILIES = (ADDED, REMOVED, DESIRED, SLICES, SLICES_DESIRED)


class _Count(NamedTuple):
    """Of one Service, or of all."""

    endpoints: int = 0
    slices: int = 0
    slices_desired: int = 0


class Totals:
    """The sums over all Services, kept up to date with each sync."""

    def __init__(self, endpoints_max: int) -> None:
        self._endpoints_max = endpoints_max
        self._known: dict[Key, _Count] = {}
        self._total = _Count()

    def count(self, meter: Meter, key: Key, before: Sequence[Object], plan: SlicePlan) -> None:
        """A Service was synced: the slices it had, and what was done to them."""
        replaced = {one["metadata"]["name"] for one in (*plan.update, *plan.delete)}
        after = [*(one for one in before if one["metadata"]["name"] not in replaced), *plan.update, *plan.create]
        old, new = _addresses(before), _addresses(after)
        meter.observe(ADDED, len(new - old))
        meter.observe(REMOVED, len(old - new))
        self._replace(meter, key, _Count(len(new), len(after), max(1, -(-len(new) // self._endpoints_max))))

    def forget(self, meter: Meter, key: Key) -> None:
        """The Service is gone, or no longer ours."""
        self._replace(meter, key, None)

    def _replace(self, meter: Meter, key: Key, new: _Count | None) -> None:
        old = self._known.pop(key, _Count())
        if new is not None:
            self._known[key] = new
        added = new or _Count()
        self._total = _Count(*(total - was + now for total, was, now in zip(self._total, old, added, strict=True)))
        for family, value in zip((DESIRED, SLICES, SLICES_DESIRED), self._total, strict=True):
            meter.set(family, value)


def _addresses(slices: Iterable[Object]) -> set[str]:
    return {endpoint["addresses"][0] for one in slices for endpoint in one.get("endpoints") or ()}
