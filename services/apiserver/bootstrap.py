"""Objects that every cluster has: the system's namespaces and priority classes, and the Service through which pods find the API server.

Imitates pkg/controlplane (system namespaces, kubernetesservice) and pkg/registry/scheduling/rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Network

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.names import (
    LABEL_ENDPOINTSLICE_SKIP_MIRROR,
    LABEL_SERVICE_NAME,
    NAMESPACE_DEFAULT,
    NAMESPACE_NODE_LEASE,
    NAMESPACE_PUBLIC,
    NAMESPACE_SYSTEM,
)
from kubecosm.api.resources import ENDPOINTS, ENDPOINTSLICES, NAMESPACES, PRIORITYCLASSES, SERVICES, Object, Resource
from kubecosm.runtime.logs import get_logger

from .authn.user import GROUP_MASTERS, User
from .cache.events import Event
from .rest.store import Caller, ResourceStore
from .state import State
from .storage.contract import StorageError

APISERVER = Caller(User("system:apiserver", (GROUP_MASTERS,)), field_manager="kube-apiserver")
SYSTEM_NAMESPACES = (NAMESPACE_DEFAULT, NAMESPACE_SYSTEM, NAMESPACE_PUBLIC, NAMESPACE_NODE_LEASE)
SYSTEM_PRIORITIES = {
    "system-node-critical": (2000001000, "Used for system critical pods that must not be moved from their current node."),
    "system-cluster-critical": (
        2000000000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}  # fmt: skip
KUBERNETES = "kubernetes"
RESTORE_SECONDS = 2.0

log = get_logger("apiserver")


async def ensure_system_objects(state: State, *, service_range: str, address: str, port: int, shared: bool = False) -> None:
    """Create what is missing; `address` and `port` are where this server is reached.

    `shared`: other servers may use the storage too; then `peers` keeps the endpoints.
    """
    for name, (value, description) in SYSTEM_PRIORITIES.items():
        await _ensure(state, PRIORITYCLASSES, {"metadata": {"name": name}, "value": value, "description": description})
    await _ensure_lasting(state, service_range, address, port, shared=shared)


async def keep_system_objects(state: State, *, service_range: str, address: str, port: int, shared: bool) -> None:
    """Make again, within seconds, the system's namespaces and the Service `kubernetes` with its endpoints when somebody removes them."""
    gone = asyncio.Event()

    def follow(resource: Resource, namespace: str, names: Sequence[str]) -> None:
        store = _store(state, resource)
        keys = frozenset(store.key_of(namespace, name) for name in names)

        def look(events: Sequence[Event]) -> None:
            if any(event.entry is None and event.key in keys for event in events):
                gone.set()

        store.cache.followers.append(look)

    follow(NAMESPACES, "", SYSTEM_NAMESPACES)
    for resource in (SERVICES, ENDPOINTS, ENDPOINTSLICES):
        follow(resource, NAMESPACE_DEFAULT, (KUBERNETES,))
    while True:
        await gone.wait()
        gone.clear()
        await state.clock.sleep(RESTORE_SECONDS)  # who removed it may be about to remove more
        try:
            await _ensure_lasting(state, service_range, address, port, shared=shared)
        except (ApiError, StorageError) as error:
            log.error("system objects could not be restored, trying again", error=str(error))
            gone.set()


async def _ensure_lasting(state: State, service_range: str, address: str, port: int, *, shared: bool) -> None:
    for name in SYSTEM_NAMESPACES:
        await _ensure(state, NAMESPACES, {"metadata": {"name": name}})
    await _ensure(state, SERVICES, _service(service_range, port))
    for resource, obj in zip((ENDPOINTS, ENDPOINTSLICES), endpoint_objects([address], port), strict=True):
        await _ensure(state, resource, obj)
        if not shared:
            await keep_equal(state, resource, obj)


def _store(state: State, resource: Resource) -> ResourceStore:
    return state.store(resource.group, resource.version, resource.plural)


async def _ensure(state: State, resource: Resource, obj: Object) -> None:
    store, meta = _store(state, resource), obj["metadata"]
    if store.cache.get(store.key_of(meta.get("namespace", ""), meta["name"])) is not None:
        return
    new: Object = {**store.type_meta, **obj, "metadata": dict(meta)}
    store.strategy.default(new)
    try:
        await store.create(new, meta.get("namespace", ""), APISERVER)
    except AlreadyExists:
        return  # another apiserver was faster


async def keep_equal(state: State, resource: Resource, wanted: Object) -> None:
    """Where the server is reached changes from run to run."""
    meta = wanted["metadata"]

    def change(obj: Object) -> Object:
        return {**obj, **{name: value for name, value in wanted.items() if name != "metadata"}}

    await _store(state, resource).update(meta["namespace"], meta["name"], change, APISERVER)


def _service(service_range: str, port: int) -> Object:
    ports = [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
    spec = {"type": "ClusterIP", "clusterIP": str(IPv4Network(service_range)[1]), "sessionAffinity": "None", "ports": ports}
    labels = {"component": "apiserver", "provider": KUBERNETES}
    return {"metadata": {"name": KUBERNETES, "namespace": NAMESPACE_DEFAULT, "labels": labels}, "spec": spec}


def endpoint_objects(addresses: Sequence[str], port: int) -> tuple[Object, Object]:
    """The Endpoints and the EndpointSlice of the Service through which pods find the API servers."""
    return _endpoints(addresses, port), _endpoint_slice(addresses, port)


def _endpoints(addresses: Sequence[str], port: int) -> Object:
    subset = {"addresses": [{"ip": address} for address in addresses], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}
    labels = {LABEL_ENDPOINTSLICE_SKIP_MIRROR: "true"}
    return {"metadata": {"name": KUBERNETES, "namespace": NAMESPACE_DEFAULT, "labels": labels}, "subsets": [subset]}


def _endpoint_slice(addresses: Sequence[str], port: int) -> Object:
    return {
        "metadata": {"name": KUBERNETES, "namespace": NAMESPACE_DEFAULT, "labels": {LABEL_SERVICE_NAME: KUBERNETES}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
