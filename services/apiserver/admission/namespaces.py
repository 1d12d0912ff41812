"""NamespaceAutoProvision and NamespaceExists: what NamespaceLifecycle has replaced. Off by default.

Imitates plugin/pkg/admission/namespace.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from kubecosm.api import errors
from kubecosm.api.errors import AlreadyExists
from kubecosm.api.resources import NAMESPACES, Resource

from ..cache.resource import ResourceCache
from ..state import State
from .chain import CREATE, DELETE, UPDATE, Attributes, Plugin

if TYPE_CHECKING:
    from .plugins import Parts


class NamespaceAutoProvision(Plugin):
    """A namespace comes to be with its first object."""

    name = "NamespaceAutoProvision"
    operations = (CREATE,)

    def __init__(self, namespaces: ResourceCache, state: State) -> None:
        self._namespaces = namespaces
        self._state = state

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource.namespaced

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        if attributes.dry_run or not attributes.namespace:
            return None
        return None if self._namespaces.get(attributes.namespace) is not None else self._provide(attributes)

    async def _provide(self, attributes: Attributes) -> None:
        from ..rest.storedkind import Caller  # here: the stores know the plugins' contract

        obj = {"kind": NAMESPACES.kind, "apiVersion": NAMESPACES.api_version, "metadata": {"name": attributes.namespace}}
        store = self._state.store(NAMESPACES.group, NAMESPACES.version, NAMESPACES.plural)
        store.served_strategy.default(obj)
        try:
            await store.create(obj, "", Caller(attributes.user))
        except AlreadyExists:
            return  # somebody was faster


class NamespaceExists(Plugin):
    """Nothing is written in a namespace that is not there."""

    name = "NamespaceExists"
    operations = (CREATE, UPDATE, DELETE)

    def __init__(self, namespaces: ResourceCache) -> None:
        self._namespaces = namespaces

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource.namespaced

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises NotFound."""
        if attributes.namespace and self._namespaces.get(attributes.namespace) is None:
            raise errors.not_found(NAMESPACES, attributes.namespace)
        return None


def build_auto_provision(parts: Parts) -> NamespaceAutoProvision:
    return NamespaceAutoProvision(parts.cache(NAMESPACES), parts.state)


def build_exists(parts: Parts) -> NamespaceExists:
    return NamespaceExists(parts.cache(NAMESPACES))
