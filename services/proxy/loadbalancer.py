"""Gives Services of type LoadBalancer an address, as a cloud would: the lowest free one of a range, written to their status.

The proxier then listens there like on any other address. A Service that names a loadBalancerClass is somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

import aiohttp

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import Key, is_deleting, key_of
from kubecosm.api.resources import SERVICES, Object
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.client.informer import Informer
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

log = get_logger("load-balancer")

RETRY_SECONDS = 1.0


def addresses_of(service: Object) -> list[str]:
    """The load-balancer addresses that a Service has."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry["ip"] for entry in ingress if entry.get("ip")]


def wants_address(service: Object) -> bool:
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not is_deleting(service)


def plan_addresses(services: Iterable[Object], network: IPv4Network) -> dict[Key, str | None]:
    """What is to be written: Service → its new address, or None to take a stale one away. Kept addresses are not in the plan."""
    services = list(services)
    taken = {ip for service in services if wants_address(service) for ip in addresses_of(service)}
    plan: dict[Key, str | None] = {}
    for service in services:
        has = addresses_of(service)
        if not wants_address(service):
            if any(IPv4Address(ip) in network for ip in has):
                plan[key_of(service)] = None
        elif not has and (ip := _choose(service, network, taken)):
            taken.add(ip)
            plan[key_of(service)] = ip
    return plan


def _choose(service: Object, network: IPv4Network, taken: set[str]) -> str:
    asked = service["spec"].get("loadBalancerIP") or ""
    if asked:
        return asked if asked not in taken and IPv4Address(asked) in network else ""
    return next((ip for ip in map(str, network.hosts()) if ip not in taken), "")


class LoadBalancer:
    """Watches Services through a shared informer and writes what the plan says."""

    def __init__(self, client: ApiClient, services: Informer, recorder: EventRecorder, clock: Clock, network: IPv4Network) -> None:
        self._client = client
        self._services = services
        self._recorder = recorder
        self._clock = clock
        self._network = network
        self._wake = asyncio.Event()
        services.add_handler(
            on_add=lambda _obj: self._wake.set(), on_update=lambda _old, _new: self._wake.set(), on_delete=lambda _obj: self._wake.set()
        )

    async def run(self) -> None:
        """Until cancelled. An API that is away is tried again after a pause; the next change wakes it too."""
        await self._services.wait_synced()
        while True:
            self._wake.clear()
            for key, ip in plan_addresses(self._services.store.list(), self._network).items():
                await self._write(key, ip)
            await self._wake.wait()

    async def _write(self, key: Key, ip: str | None) -> None:
        patch = {"status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]} if ip else None}}
        try:
            service = await self._client.patch(SERVICES, key.name, patch, key.namespace, patch_type=PatchType.MERGE, subresource="status")
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("cannot write a load balancer's address", object=f"Service {key}", error=str(error))
            await self._clock.sleep(RETRY_SECONDS)
            self._wake.set()
            return
        if ip:
            self._recorder.event(service, SERVICES, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
