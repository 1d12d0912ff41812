"""Gives Services of type LoadBalancer an address, as a cloud would: the lowest free one of a range, written to their status.

The proxier then listens there like on any other address. A Service that names a loadBalancerClass is somebody else's. Finalizer, events and
their order are those of k8s.io/cloud-provider's service controller; there are no backends to tell of nodes, but events tell of them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network

import aiohttp

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.meta import Key, is_deleting, key_of, labels_of
from kubecosm.api.names import FINALIZER_LOAD_BALANCER, LABEL_EXCLUDE_LOAD_BALANCERS
from kubecosm.api.resources import SERVICES, Object
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.client.informer import Informer
from kubecosm.runtime.logs import get_logger

from .loadbalancerchanges import Notice, notices_of

log = get_logger("load-balancer")

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 5.0, 300.0
COMPONENT = "service-controller"
TAINT_TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"


class NoAddress(Exception):
    """A Service gets no address, and why."""


def addresses_of(service: Object) -> list[str]:
    """The load-balancer addresses that a Service has."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry["ip"] for entry in ingress if entry.get("ip")]


def wants_balancer(service: Object) -> bool:
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def needs_cleanup(service: Object, network: IPv4Network) -> bool:
    """It goes, or no longer is a load balancer, and still has something of one."""
    meta = service["metadata"]
    if FINALIZER_LOAD_BALANCER in (meta.get("finalizers") or ()):
        return is_deleting(service) or service["spec"].get("type") != "LoadBalancer"
    return not wants_balancer(service) and not is_deleting(service) and any(IPv4Address(ip) in network for ip in addresses_of(service))


def choose_address(service: Object, taken: Collection[str], network: IPv4Network) -> str:
    """The address it keeps, asks for, or gets. Raises NoAddress."""
    asked, has = service["spec"].get("loadBalancerIP") or "", addresses_of(service)
    if has and asked in ("", has[0]):
        return has[0]
    if not asked:
        free = next((ip for ip in map(str, network.hosts()) if ip not in taken), None)
        if free is None:
            raise NoAddress(f"no address of {network} is free")
        return free
    try:
        is_ours = IPv4Address(asked) in network
    except AddressValueError:
        is_ours = False
    if not is_ours:
        raise NoAddress(f"requested address {asked} is not in {network}")
    if asked in taken:
        raise NoAddress(f"requested address {asked} is in use")
    return asked


def hosts_of(nodes: Iterable[Object]) -> frozenset[str]:
    """The nodes that a load balancer would send traffic to, ready or not: those that are not ready fail its health checks."""
    return frozenset(
        node["metadata"]["name"]
        for node in nodes
        if not is_deleting(node) and LABEL_EXCLUDE_LOAD_BALANCERS not in labels_of(node)
        and not any(taint["key"] == TAINT_TO_BE_DELETED for taint in node["spec"].get("taints") or ())
    )  # fmt: skip


class LoadBalancer:
    """Watches Services and Nodes through shared informers and writes what Services get."""

    def __init__(self, client: ApiClient, services: Informer, nodes: Informer, recorder: EventRecorder, network: IPv4Network) -> None:
        self._client = client
        self._services = services
        self._nodes = nodes
        self._recorder = recorder
        self._network = network
        self._dirty: set[Key] = set()
        self._failed: dict[Key, float] = {}
        """Services that got nothing, and the seconds until they are tried again."""
        self._hosts: dict[Key, frozenset[str]] = {}
        """The balanced Services, and the nodes they were told to be balanced over."""
        self._given: dict[Key, str] = {}
        self._wake = asyncio.Event()
        services.add_handler(on_add=self._added, on_update=self._updated, on_delete=self._deleted)
        nodes.add_handler(on_add=lambda _node: self._wake.set(), on_update=self._node_updated, on_delete=lambda _node: self._wake.set())

    async def run(self) -> None:
        """Until cancelled. What fails is tried again after a pause that grows; an address that becomes free ends it."""
        await self._services.wait_synced()
        await self._nodes.wait_synced()
        while True:
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for key in sorted(dirty):
                await self._settle(key)
            self._tell_hosts()
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(min(self._failed.values(), default=None)):
                await self._wake.wait()
        except TimeoutError:
            self._dirty |= self._failed.keys()

    def _mark(self, service: Object) -> None:
        self._dirty.add(key_of(service))
        self._wake.set()

    def _added(self, service: Object) -> None:
        if wants_balancer(service) or needs_cleanup(service, self._network):
            self._mark(service)

    def _updated(self, old: Object, new: Object) -> None:
        notices = notices_of(old, new, wants_balancer(old), wants_balancer(new))
        for notice in notices or ():
            self._tell(new, notice)
        if notices is not None or needs_cleanup(new, self._network):
            self._mark(new)

    def _deleted(self, service: Object) -> None:
        key = key_of(service)
        for known in (self._hosts, self._failed, self._given):
            known.pop(key, None)
        self._dirty |= self._failed.keys()
        self._wake.set()

    def _node_updated(self, old: Object, new: Object) -> None:
        if hosts_of((old,)) != hosts_of((new,)):
            self._wake.set()

    def _tell(self, service: Object, notice: Notice) -> None:
        self._recorder.event(service, SERVICES, *notice)

    def _tell_hosts(self) -> None:
        hosts = hosts_of(self._nodes.store)
        for key, known in self._hosts.items():
            service = self._services.store.get(key)
            if known == hosts or service is None:
                continue
            self._hosts[key] = hosts
            if hosts:
                self._tell(service, Notice("Normal", "UpdatedLoadBalancer", "Updated load balancer with new hosts"))
            else:
                self._tell(service, Notice("Warning", "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer"))

    async def _settle(self, key: Key) -> None:
        service = self._services.store.get(key)
        if service is None:
            return
        try:
            if not wants_balancer(service) or needs_cleanup(service, self._network):
                await self._take(key, service)
            else:
                await self._give(key, service)
        except (NoAddress, ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._failed[key] = min(2 * self._failed.get(key, RETRY_SECONDS_MIN / 2), RETRY_SECONDS_MAX)
            log.warning("cannot settle a load balancer", object=f"Service {key}", error=str(error))
            self._tell(service, Notice("Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {_failure(error)}"))
        else:
            self._failed.pop(key, None)

    async def _give(self, key: Key, service: Object) -> None:
        """Raises NoAddress and what a request may fail with."""
        self._tell(service, Notice("Normal", "EnsuringLoadBalancer", "Ensuring load balancer"))
        if FINALIZER_LOAD_BALANCER not in (service["metadata"].get("finalizers") or ()):
            service = await self._patch(key, {"metadata": {"finalizers": [FINALIZER_LOAD_BALANCER]}})
        ip = self._given[key] = choose_address(service, self._taken(key), self._network)
        self._hosts[key] = hosts_of(self._nodes.store)
        if not self._hosts[key]:
            self._tell(service, Notice("Warning", "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer"))
        self._tell(service, Notice("Normal", "EnsuredLoadBalancer", "Ensured load balancer"))
        if addresses_of(service) != [ip]:
            await self._patch(key, {"status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]}}})

    def _taken(self, key: Key) -> set[str]:
        """The addresses of all other Services, whether the cache has seen them or not."""
        given = {ip for other, ip in self._given.items() if other != key}
        others = (other for other in self._services.store if key_of(other) != key and wants_balancer(other))
        return given.union(*map(addresses_of, others))

    async def _take(self, key: Key, service: Object) -> None:
        """Raises what a request may fail with."""
        self._hosts.pop(key, None)
        if addresses_of(service):
            self._tell(service, Notice("Normal", "DeletingLoadBalancer", "Deleting load balancer"))
        lifted = {"$deleteFromPrimitiveList/finalizers": [FINALIZER_LOAD_BALANCER]}
        try:
            await self._patch(key, {"metadata": lifted, "status": {"loadBalancer": None}})
        except NotFound:
            return
        self._given.pop(key, None)
        self._tell(service, Notice("Normal", "DeletedLoadBalancer", "Deleted load balancer"))
        self._dirty |= self._failed.keys()

    async def _patch(self, key: Key, patch: Object) -> Object:
        return await self._client.patch(SERVICES, key.name, patch, key.namespace, patch_type=PatchType.STRATEGIC, subresource="status")


def _failure(error: Exception) -> str:
    return f"failed to ensure load balancer: {error}" if isinstance(error, NoAddress) else f"failed to update load balancer status: {error}"
