"""The Node objects of this process as the API has them: what admission asks of them, and what becomes of them behind the kubelet's back.

Only labels and what tells who may be scheduled is kept: a process may host thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kubecosm.api.meta import Key
from kubecosm.api.resources import NODES, Object
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import Informer
from kubecosm.runtime.clock import Clock

from ..cri.types import NodeInfo
from .events import Told, schedulable_event
from .objects import disputed_conditions

KEPT_OF_METADATA = ("name", "uid", "resourceVersion", "labels", "deletionTimestamp")
KEPT_OF_SPEC = ("taints", "unschedulable")
PAGE_ITEMS = 100
"""Of a list: thousands of whole nodes at once would take memory that is never given back."""


class NodeLife(Protocol):
    """Whoever keeps nodes alive: the Heartbeat."""

    def node_gone(self, name: str) -> None:
        """The Node was deleted."""

    def node_there(self, name: str, uid: str) -> None:
        """There is a Node of this name, perhaps another than before."""

    def node_disputed(self, name: str, conditions: list[Object]) -> None:
        """The Node has other conditions than its kubelet posts."""


def slim(node: Object) -> Object:
    """The parts that are kept."""
    meta, spec = node["metadata"], node.get("spec") or {}
    kept: Object = {
        "metadata": {key: meta[key] for key in KEPT_OF_METADATA if key in meta},
        "spec": {key: spec[key] for key in KEPT_OF_SPEC if spec.get(key)},
    }
    disputed = disputed_conditions(node)
    return {**kept, "status": {"conditions": disputed}} if disputed else kept


class WatchedNodes:
    """`run` follows them until cancelled. `only`: the one node that this process may see; all if empty."""

    def __init__(
        self, client: ApiClient, clock: Clock, hosted: Mapping[str, NodeInfo], life: NodeLife, tell: Callable[[str, Told], None], *,
        only: str,
    ) -> None:  # fmt: skip
        selector = f"metadata.name={only}" if only else ""
        self._informer = Informer(client, NODES, clock=clock, field_selector=selector, transform=slim, page_items=PAGE_ITEMS)
        self._hosted, self._life, self._tell = hosted, life, tell

    async def run(self) -> None:
        self._informer.add_handler(self._added, self._updated, self._deleted)
        await self._informer.run()

    async def wait_synced(self) -> None:
        await self._informer.wait_synced()

    def find(self, name: str) -> Object | None:
        """The Node as last heard of; None if it is not there."""
        return self._informer.store.get(Key("", name))

    def _added(self, node: Object) -> None:
        self._life.node_there(node["metadata"]["name"], node["metadata"]["uid"])

    def _updated(self, old: Object, new: Object) -> None:
        name = new["metadata"]["name"]
        if "status" in new and new["status"] != old.get("status"):
            self._life.node_disputed(name, new["status"]["conditions"])
        if old["metadata"]["uid"] != new["metadata"]["uid"]:
            self._life.node_there(name, new["metadata"]["uid"])
        unschedulable = bool(new["spec"].get("unschedulable"))
        if unschedulable != bool(old["spec"].get("unschedulable")) and name in self._hosted:
            self._tell(name, schedulable_event(name, is_unschedulable=unschedulable))

    def _deleted(self, node: Object) -> None:
        self._life.node_gone(node["metadata"]["name"])
