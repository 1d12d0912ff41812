"""The RBAC policy as the watch caches hold it."""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.resources import Object

from ..cache.caches import Caches
from ..cache.resource import ResourceCache
from .bootstrap import RESOURCES


class CachedPolicy:
    """A PolicySource over the caches of the four RBAC resources, which must have been added."""

    def __init__(self, caches: Caches) -> None:
        self._caches = {kind: _cache(caches, kind) for kind in RESOURCES}
        self._counted = tuple(self._caches.values())

    @property
    def version(self) -> int:
        """Grows with every change of any of them."""
        one, two, three, four = self._counted
        return one.revision + two.revision + three.revision + four.revision

    def cluster_role(self, name: str) -> Object | None:
        return self._get("ClusterRole", name)

    def role(self, namespace: str, name: str) -> Object | None:
        return self._get("Role", f"{namespace}/{name}")

    def cluster_role_bindings(self) -> Iterable[Object]:
        return (entry.decode() for entry in self._caches["ClusterRoleBinding"].entries())

    def role_bindings(self) -> Iterable[Object]:
        return (entry.decode() for entry in self._caches["RoleBinding"].entries())

    def _get(self, kind: str, key: str) -> Object | None:
        entry = self._caches[kind].get(key)
        return entry.decode() if entry is not None else None


def _cache(caches: Caches, kind: str) -> ResourceCache:
    row = RESOURCES[kind]
    return caches.of(row.group, row.plural)
