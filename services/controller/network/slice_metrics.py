"""What the EndpointSlice and the mirroring controllers count, under kube-controller-manager's names.

Imitates k8s.io/endpointslice/metrics and pkg/controller/endpointslicemirroring/metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object
from kubecosm.client.metrics import COUNTER, GAUGE, HISTOGRAM, Family, Meter

from ..common.slices import SlicePlan, slice_identity

PREFIX, MIRROR = "endpoint_slice_controller_", "endpoint_slice_mirroring_controller_"
_PER_SYNC = tuple(float(2**exponent) for exponent in range(1, 16))
_SECONDS = tuple(0.001 * 2**exponent for exponent in range(15))
_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Sums(NamedTuple):
    """The gauges of one controller: over all Services, or all mirrored Endpoints."""

    endpoints: Family
    slices: Family
    slices_desired: Family


def _sums(prefix: str) -> _Sums:
    return _Sums(
        Family(prefix + "endpoints_desired", GAUGE, "Number of endpoints desired"),
        Family(prefix + "num_endpoint_slices", GAUGE, "Number of EndpointSlices"),
        Family(prefix + "desired_endpoint_slices", GAUGE, "Number of EndpointSlices that would exist with perfect endpoint allocation"),
    )


ADDED = Family(PREFIX + "endpoints_added_per_sync", HISTOGRAM, "Number of endpoints added on each Service sync", (), _PER_SYNC)
REMOVED = Family(PREFIX + "endpoints_removed_per_sync", HISTOGRAM, "Number of endpoints removed on each Service sync", (), _PER_SYNC)
CHANGES = Family(PREFIX + "changes", COUNTER, "Number of EndpointSlice changes", ("operation",))
CHANGED_PER_SYNC = Family(
    PREFIX + "endpointslices_changed_per_sync", HISTOGRAM, "Number of EndpointSlices changed on each Service sync",
    ("topology", "traffic_distribution"), _DEFAULT,
)  # fmt: skip
SYNCS = Family(PREFIX + "syncs", COUNTER, "Number of EndpointSlice syncs", ("result",))
DISTRIBUTIONS = Family(
    PREFIX + "services_count_by_traffic_distribution", GAUGE, "Number of Services using some specific trafficDistribution",
    ("traffic_distribution",),
)  # fmt: skip
SUMS = _sums(PREFIX)
FAMILIES = (ADDED, REMOVED, CHANGES, CHANGED_PER_SYNC, SYNCS, DISTRIBUTIONS, *SUMS)

MIRROR_ADDED = Family(MIRROR + "endpoints_added_per_sync", HISTOGRAM, "Number of endpoints added on each Endpoints sync", (), _PER_SYNC)
MIRROR_UPDATED = Family(
    MIRROR + "endpoints_updated_per_sync", HISTOGRAM, "Number of endpoints updated on each Endpoints sync", (), _PER_SYNC
)  # fmt: skip
MIRROR_REMOVED = Family(
    MIRROR + "endpoints_removed_per_sync", HISTOGRAM, "Number of endpoints removed on each Endpoints sync", (), _PER_SYNC
)  # fmt: skip
MIRROR_SKIPPED = Family(
    MIRROR + "addresses_skipped_per_sync", HISTOGRAM,
    "Number of addresses skipped on each Endpoints sync due to being invalid or exceeding MaxEndpointsPerSubset", (), _PER_SYNC,
)  # fmt: skip
MIRROR_SECONDS = Family(MIRROR + "endpoints_sync_duration", HISTOGRAM, "Duration of syncEndpoints() in seconds", (), _SECONDS)
MIRROR_CHANGES = Family(MIRROR + "changes", COUNTER, "Number of EndpointSlice changes", ("operation",))
MIRROR_SUMS = _sums(MIRROR)
MIRROR_FAMILIES = (MIRROR_ADDED, MIRROR_UPDATED, MIRROR_REMOVED, MIRROR_SKIPPED, MIRROR_SECONDS, MIRROR_CHANGES, *MIRROR_SUMS)


class _Count(NamedTuple):
    """Of one Service, or of all."""

    endpoints: int = 0
    slices: int = 0
    slices_desired: int = 0


class _Sum:
    """The sums over all owners of slices, kept up to date with each sync."""

    def __init__(self, families: _Sums, endpoints_max: int, slices_min: int) -> None:
        self._families = families
        self._endpoints_max = endpoints_max
        self._slices_min = slices_min
        self._known: dict[Key, _Count] = {}
        self._total = _Count()

    def put(self, meter: Meter, key: Key, slices: Sequence[Object]) -> None:
        """An owner has these slices now."""
        by_ports: Counter[str] = Counter()
        for one in slices:
            by_ports[slice_identity(one["addressType"], one.get("ports"))] += len(one.get("endpoints") or ())
        desired = sum(-(-endpoints // self._endpoints_max) for endpoints in by_ports.values())
        self._replace(meter, key, _Count(by_ports.total(), len(slices), max(desired, self._slices_min)))

    def drop(self, meter: Meter, key: Key) -> None:
        self._replace(meter, key, None)

    def _replace(self, meter: Meter, key: Key, new: _Count | None) -> None:
        old = self._known.pop(key, _Count())
        if new is not None:
            self._known[key] = new
        added = new or _Count()
        self._total = _Count(*(total - was + now for total, was, now in zip(self._total, old, added, strict=True)))
        for family, value in zip(self._families, self._total, strict=True):
            meter.set(family, value)


class Totals:
    """Over all Services."""

    def __init__(self, endpoints_max: int) -> None:
        self._sum = _Sum(SUMS, endpoints_max, 1)
        self._distributions: dict[Key, str] = {}

    def count(self, meter: Meter, key: Key, before: Sequence[Object], plan: SlicePlan, distribution: str) -> None:
        """A Service was synced: the slices it had, what was done to them, and the traffic distribution it has."""
        after = _after(before, plan)
        old, new = _by_address(before), _by_address(after)
        meter.observe(ADDED, len(new.keys() - old.keys()))
        meter.observe(REMOVED, len(old.keys() - new.keys()))
        self._sum.put(meter, key, after)
        self._distribute(meter, key, distribution)

    def forget(self, meter: Meter, key: Key) -> None:
        """The Service is gone, or no longer ours."""
        self._sum.drop(meter, key)
        self._distribute(meter, key, "")

    def _distribute(self, meter: Meter, key: Key, now: str) -> None:
        was = self._distributions.pop(key, "")
        if now:
            self._distributions[key] = now
        for distribution in {was, now} - {""} if was != now else ():
            meter.set(DISTRIBUTIONS, sum(one == distribution for one in self._distributions.values()), distribution)


class MirrorTotals:
    """Over all mirrored Endpoints."""

    def __init__(self, endpoints_max: int) -> None:
        self._sum = _Sum(MIRROR_SUMS, endpoints_max, 0)

    def count(self, meter: Meter, key: Key, before: Sequence[Object], plan: SlicePlan) -> None:
        """Endpoints were synced: the slices they had, and what is done to them."""
        after = _after(before, plan)
        old, new = _by_address(before), _by_address(after)
        meter.observe(MIRROR_ADDED, len(new.keys() - old.keys()))
        meter.observe(MIRROR_UPDATED, sum(old[address] != new[address] for address in new.keys() & old.keys()))
        meter.observe(MIRROR_REMOVED, len(old.keys() - new.keys()))
        self._sum.put(meter, key, after)

    def forget(self, meter: Meter, key: Key) -> None:
        """They are gone, or no longer mirrored."""
        self._sum.drop(meter, key)


def _after(before: Sequence[Object], plan: SlicePlan) -> list[Object]:
    replaced = {one["metadata"]["name"] for one in (*plan.update, *plan.delete)}
    return [*(one for one in before if one["metadata"]["name"] not in replaced), *plan.update, *plan.create]


def _by_address(slices: Iterable[Object]) -> dict[str, Object]:
    return {endpoint["addresses"][0]: endpoint for one in slices for endpoint in one.get("endpoints") or ()}
