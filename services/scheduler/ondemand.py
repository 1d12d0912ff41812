"""Informers that only some clusters need: of storage and of devices, from the first pod on that waits for a node with claims to them.

Until their first lists are there, a PreEnqueue plugin holds such pods back without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubecosm.api.resources import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    DEVICECLASSES,
    RESOURCECLAIMS,
    RESOURCESLICES,
    VOLUMEATTACHMENTS,
    Object,
    Resource,
)
from kubecosm.client.informer import InformerFactory

from .framework.events import EventResource
from .scheduler import Scheduler

Keep = Callable[[Object], None]


class Attach(Protocol):
    def __call__(self, factory: InformerFactory, resource: Resource, kind: EventResource, keep: Keep, drop: Keep) -> None: ...


class HasReady(Protocol):
    ready: bool


@dataclass(frozen=True)
class Followed:
    """One resource, and where its objects are kept."""

    resource: Resource
    kind: EventResource
    keep: Keep
    drop: Keep


class OnDemand:
    """Fills one part of the state, from `start` on. `gate` is the plugin that holds pods back until it is `ready`."""

    def __init__(
        self, factory: InformerFactory, scheduler: Scheduler, attach: Attach, state: HasReady, gate: str, followed: Sequence[Followed]
    ) -> None:
        self._factory, self._scheduler, self._attach = factory, scheduler, attach
        self._state, self._gate, self._followed = state, gate, followed
        self._started = False
        state.ready = False

    def start(self) -> None:
        """Begin to watch; once is enough."""
        if self._started:
            return
        self._started = True
        for one in self._followed:
            self._attach(self._factory, one.resource, one.kind, one.keep, one.drop)
        self._scheduler.spawn("caches", self._finish())

    async def _finish(self) -> None:
        for one in self._followed:
            await self._factory.informer(one.resource).wait_synced()
        self._state.ready = True
        self._scheduler.recheck_gated_by(self._gate)


def on_demand(factory: InformerFactory, scheduler: Scheduler, attach: Attach) -> tuple[OnDemand, OnDemand]:
    """The informers of storage and of devices."""
    csi, devices = scheduler.handle.volumes.csi, scheduler.handle.devices

    def keep_claim(claim: Object) -> None:
        devices.set_claim(claim)
        if devices.ready:
            scheduler.recheck_gated_by("DynamicResources")

    storage = (
        Followed(CSINODES, EventResource.CSI_NODE, csi.set_node, csi.remove_node),
        Followed(CSIDRIVERS, EventResource.CSI_DRIVER, csi.set_driver, csi.remove_driver),
        Followed(CSISTORAGECAPACITIES, EventResource.CSI_STORAGE_CAPACITY, csi.set_capacity, csi.remove_capacity),
        Followed(VOLUMEATTACHMENTS, EventResource.VOLUME_ATTACHMENT, csi.set_attachment, csi.remove_attachment),
    )
    dynamic = (
        Followed(RESOURCECLAIMS, EventResource.RESOURCE_CLAIM, keep_claim, devices.remove_claim),
        Followed(RESOURCESLICES, EventResource.RESOURCE_SLICE, devices.pools.set_slice, devices.pools.remove_slice),
        Followed(DEVICECLASSES, EventResource.DEVICE_CLASS, devices.set_class, devices.remove_class),
    )
    return (
        OnDemand(factory, scheduler, attach, csi, "NodeVolumeLimits", storage),
        OnDemand(factory, scheduler, attach, devices, "DynamicResources", dynamic),
    )
