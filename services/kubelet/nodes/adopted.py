"""Hosts Nodes that somebody else created and labelled for simulation: `kubectl create -f node.yaml`, or a cluster autoscaler.

A Node with the label kubecosm.dev/simulated=true gets an address, conditions, a Lease and pods, with the capacity and labels it was
created with, until it is deleted. Its address follows from the range of pod addresses that the node IPAM controller gives it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from ipaddress import IPv4Network

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_KUBELET_VERSION, LABEL_SIMULATED
from kubecosm.api.resources import NODES, Object
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import Informer, drop_managed_fields
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..cri.types import NodeInfo
from ..pipeline import ApiPipeline
from .addresses import POD_SUBNET_BITS, NodeSpec
from .events import Told
from .heartbeat import Heartbeat
from .objects import NodeShape, disputed_conditions
from .power import Power, Powers
from .registration import Registrar

SELECTOR = f"{LABEL_SIMULATED}=true"
OWN_CAPACITY = ("cpu", "memory", "ephemeral-storage", "pods")
"""Resources that a NodeShape has fields for; others are passed on as they are."""

log = get_logger("kubelet")


def shape_of(node: Object, default: NodeShape) -> NodeShape:
    """The capacity and version the Node was created with; what it does not say is that of this process's own nodes."""
    capacity: dict[str, str] = {name: str(value) for name, value in ((node.get("status") or {}).get("capacity") or {}).items()}
    extended = {name: value for name, value in capacity.items() if name not in OWN_CAPACITY and value != "0"}
    return dataclasses.replace(
        default, cpu=capacity.get("cpu", default.cpu), memory=capacity.get("memory", default.memory),
        ephemeral_storage=capacity.get("ephemeral-storage", default.ephemeral_storage),
        max_pods=int(capacity.get("pods", default.max_pods)), extended=extended, labels={}, zones=0,
        version=annotations_of(node).get(ANNOTATION_KUBELET_VERSION) or default.version,
    )  # fmt: skip


def spec_of(node: Object, node_cidr: str, cluster_cidr: str) -> NodeSpec | None:
    """Name and addresses; None while the Node has no range of pod addresses, or one that is not of this cluster."""
    subnet = (node.get("spec") or {}).get("podCIDR")
    if not subnet:
        return None
    nodes, pods, own = IPv4Network(node_cidr), IPv4Network(cluster_cidr), IPv4Network(subnet)
    index = (int(own.network_address) - int(pods.network_address)) >> (32 - POD_SUBNET_BITS)
    if not own.subnet_of(pods) or index + 1 >= nodes.num_addresses:
        return None
    return NodeSpec(index, node["metadata"]["name"], str(nodes.network_address + index + 1), subnet)


class AdoptedNodes:
    """Follows such Nodes. `host` and `drop` tell the kubelet about a node before it is Ready, and after it is gone."""

    def __init__(
        self, client: ApiClient, pipeline: ApiPipeline, clock: Clock, shape: NodeShape, *, node_cidr: str, cluster_cidr: str,
        status_seconds: float, powers: Powers, host: Callable[[NodeInfo, NodeShape], None], drop: Callable[[str], None],
        tell: Callable[[str, Told], None], images: Callable[[str], list[Object]],
    ) -> None:  # fmt: skip
        self._informer = Informer(client, NODES, clock=clock, label_selector=SELECTOR, transform=drop_managed_fields)
        self._pipeline, self._clock, self._shape = pipeline, clock, shape
        self._node_cidr, self._cluster_cidr = node_cidr, cluster_cidr
        self._status_seconds = status_seconds
        self._powers = powers
        self._host, self._drop, self._tell, self._images = host, drop, tell, images
        self._hosted: dict[str, asyncio.Task[None]] = {}
        """Uid → what keeps the node alive."""
        self._beating: dict[str, tuple[Heartbeat, NodeSpec]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._informer.add_handler(self._seen, lambda _old, new: self._seen(new), self._deleted)
            await self._informer.run()

    async def wait_synced(self) -> None:
        """The nodes that exist already are known to the kubelet."""
        await self._informer.wait_synced()

    def _seen(self, node: Object) -> None:
        uid, name = node["metadata"]["uid"], node["metadata"]["name"]
        if name in self._beating and (disputed := disputed_conditions(node)):
            self._beating[name][0].node_disputed(name, disputed)
        spec = spec_of(node, self._node_cidr, self._cluster_cidr)
        if spec is None or uid in self._hosted or self._tasks is None:
            return
        shape = shape_of(node, self._shape)
        self._host(NodeInfo(spec.name, spec.ip, spec.pod_cidr), shape)
        self._hosted[uid] = self._tasks.create_task(self._keep(spec, shape), name="node-adopted")
        log.info("hosting a node", node=spec.name, address=spec.ip)

    async def _keep(self, spec: NodeSpec, shape: NodeShape) -> None:
        registrar = Registrar(self._pipeline, self._clock, shape, tell=self._tell, may_create=False)
        heartbeat = Heartbeat(
            self._pipeline, self._clock, shape, registrar, status_seconds=self._status_seconds, powers=self._powers, images=self._images
        )  # fmt: skip
        self._beating[spec.name] = heartbeat, spec
        await heartbeat.run(await registrar.register([spec]) if self._powers.of(spec.name) is not Power.OFF else [])

    def images_changed(self, name: str) -> bool:
        """As `start`."""
        found = self._beating.get(name)
        if found is not None:
            found[0].images_changed(name)
        return found is not None

    async def start(self, name: str, boot: str) -> bool:
        """A node is switched on; false if it is none of these."""
        found = self._beating.get(name)
        if found is not None:
            heartbeat, spec = found
            await heartbeat.start(spec, boot)
        return found is not None

    def _deleted(self, node: Object) -> None:
        keeping = self._hosted.pop(node["metadata"]["uid"], None)
        if keeping is not None:
            keeping.cancel()
            self._beating.pop(node["metadata"]["name"], None)
            self._powers.put(node["metadata"]["name"], Power.ON)  # a new node of this name is another machine
            self._drop(node["metadata"]["name"])
            log.info("no longer hosting a node", node=node["metadata"]["name"])
