"""Leases and status heartbeats of all nodes, spread evenly over time: 5,000 nodes are 50 small writes every tenth of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from kubecosm.api.names import NAMESPACE_NODE_LEASE
from kubecosm.api.resources import LEASES, NODES, Object
from kubecosm.api.times import format_micro_time
from kubecosm.client.connection import Answer
from kubecosm.client.http import PatchType
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..pipeline import ApiPipeline, Request
from .addresses import NodeSpec
from .objects import NodeShape, heartbeat_patch, lease_object
from .power import Power, Powers
from .registration import RegisteredNode, Registrar

RENEWALS_PER_LEASE = 4
SLOTS_MAX = 100
"""Nodes are renewed in at most so many groups per interval."""
RETRY_SECONDS = 1.0
IMAGES_PAUSE_SECONDS = 0.1
"""Between statuses that are posted for the sake of their images."""

log = get_logger("kubelet")


@dataclass(slots=True)
class _Beat:
    """One node's heartbeat state."""

    node: RegisteredNode
    has_lease: bool = False
    status_due: float = 0.0
    is_gone: bool = False
    """Its Node was deleted: nothing is told until there is one again."""
    has_new_images: bool = False
    has_returned: bool = False
    """There is a Node that knows nothing of this kubelet yet."""


class Heartbeat:
    """`run` renews until cancelled.

    A kubelet registers its node when it starts and never again (kubelet_node_status.go): a Node that is deleted stays away, and its Lease
    with it, until the kubelet is started anew. One that somebody else creates meanwhile is filled in.
    """

    def __init__(
        self, pipeline: ApiPipeline, clock: Clock, shape: NodeShape, registrar: Registrar, *, status_seconds: float, powers: Powers,
        images: Callable[[str], list[Object]] = lambda _: [],
    ) -> None:  # fmt: skip
        """`images`: what a node's status tells of its images."""
        self._pipeline = pipeline
        self._clock = clock
        self._shape = shape
        self._registrar = registrar
        self._status_seconds = status_seconds
        self._powers = powers
        self._images = images
        self._images_due = 0.0
        self._beats: list[_Beat] = []
        self._by_name: dict[str, _Beat] = {}
        self._filled = asyncio.Event()
        self.renewals = 0
        self.failures = 0

    async def run(self, nodes: list[RegisteredNode]) -> None:
        for index, node in enumerate(nodes):
            self.add(node, status_seconds=self._status_seconds * (0.5 + index / len(nodes)))
        await self._filled.wait()
        interval = self._shape.lease_seconds / RENEWALS_PER_LEASE
        await self._renew_all(self._beats)
        due, slot = self._clock.monotonic(), 0
        while True:
            slots = min(len(self._beats), SLOTS_MAX)
            due += interval / slots
            pause = due - self._clock.monotonic()
            if pause < -interval:
                due = self._clock.monotonic()  # the process was stopped for a while: do not catch up in a burst
            await self._clock.sleep(max(0.0, pause))
            slot %= slots
            await self._renew_all(self._beats[slot::slots])
            slot += 1

    def add(self, node: RegisteredNode, *, status_seconds: float) -> None:
        """Keep this node alive from now on, or go on with what became of it; its status is posted again after so long."""
        beat = self._by_name.get(node.spec.name)
        if beat is None:
            beat = self._by_name[node.spec.name] = _Beat(node)
            self._beats.append(beat)
        beat.node, beat.is_gone, beat.has_returned = node, False, False
        beat.status_due = self._clock.monotonic() + status_seconds
        self._filled.set()

    async def start(self, spec: NodeSpec, boot: str) -> RegisteredNode:
        """The node is switched on: its kubelet registers it, and tells of its new boot."""
        (node,) = await self._registrar.register([spec], boot=boot)
        self.add(node, status_seconds=self._status_seconds)
        return node

    def images_changed(self, name: str) -> None:
        """A node has another image: told soon, but so that many nodes with a new image are no burst of writes."""
        beat = self._by_name.get(name)
        if beat is not None and not beat.has_new_images:
            beat.has_new_images = True
            self._images_due = max(self._images_due + IMAGES_PAUSE_SECONDS, self._clock.monotonic())
            beat.status_due = min(beat.status_due, self._images_due)

    def node_gone(self, name: str) -> None:
        """The Node was deleted. Its lease goes with it: the garbage collector sees to that."""
        beat = self._by_name.get(name)
        if beat is not None:
            beat.is_gone, beat.has_returned, beat.has_lease = True, False, False

    def node_there(self, name: str, uid: str) -> None:
        """There is a Node of this name, perhaps another than before."""
        beat = self._by_name.get(name)
        if beat is not None and (beat.is_gone or beat.node.uid != uid):
            beat.is_gone, beat.has_returned, beat.has_lease = False, True, False

    def node_disputed(self, name: str, conditions: list[Object]) -> None:
        """Somebody wrote other conditions than the kubelet's to the Node: they are posted anew with the next renewal."""
        beat, pressures = self._by_name.get(name), self._powers.pressures_of(name)
        conditions = [one for one in conditions if not (one["type"] in pressures and one["status"] == "True")]
        if beat is not None and conditions:
            theirs = {condition["type"]: condition for condition in conditions}
            beat.node.conditions = [theirs.get(condition["type"], condition) for condition in beat.node.conditions]
            beat.status_due = 0.0

    async def _renew_all(self, beats: list[_Beat]) -> None:
        """Send one group's renewals; answers are looked at as they come."""
        for beat in beats:
            if beat.has_returned and self._powers.of(beat.node.spec.name) is Power.ON:
                self.add(await self._registrar.fill_in(beat.node.spec), status_seconds=self._status_seconds)
        requests, owners = self._requests(beats)
        if not requests:
            return
        try:
            futures = await self._pipeline.batch(requests)
        except (OSError, TimeoutError) as failure:
            self._failed(str(failure) or type(failure).__name__)
            await self._clock.sleep(RETRY_SECONDS)
            return
        await asyncio.wait(futures)
        for future, (beat, is_lease) in zip(futures, owners, strict=True):
            if future.cancelled() or future.exception() is not None:
                self._failed(str(future.exception()))
            else:
                self._answered(beat, future.result(), is_lease)

    def _requests(self, beats: list[_Beat]) -> tuple[list[Request], list[tuple[_Beat, bool]]]:
        requests, owners = [], []
        now, monotonic = self._clock.now(), self._clock.monotonic()
        renewal = orjson.dumps({"spec": {"renewTime": format_micro_time(now)}})
        for beat in beats:
            spec = beat.node.spec
            power = self._powers.of(spec.name)
            if power is Power.OFF or beat.is_gone or beat.has_returned:
                continue
            if beat.has_lease:
                requests.append(Request("PATCH", LEASES.path(NAMESPACE_NODE_LEASE, spec.name), renewal, PatchType.MERGE))
            else:
                body = orjson.dumps(lease_object(spec, beat.node.uid, self._shape, now))
                requests.append(Request("POST", LEASES.path(NAMESPACE_NODE_LEASE), body))
            owners.append((beat, True))
            if monotonic >= beat.status_due and power is Power.ON:
                beat.status_due = monotonic + self._status_seconds
                patch = heartbeat_patch(beat.node.conditions, now, pressures=self._powers.pressures_of(spec.name))
                before, beat.node.conditions = beat.node.conditions, patch["status"]["conditions"]
                self._registrar.tell_changes(spec.name, before, beat.node.conditions)
                if beat.has_new_images:
                    beat.has_new_images = False
                    patch["status"]["images"] = self._images(spec.name)
                requests.append(Request("PATCH", NODES.path(None, spec.name, "status"), orjson.dumps(patch), PatchType.STRATEGIC))
                owners.append((beat, False))
        return requests, owners

    def _answered(self, beat: _Beat, answer: Answer, is_lease: bool) -> None:
        if answer.code < 300:
            self.renewals += is_lease
            beat.has_lease = beat.has_lease or is_lease
            return
        if answer.code == 409 and is_lease:
            beat.has_lease = True  # it is there from before a restart: the next beat renews it
            return
        self._failed(f"{answer.code}")
        if not is_lease:
            beat.status_due, beat.has_new_images = 0.0, True
        if answer.code == 404 and is_lease:
            beat.has_lease = False

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % 1000 == 0:
            log.warning("heartbeat failed", error=why, failures=self.failures)
