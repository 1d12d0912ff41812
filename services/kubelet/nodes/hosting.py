"""The nodes of this process taken together: registered, kept alive and watched; those of its own and those it adopts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import NODES, Object
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.runtime.clock import Clock

from ..cri.types import NodeInfo
from ..pipeline import ApiPipeline
from .addresses import NodeSpec
from .adopted import AdoptedNodes
from .events import Told
from .heartbeat import Heartbeat
from .objects import NodeShape
from .power import Power, Powers
from .registration import Registrar
from .watched import WatchedNodes


class NodeSettings(NamedTuple):
    """The flags that decide: see Config."""

    node_cidr: str
    cluster_cidr: str
    status_seconds: float
    adopt: bool
    only: str
    """The one node that this process may see; empty if it may see all."""


class HostedNodes:
    """`start` once; `nodes` (by name) is filled then. `host` and `drop` are told of adopted nodes, `tell` takes events, `images` lists."""

    def __init__(
        self, client: ApiClient, pipeline: ApiPipeline, clock: Clock, settings: NodeSettings, nodes: dict[str, NodeInfo], powers: Powers, *,
        tell: Callable[[str, Told], None], images: Callable[[str], list[Object]],
        host: Callable[[NodeInfo, NodeShape], None], drop: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client, self._pipeline, self._clock, self._settings = client, pipeline, clock, settings
        self._nodes, self._powers = nodes, powers
        self._tell, self._images, self._host, self._drop = tell, images, host, drop
        self._specs: dict[str, NodeSpec] = {}
        self._adopted: AdoptedNodes | None = None
        self.heartbeat: Heartbeat | None = None
        self.watched: WatchedNodes | None = None

    async def start(self, specs: list[NodeSpec], shape: NodeShape, spawn: Callable[[Coroutine[None, None, None], str], object]) -> None:
        """Return when the nodes are registered, and those that are there already are known. `spawn` starts what goes on from then."""
        settings = self._settings
        self._specs = {spec.name: spec for spec in specs}
        registrar = Registrar(self._pipeline, self._clock, shape, tell=self._tell)
        self.heartbeat = Heartbeat(
            self._pipeline, self._clock, shape, registrar, status_seconds=settings.status_seconds, powers=self._powers, images=self._images
        )  # fmt: skip
        registered = await registrar.register([spec for spec in specs if self._powers.of(spec.name) is Power.ON])
        for spec in specs:
            if self._powers.of(spec.name) is not Power.ON:
                await registrar.point_here(spec)
        self._nodes.update((spec.name, NodeInfo(spec.name, spec.ip, spec.pod_cidr)) for spec in specs)
        self._nodes.update((node.info.name, node.info) for node in registered)
        spawn(self.heartbeat.run(registered), "heartbeat")
        self.watched = WatchedNodes(self._client, self._clock, self._nodes, self.heartbeat, self._tell, only=settings.only)
        spawn(self.watched.run(), "nodes")
        if settings.adopt:
            self._adopted = AdoptedNodes(
                self._client, self._pipeline, self._clock, shape, node_cidr=settings.node_cidr, cluster_cidr=settings.cluster_cidr,
                status_seconds=settings.status_seconds, powers=self._powers, host=self._host, drop=self._drop, tell=self._tell,
                images=self._images,
            )  # fmt: skip
            spawn(self._adopted.run(), "adopted-nodes")
        async with asyncio.TaskGroup() as waiting:
            for informed in (self.watched, self._adopted):
                if informed is not None:
                    waiting.create_task(informed.wait_synced(), name="nodes-synced")

    def find(self, name: str) -> Object | None:
        """The Node as last heard of; None if nothing is known."""
        return self.watched.find(name) if self.watched is not None else None

    async def fetch(self, name: str) -> Object | None:
        """The Node as it is now; None if nobody says."""
        try:
            return await self._client.get(NODES, name)
        except (ApiError, *TRANSPORT_ERRORS):
            return None

    def images_changed(self, name: str) -> None:
        """The node's status is to tell of another image."""
        if self._adopted is not None and self._adopted.images_changed(name):
            return
        if self.heartbeat is not None:
            self.heartbeat.images_changed(name)

    async def switch_on(self, name: str, boot: str) -> None:
        """The machine runs anew, and its kubelet registers it."""
        if self._adopted is not None and await self._adopted.start(name, boot):
            return
        if self.heartbeat is not None and (spec := self._specs.get(name)) is not None:
            self._nodes[name] = (await self.heartbeat.start(spec, boot)).info
