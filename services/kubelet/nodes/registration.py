"""Brings the Node objects of this process into the API: all at once, with retries until the API server is there.

Imitates registerWithAPIServer of pkg/kubelet/kubelet_node_status.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

import orjson

from kubecosm.api.errors import AlreadyExists
from kubecosm.api.resources import NODES, Object
from kubecosm.client.http import PatchType
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..cri.types import NodeInfo
from ..pipeline import FAILURES, ApiPipeline
from .addresses import NodeSpec
from .events import Told, condition_events, start_events
from .objects import NodeShape, node_labels, node_object, node_status, status_differs

RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 5.0
REGISTRATIONS_AT_ONCE_MAX = 256

log = get_logger("kubelet")


@dataclass(slots=True)
class RegisteredNode:
    """A node that the API knows, with what of its object the kubelet needs later."""

    spec: NodeSpec
    uid: str
    conditions: list[Object]
    info: NodeInfo


class Registrar:
    """`may_create`: whether a Node that does not exist is made; if not, it is waited for. `tell` takes the events of (node, told)."""

    def __init__(
        self, pipeline: ApiPipeline, clock: Clock, shape: NodeShape, *, tell: Callable[[str, Told], None], may_create: bool = True
    ) -> None:
        self._may_create = may_create
        self._tell = tell
        self._pipeline = pipeline
        self._clock = clock
        self._shape = shape
        self._complained = False

    async def register(self, nodes: list[NodeSpec], *, boot: str = "") -> list[RegisteredNode]:
        """Create every Node, or adopt it if it exists; returns when all are there. `boot` names a new run of the machine."""
        places = asyncio.Semaphore(REGISTRATIONS_AT_ONCE_MAX)

        async def one(node: NodeSpec) -> RegisteredNode:
            async with places:
                return await self._until_registered(node, partial(self._register, node, boot))

        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(one(node), name="node-register") for node in nodes]
        return [job.result() for job in jobs]

    async def point_here(self, node: NodeSpec) -> None:
        """A node that is off: whoever switches it on finds this process. Best effort: the Node may be gone."""
        patch = orjson.dumps({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": self._shape.port}}}})
        try:
            (await self._pipeline.request("PATCH", NODES.path(None, node.name, "status"), patch, PatchType.STRATEGIC)).check()
        except FAILURES as failure:
            log.info("node that is off not updated", node=node.name, error=str(failure) or type(failure).__name__)

    async def fill_in(self, node: NodeSpec) -> RegisteredNode:
        """A Node that somebody created while its kubelet ran on."""
        return await self._until_registered(node, partial(self._adopt, node, "", is_start=False))

    async def _until_registered(self, node: NodeSpec, attempt: Callable[[], Awaitable[Object]]) -> RegisteredNode:
        wait = RETRY_SECONDS_MIN
        while True:
            try:
                return _registered(node, await attempt())
            except FAILURES as failure:
                if wait >= 1.0 and not self._complained:
                    self._complained = True
                    log.warning("cannot register nodes, trying again", node=node.name, error=str(failure) or type(failure).__name__)
                await self._clock.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)

    async def _register(self, node: NodeSpec, boot: str) -> Object:
        if not self._may_create:
            return await self._adopt(node, boot)
        now = self._clock.now()
        wanted = node_object(node, self._shape, now)
        if boot:
            wanted["status"]["nodeInfo"]["bootID"] = boot
        answer = await self._pipeline.request("POST", NODES.path(), orjson.dumps(wanted))
        try:
            created = answer.object()
        except AlreadyExists:
            return await self._adopt(node, boot)
        self._tell_start(node, None, wanted["status"])
        if not (created.get("status") or {}).get("conditions"):
            return await self._write_status(node, {"status": wanted["status"]})
        return created

    def tell_changes(self, node: str, before: Iterable[Object], after: Iterable[Object]) -> None:
        """Events of the conditions whose status is another than before."""
        for told in condition_events(node, before, after):
            self._tell(node, told)

    def _tell_start(self, node: NodeSpec, before: Object | None, status: Object) -> None:
        for told in start_events(node.name, before, status):
            self._tell(node.name, told)

    async def _adopt(self, node: NodeSpec, boot: str, *, is_start: bool = True) -> Object:
        """The Node exists: keep its pod range and boot id, bring labels and status up to date."""
        path = NODES.path(None, node.name)
        existing = found = (await self._pipeline.request("GET", path)).object()
        wanted_labels = node_labels(node, self._shape)
        labels = existing["metadata"].get("labels") or {}
        patch: Object = {}
        if any(labels.get(key) != value for key, value in wanted_labels.items()):
            patch["metadata"] = {"labels": wanted_labels}
        if not existing["spec"].get("podCIDR"):
            patch["spec"] = {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]}
        if patch:
            existing = (await self._pipeline.request("PATCH", path, orjson.dumps(patch), PatchType.STRATEGIC)).object()
        status = node_status(node, self._shape, self._clock.now())
        if boot_id := boot or ((existing.get("status") or {}).get("nodeInfo") or {}).get("bootID"):
            status["nodeInfo"]["bootID"] = boot_id
        before = {c["type"]: c for c in (existing.get("status") or {}).get("conditions") or ()}
        for condition in status["conditions"]:
            known = before.get(condition["type"])
            if known is not None and known["status"] == condition["status"]:
                condition["lastTransitionTime"] = known.get("lastTransitionTime") or condition["lastTransitionTime"]
        if status_differs(existing.get("status") or {}, status):
            existing = await self._write_status(node, {"status": status})
        if is_start:
            self._tell_start(node, found, status)
        return existing

    async def _write_status(self, node: NodeSpec, patch: Object) -> Object:
        answer = await self._pipeline.request("PATCH", NODES.path(None, node.name, "status"), orjson.dumps(patch), PatchType.STRATEGIC)
        return answer.object()


def _registered(node: NodeSpec, obj: Object) -> RegisteredNode:
    info = NodeInfo(node.name, node.ip, obj["spec"].get("podCIDR") or node.pod_cidr)
    return RegisteredNode(node, obj["metadata"]["uid"], (obj.get("status") or {}).get("conditions") or [], info)
