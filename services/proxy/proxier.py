"""Keeps sockets and DNS records equal to what the API says: Service, EndpointSlice, Node and Namespace events in, changes out.

Events only mark a Service dirty; one task applies what is dirty, so a burst of EndpointSlice updates costs one pass over its Service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from kubecosm.api import names
from kubecosm.api.meta import Key, annotations_of, key_of, labels_of
from kubecosm.api.resources import ENDPOINTSLICES, NAMESPACES, NODES, SERVICES, Object
from kubecosm.api.times import parse_time
from kubecosm.client.informer import Informer, InformerFactory
from kubecosm.runtime.clock import Clock

from .addresses import binds_of
from .config import Config
from .dialer import NodeAddress, node_address
from .dns.zone import Zone, service_records
from .listeners import Bind, Listeners
from .metrics import ProxyMetrics
from .places import Places
from .table import Route, routes_of

INDEX_SERVICE = "service"
RETRY_FAILED_SECONDS = 15.0
TRIGGERS_MAX = 100
"""Changes of one Service's endpoints whose times are remembered until they are applied."""


def slice_service(item: Object) -> list[str]:
    """Index function: the Service (`namespace/name`) an EndpointSlice belongs to."""
    name = labels_of(item).get(names.LABEL_SERVICE_NAME)
    return [f"{item['metadata']['namespace']}/{name}"] if name else []


def triggered(item: Object) -> datetime | None:
    """When what an EndpointSlice tells of happened, if that is known."""
    text = annotations_of(item).get(names.ANNOTATION_LAST_CHANGE_TRIGGER_TIME)
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None


class Proxier:
    """Owns the table of nodes and the open sockets; `run` until cancelled."""

    def __init__(
        self, config: Config, factory: InformerFactory, nodes: dict[str, NodeAddress], places: Places, listeners: Listeners,
        zone: Zone | None, metrics: ProxyMetrics, clock: Clock,
    ) -> None:  # fmt: skip
        self._config = config
        self._nodes = nodes
        self._places = places
        self._listeners = listeners
        self._zone = zone
        self._metrics, self._clock = metrics, clock
        self._started = clock.now()
        self._triggers: dict[Key, list[datetime]] = {}
        """Since when Services wait for what their endpoints have become; of changes that this process has seen."""
        self._services = factory.informer(SERVICES)
        self._slices = factory.informer(ENDPOINTSLICES, indexers={INDEX_SERVICE: slice_service})
        self._node_informer = factory.informer(NODES)
        self._namespaces = factory.informer(NAMESPACES)
        self._dirty: set[Key] = set()
        self._wake = asyncio.Event()
        self._open: dict[Key, set[Bind]] = {}
        self.synced = False
        self._add_handlers()

    def _add_handlers(self) -> None:
        service, slices = self._mark_service, self._mark_slice
        self._services.add_handler(on_add=service, on_update=lambda _old, new: service(new), on_delete=service)
        self._slices.add_handler(on_add=slices, on_update=lambda _old, new: slices(new), on_delete=lambda item: slices(item, is_gone=True))
        self._node_informer.add_handler(on_add=self._put_node, on_update=lambda _old, new: self._put_node(new), on_delete=self._drop_node)
        if self._zone is not None:
            self._namespaces.add_handler(
                on_add=lambda _obj: self._set_namespaces(), on_update=lambda _old, _new: None, on_delete=lambda _obj: self._set_namespaces()
            )

    @property
    def informers(self) -> Iterable[Informer]:
        return (self._services, self._slices, self._node_informer, self._namespaces)

    async def run(self) -> None:
        """Apply changes as they come. Nothing is opened before every cache is complete, so a restart tears nothing down."""
        for informer in self.informers:
            await informer.wait_synced()
        while True:
            await self._sync_dirty()
            self.synced = True
            await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        """Wake on a change; while sockets could not be opened, also look again from time to time."""
        try:
            async with asyncio.timeout(RETRY_FAILED_SECONDS if self._listeners.failed else None):
                await self._wake.wait()
        except TimeoutError:
            await self._listeners.retry_failed()

    async def _sync_dirty(self) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, set()
        if not dirty:
            return
        with self._metrics.sync_duration.time():
            for key in dirty:
                await self._sync_service(key)
        now = self._clock.now()
        self._metrics.last_sync.set(now.timestamp())
        for key in dirty:
            for since in self._triggers.pop(key, ()):
                self._metrics.programming.observe((now - since).total_seconds())
        self._metrics.open_listeners.set(len(self._listeners))

    async def _sync_service(self, key: Key) -> None:
        service = self._services.store.get(key)
        slices = self._slices.store.by_index(INDEX_SERVICE, str(key))
        wanted = self._wanted(service, slices)
        before = self._open.pop(key, set())
        await self._listeners.sync(wanted, before | wanted.keys())
        if wanted:
            self._open[key] = set(wanted)
        if self._zone is not None:
            self._zone.put(key, service_records(service, slices, self._zone.domain) if service else None)

    def _wanted(self, service: Object | None, slices: Iterable[Object]) -> Mapping[Bind, Route]:
        if service is None:
            return {}
        return binds_of(
            routes_of(service, slices), self._nodes,
            node_addresses_max=self._config.nodeport_node_addresses_max, single_node=self._config.hostname_override,
        )  # fmt: skip

    def _mark(self, key: Key) -> None:
        self._dirty.add(key)
        self._wake.set()

    def _mark_service(self, service: Object) -> None:
        self._metrics.service_changes.inc()
        self._mark(key_of(service))

    def _mark_slice(self, item: Object, *, is_gone: bool = False) -> None:
        self._metrics.endpoint_changes.inc()
        for text in slice_service(item):
            namespace, _, name = text.partition("/")
            key = Key(namespace, name)
            if is_gone:
                self._triggers.pop(key, None)
            elif (since := triggered(item)) is not None and since > self._started:
                waiting = self._triggers.setdefault(key, [])
                if len(waiting) < TRIGGERS_MAX:
                    waiting.append(since)
            self._mark(key)

    def _put_node(self, node: Object) -> None:
        address = node_address(node, self._config.hostname_override)
        name = node["metadata"]["name"]
        if address == self._nodes.get(name):
            return
        if address is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = address
        self._nodes_changed()

    def _drop_node(self, node: Object) -> None:
        if self._nodes.pop(node["metadata"]["name"], None) is not None:
            self._nodes_changed()

    def _nodes_changed(self) -> None:
        self._places.forget()
        for service in self._services.store.list():
            if service["spec"].get("type") in ("NodePort", "LoadBalancer"):
                self._mark(key_of(service))

    def _set_namespaces(self) -> None:
        if self._zone is not None:
            self._zone.set_namespaces(obj["metadata"]["name"] for obj in self._namespaces.store.list())
