"""Where an image listens that says nothing of its ports: where the Services that choose its pod send their traffic.

Nobody needs to declare the ports of a container (`kubectl create deployment` does not), so an unknown image that declares none is
believed to listen on the numbers that Services have as `targetPort`. Services are looked at from the first such container on.
Left out: ports by name (they are declared), UDP, and closing what a Service does not name any more.
"""

from __future__ import annotations

import asyncio

from kubecosm.api.meta import Key, labels_of
from kubecosm.api.resources import SERVICES, Object, Resource

from ..env.objects import ObjectCache
from .container import SimContainer


def target_ports(service: Object, labels: dict[str, str]) -> set[int]:
    """The numbers of the TCP ports at which a Service expects a pod with these labels; none if it does not choose the pod."""
    spec = service["spec"]
    selector = spec.get("selector") or {}
    if not selector or any(labels.get(name) != value for name, value in selector.items()):
        return set()
    targets = (port.get("targetPort", port["port"]) for port in spec.get("ports") or () if port.get("protocol", "TCP") == "TCP")
    return {target for target in targets if isinstance(target, int)}


class ServicePorts:
    """Opens ports of containers that declare none, as Services come."""

    def __init__(self, objects: ObjectCache, tasks: asyncio.TaskGroup) -> None:
        self._objects = objects
        self._tasks = tasks
        self._containers: dict[str, list[SimContainer]] = {}
        """By namespace; those that have ended are dropped when the next change is looked at."""
        objects.add_listener(self._changed)

    def add(self, container: SimContainer) -> None:
        """A container has begun to serve and declares no port."""
        self._containers.setdefault(container.pod.pod["metadata"]["namespace"], []).append(container)
        self._tasks.create_task(self._look(container), name="service-ports")

    async def _look(self, container: SimContainer) -> None:
        await self._objects.ensure(SERVICES)
        for service in self._objects.services_in(container.pod.pod["metadata"]["namespace"]):
            await self._open(container, service)

    def _changed(self, resource: Resource, key: Key) -> None:
        if resource is not SERVICES or not (waiting := self._containers.get(key.namespace)):
            return
        self._containers[key.namespace] = waiting = [container for container in waiting if container.is_running]
        service = self._objects.get(SERVICES, key.namespace, key.name)
        if waiting and service is not None:
            self._tasks.create_task(self._open_all(waiting, service), name="service-ports")

    async def _open_all(self, containers: list[SimContainer], service: Object) -> None:
        for container in containers:
            await self._open(container, service)

    async def _open(self, container: SimContainer, service: Object) -> None:
        for port in sorted(target_ports(service, labels_of(container.pod.pod))):
            await container.open_more(port)
