"""ConfigMaps, Secrets and Services as pods need them: watched from the first pod on that asks.

A process that hosts many nodes watches a resource as a whole, which its identity allows. One that has the identity of a single node may
read nothing but what the pods there name, and watches each such object by itself, as the real kubelet does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import SERVICES, Object, Resource
from kubecosm.client.informer import Informer, InformerFactory


class Needed(NamedTuple):
    """A ConfigMap or Secret that a pod names."""

    resource: Resource
    namespace: str
    name: str


class ObjectCache:
    """`get` reads the caches; `need` must have been awaited for the object before."""

    def __init__(self, factory: InformerFactory) -> None:
        self._factory = factory
        self._informers: dict[Resource, Informer] = {}
        self._listeners: list[Callable[[Resource, Key], None]] = []

    async def need(self, uid: str, objects: Iterable[Needed]) -> None:
        """Wait until the cache knows whether these objects exist, and follow them as long as the pod `uid` is there."""
        await self.ensure(*{needed.resource for needed in objects})

    def forget(self, uid: str) -> None:
        """The pod is gone."""

    def add_listener(self, listener: Callable[[Resource, Key], None]) -> None:
        """Told of every object that appears, changes or goes."""
        self._listeners.append(listener)

    async def ensure(self, *resources: Resource) -> None:
        """Wait until these resources are in the cache."""
        for resource in resources:
            informer = self._informers.get(resource)
            if informer is None:
                informer = self._informers[resource] = self._factory.informer(resource)
                self._listen(resource, informer)
            if not informer.has_synced:
                await informer.wait_synced()

    def _listen(self, resource: Resource, informer: Informer) -> None:
        def tell(obj: Object) -> None:
            for listener in self._listeners:
                listener(resource, key_of(obj))

        informer.add_handler(tell, lambda _old, new: tell(new), tell)

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        informer = self._informers.get(resource)
        return informer.store.get(Key(namespace, name)) if informer is not None else None

    def services(self, pod: Object) -> list[Object]:
        """The Services whose variables a pod gets: its namespace's (unless enableServiceLinks is false) and the API server's."""
        informer = self._informers.get(SERVICES)
        if informer is None:
            return []
        namespace = pod["metadata"]["namespace"]
        found = [s for s in informer.store.list("default") if s["metadata"]["name"] == "kubernetes"]
        if pod["spec"].get("enableServiceLinks", True):
            found += [s for s in informer.store.list(namespace) if s["metadata"]["name"] != "kubernetes" or namespace != "default"]
        return found

    def services_in(self, namespace: str) -> list[Object]:
        """The Services of a namespace, once `ensure` has brought them."""
        informer = self._informers.get(SERVICES)
        return [] if informer is None else informer.store.list(namespace)


class NamedObjects(ObjectCache):
    """For the identity of one node: each object that a pod names has a watch of its own, as long as such a pod is there."""

    def __init__(self, factory: InformerFactory, new_informer: Callable[[Needed], Informer], tasks: asyncio.TaskGroup) -> None:
        super().__init__(factory)
        self._new_informer = new_informer
        self._tasks = tasks
        self._watched: dict[Needed, tuple[Informer, asyncio.Task[None]]] = {}
        self._users: dict[Needed, set[str]] = {}

    async def need(self, uid: str, objects: Iterable[Needed]) -> None:
        for needed in objects:
            self._users.setdefault(needed, set()).add(uid)
            informer = self._follow(needed)
            if not informer.has_synced:
                await informer.wait_synced()

    def _follow(self, needed: Needed) -> Informer:
        watched = self._watched.get(needed)
        if watched is None:
            informer = self._new_informer(needed)
            self._listen(needed.resource, informer)
            watched = self._watched[needed] = informer, self._tasks.create_task(informer.run(), name=f"watch {needed.name}")
        return watched[0]

    def forget(self, uid: str) -> None:
        for needed, users in list(self._users.items()):
            users.discard(uid)
            if not users:
                del self._users[needed]
                self._watched.pop(needed)[1].cancel()

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        watched = self._watched.get(Needed(resource, namespace, name))
        return watched[0].store.get(Key(namespace, name)) if watched is not None else None
