"""ConfigMaps, Secrets and Services as pods need them: shared informers that start with the first pod that asks.

Most clusters' pods need none of them; then nothing is watched. Leaves out: the per-object watches of the real kubelet.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import SERVICES, Object, Resource
from kubecosm.client.informer import Informer, InformerFactory


class ObjectCache:
    """`get` reads the caches; `ensure` must have been awaited for the resource before."""

    def __init__(self, factory: InformerFactory) -> None:
        self._factory = factory
        self._informers: dict[Resource, Informer] = {}
        self._listeners: list[Callable[[Resource, Key], None]] = []

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
