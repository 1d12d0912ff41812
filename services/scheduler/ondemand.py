"""Informers that only clusters with storage need: started when the first pod with claims waits for a node.

Until their first lists are there, NodeVolumeLimits holds such pods back without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kubecosm.api.resources import CSIDRIVERS, CSINODES, CSISTORAGECAPACITIES, VOLUMEATTACHMENTS, Object, Resource
from kubecosm.client.informer import InformerFactory

from .framework.events import EventResource
from .scheduler import Scheduler
from .watched import ON_DEMAND

Keep = Callable[[Object], None]


class Attach(Protocol):
    def __call__(self, factory: InformerFactory, resource: Resource, kind: EventResource, keep: Keep, drop: Keep) -> None: ...


class CsiInformers:
    """Fills the CsiState of a scheduler, from `start` on."""

    def __init__(self, factory: InformerFactory, scheduler: Scheduler, attach: Attach) -> None:
        self._factory, self._scheduler, self._attach = factory, scheduler, attach
        self._started = False
        scheduler.handle.volumes.csi.ready = False

    def start(self) -> None:
        """Begin to watch; once is enough."""
        if self._started:
            return
        self._started = True
        csi, factory = self._scheduler.handle.volumes.csi, self._factory
        self._attach(factory, CSINODES, EventResource.CSI_NODE, csi.set_node, csi.remove_node)
        self._attach(factory, CSIDRIVERS, EventResource.CSI_DRIVER, csi.set_driver, csi.remove_driver)
        self._attach(factory, CSISTORAGECAPACITIES, EventResource.CSI_STORAGE_CAPACITY, csi.set_capacity, csi.remove_capacity)
        self._attach(factory, VOLUMEATTACHMENTS, EventResource.VOLUME_ATTACHMENT, csi.set_attachment, csi.remove_attachment)
        self._scheduler.spawn("csi-caches", self._finish())

    async def _finish(self) -> None:
        for resource in ON_DEMAND:
            await self._factory.informer(resource).wait_synced()
        self._scheduler.handle.volumes.csi.ready = True
        self._scheduler.recheck_all_gates()
