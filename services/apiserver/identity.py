"""The Lease of this server, which tells that it is alive, and the removal of those of servers that are no more.

Imitates pkg/controlplane (lease garbage collector) and the lease controller of component-helpers. The name is a digest of where the
server runs and listens, so that it finds its own Lease again after a restart.
"""

from __future__ import annotations

import hashlib
import random
import socket
from base64 import b32encode
from contextlib import suppress
from datetime import datetime, timedelta

from kubecosm.api import managedfields
from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.names import (
    IDENTITY_APISERVER,
    LABEL_APISERVER_IDENTITY,
    LABEL_HOSTNAME,
    NAMESPACE_SYSTEM,
    TOKEN_TRACKING_CONFIGMAP,
)
from kubecosm.api.resources import CONFIGMAPS, LEASES, Object
from kubecosm.api.times import format_micro_time, parse_time
from kubecosm.runtime.logs import get_logger

from .bootstrap import APISERVER
from .http.requestinfo import new_uid
from .rest.options import DeleteOptions
from .rest.store import ResourceStore
from .state import State
from .storage.contract import StorageError

log = get_logger("apiserver")

LEASE_SECONDS = 3600
RENEW_SECONDS = 10.0
COLLECT_SECONDS = 3600.0


def identity_of(hostname: str, address: str) -> str:
    """`apiserver-` and 26 characters."""
    digest = hashlib.sha256(f"{hostname} {address}".encode()).digest()[:16]
    return "apiserver-" + b32encode(digest).decode().rstrip("=").lower()


def new_lease(name: str, hostname: str, now: datetime, rng: random.Random) -> Object:
    spec = {"holderIdentity": f"{name}_{new_uid(rng.getrandbits(128))}", "leaseDurationSeconds": LEASE_SECONDS}
    labels = {LABEL_APISERVER_IDENTITY: IDENTITY_APISERVER, LABEL_HOSTNAME: hostname.lower()}
    return {
        "kind": LEASES.kind, "apiVersion": LEASES.api_version,
        "metadata": {"name": name, "namespace": NAMESPACE_SYSTEM, "labels": labels},
        "spec": {**spec, "renewTime": format_micro_time(now)},
    }  # fmt: skip


def is_expired(lease: Object, now: datetime) -> bool:
    """An API server's Lease that nobody has renewed for as long as it says. One that does not say is left alone."""
    spec = lease.get("spec") or {}
    renewed, seconds = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    if not renewed or not seconds:
        return False
    return parse_time(renewed) + timedelta(seconds=seconds) < now


async def keep_identity(state: State, address: str) -> None:
    """Renew our Lease, and now and then remove the expired ones of others."""
    store = state.store(LEASES.group, LEASES.version, LEASES.plural)
    hostname = socket.gethostname()
    name = identity_of(hostname, address)
    collect_at = 0.0
    while True:
        try:
            await _renew(state, store, name, hostname)
            if state.clock.monotonic() >= collect_at:
                await _collect(state, store)
                collect_at = state.clock.monotonic() + COLLECT_SECONDS
        except (ApiError, StorageError) as error:
            log.error("this server's Lease could not be renewed", lease=name, error=str(error))
        await state.clock.sleep(RENEW_SECONDS)


async def _renew(state: State, store: ResourceStore, name: str, hostname: str) -> None:
    now = state.clock.now()
    if store.cache.get(store.key_of(NAMESPACE_SYSTEM, name)) is None:
        lease = new_lease(name, hostname, now, state.rng)
        managedfields.on_create(LEASES, lease, APISERVER.field_manager, now)
        await store.create(lease, NAMESPACE_SYSTEM, APISERVER)
        return

    def renewed(lease: Object) -> Object:
        return {**lease, "spec": {**(lease.get("spec") or {}), "renewTime": format_micro_time(now)}}

    await store.change_system_fields(NAMESPACE_SYSTEM, name, renewed, APISERVER)


async def _collect(state: State, store: ResourceStore) -> None:
    now = state.clock.now()
    for entry in list(store.cache.entries()):
        lease = entry.decode()
        if (lease["metadata"].get("labels") or {}).get(LABEL_APISERVER_IDENTITY) == IDENTITY_APISERVER and is_expired(lease, now):
            try:
                await store.delete(entry.namespace, entry.name, DeleteOptions(uid=lease["metadata"]["uid"]), APISERVER)
            except NotFound:
                continue


async def ensure_token_tracking(state: State) -> None:
    """The ConfigMap that says since when uses of ServiceAccount tokens in Secrets are noted."""
    store = state.store(CONFIGMAPS.group, CONFIGMAPS.version, CONFIGMAPS.plural)
    if store.cache.get(store.key_of(NAMESPACE_SYSTEM, TOKEN_TRACKING_CONFIGMAP)) is not None:
        return
    meta = {"name": TOKEN_TRACKING_CONFIGMAP, "namespace": NAMESPACE_SYSTEM}
    new: Object = {**store.type_meta, "metadata": meta, "data": {"since": state.clock.now().date().isoformat()}}
    with suppress(AlreadyExists):  # another apiserver was faster
        await store.create(new, NAMESPACE_SYSTEM, APISERVER)
