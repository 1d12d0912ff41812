"""Writing a node's conditions at once, when one of them changes; else they go out with the heartbeats."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from kubecosm.api.resources import NODES
from kubecosm.client.http import PatchType
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..pipeline import FAILURES, ApiPipeline
from .events import Told, condition_events
from .objects import heartbeat_patch
from .power import Power, Powers

SHUTTING_DOWN_MESSAGE = "node is shutting down"

log = get_logger("kubelet")


class NodeConditions:
    """`post` writes what `powers` says of a node now, and tells what has changed."""

    def __init__(self, pipeline: ApiPipeline, clock: Clock, powers: Powers, tell: Callable[[str, Told], None]) -> None:
        self._pipeline, self._clock, self._powers, self._tell = pipeline, clock, powers, tell

    async def post(self, node: str) -> None:
        """What cannot be written is put right by a later heartbeat."""
        path = NODES.path(None, node)
        not_ready = SHUTTING_DOWN_MESSAGE if self._powers.of(node) is Power.SHUTTING_DOWN else ""
        try:
            found = (await self._pipeline.request("GET", path)).object()
            before = (found.get("status") or {}).get("conditions") or []
            patch = heartbeat_patch(before, self._clock.now(), not_ready, self._powers.pressures_of(node))
            (await self._pipeline.request("PATCH", f"{path}/status", orjson.dumps(patch), PatchType.STRATEGIC)).check()
        except FAILURES as failure:
            log.warning("node status not written", node=node, error=str(failure) or type(failure).__name__)
        else:
            for told in condition_events(node, before, patch["status"]["conditions"]):
                self._tell(node, told)
