"""Objects that every cluster has: the system's namespaces. Imitates pkg/controlplane (systemnamespaces controller)."""

from __future__ import annotations

from kubecosm.api.errors import AlreadyExists
from kubecosm.api.names import NAMESPACE_DEFAULT, NAMESPACE_NODE_LEASE, NAMESPACE_PUBLIC, NAMESPACE_SYSTEM
from kubecosm.api.resources import NAMESPACES, Object

from .authn.user import GROUP_MASTERS, User
from .rest.store import Caller
from .state import State

APISERVER = Caller(User("system:apiserver", (GROUP_MASTERS,)), field_manager="kube-apiserver")
SYSTEM_NAMESPACES = (NAMESPACE_DEFAULT, NAMESPACE_SYSTEM, NAMESPACE_PUBLIC, NAMESPACE_NODE_LEASE)


async def ensure_system_objects(state: State) -> None:
    """Create what is missing."""
    store = state.store("", "v1", NAMESPACES.plural)
    for name in SYSTEM_NAMESPACES:
        if store.cache.get(name) is None:
            obj: Object = {"kind": NAMESPACES.kind, "apiVersion": NAMESPACES.api_version, "metadata": {"name": name}}
            store.strategy.default(obj)
            try:
                await store.create(obj, "", APISERVER)
            except AlreadyExists:
                continue  # another apiserver was faster
