"""Leases and status heartbeats of all nodes, spread evenly over time: 5,000 nodes are 50 small writes every tenth of a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson

from kubecosm.api.names import NAMESPACE_NODE_LEASE
from kubecosm.api.resources import LEASES, NODES
from kubecosm.api.times import format_micro_time
from kubecosm.client.connection import Answer
from kubecosm.client.http import PatchType
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..pipeline import ApiPipeline, Request
from .objects import NodeShape, heartbeat_patch, lease_object
from .power import Power, Powers
from .registration import RegisteredNode, Registrar

RENEWALS_PER_LEASE = 4
SLOTS_MAX = 100
"""Nodes are renewed in at most so many groups per interval."""
RETRY_SECONDS = 1.0

log = get_logger("kubelet")


@dataclass(slots=True)
class _Beat:
    """One node's heartbeat state."""

    node: RegisteredNode
    has_lease: bool = False
    status_due: float = 0.0


class Heartbeat:
    """`run` renews until cancelled. A node whose object has been deleted from the API is registered anew."""

    def __init__(
        self, pipeline: ApiPipeline, clock: Clock, shape: NodeShape, registrar: Registrar, *, status_seconds: float, powers: Powers
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._clock = clock
        self._shape = shape
        self._registrar = registrar
        self._status_seconds = status_seconds
        self._powers = powers
        self.renewals = 0
        self.failures = 0

    async def run(self, nodes: list[RegisteredNode]) -> None:
        if not nodes:
            return
        interval = self._shape.lease_seconds / RENEWALS_PER_LEASE
        beats = [_Beat(node) for node in nodes]
        now = self._clock.monotonic()
        for index, beat in enumerate(beats):
            beat.status_due = now + self._status_seconds * (0.5 + index / len(beats))
        await self._renew_all(beats)
        slots = min(len(beats), SLOTS_MAX)
        groups = [beats[slot::slots] for slot in range(slots)]
        due = self._clock.monotonic()
        slot = 0
        while True:
            due += interval / slots
            pause = due - self._clock.monotonic()
            if pause < -interval:
                due = self._clock.monotonic()  # the process was stopped for a while: do not catch up in a burst
            await self._clock.sleep(max(0.0, pause))
            await self._renew_all(groups[slot])
            slot = (slot + 1) % slots

    async def _renew_all(self, beats: list[_Beat]) -> None:
        """Send one group's renewals; answers are looked at as they come."""
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
                await self._answered(beat, future.result(), is_lease)

    def _requests(self, beats: list[_Beat]) -> tuple[list[Request], list[tuple[_Beat, bool]]]:
        requests, owners = [], []
        now, monotonic = self._clock.now(), self._clock.monotonic()
        renewal = orjson.dumps({"spec": {"renewTime": format_micro_time(now)}})
        for beat in beats:
            spec = beat.node.spec
            power = self._powers.of(spec.name)
            if power is Power.OFF:
                beat.status_due = 0.0  # once it is on again, the API shall hear of it, and have it if it was deleted meanwhile
                continue
            if beat.has_lease:
                requests.append(Request("PATCH", LEASES.path(NAMESPACE_NODE_LEASE, spec.name), renewal, PatchType.MERGE))
            else:
                body = orjson.dumps(lease_object(spec, beat.node.uid, self._shape, now))
                requests.append(Request("POST", LEASES.path(NAMESPACE_NODE_LEASE), body))
            owners.append((beat, True))
            if monotonic >= beat.status_due and power is Power.ON:
                beat.status_due = monotonic + self._status_seconds
                patch = orjson.dumps(heartbeat_patch(beat.node.conditions, now))
                requests.append(Request("PATCH", NODES.path(None, spec.name, "status"), patch, PatchType.STRATEGIC))
                owners.append((beat, False))
        return requests, owners

    async def _answered(self, beat: _Beat, answer: Answer, is_lease: bool) -> None:
        if answer.code < 300:
            self.renewals += is_lease
            beat.has_lease = beat.has_lease or is_lease
            return
        if answer.code == 409 and is_lease:
            beat.has_lease = True  # it is there from before a restart: the next beat renews it
            return
        self._failed(f"{answer.code}")
        if answer.code == 404:
            if is_lease:
                beat.has_lease = False
            else:
                beat.node = (await self._registrar.register([beat.node.spec]))[0]

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % 1000 == 0:
            log.warning("heartbeat failed", error=why, failures=self.failures)
