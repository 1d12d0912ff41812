"""Writes into definitions what became of them: accepted names and conditions, and the end of their instances.

Imitates apiextensions-apiserver's naming, establishing and finalizing controllers.
"""

from __future__ import annotations

from datetime import datetime

from kubecosm.api import managedfields
from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.resources import CUSTOMRESOURCEDEFINITIONS, Object
from kubecosm.runtime.logs import get_logger

from ..bootstrap import APISERVER
from ..rest.options import DeleteOptions
from ..rest.store import ResourceStore
from ..state import State
from ..storage.contract import StorageError
from .names import FINALIZER, TERMINATING, status_of, with_condition
from .registrar import Registrar

log = get_logger("apiserver")

RETRY_SECONDS = 1.0


async def maintain_definitions(state: State, registrar: Registrar) -> None:
    """Look at each definition that has changed; failures are tried again."""
    while True:
        await registrar.wake.wait()
        registrar.wake.clear()
        failed: list[str] = []
        while registrar.dirty:
            name = next(iter(registrar.dirty))
            del registrar.dirty[name]
            try:
                await _look_at(state, registrar, name)
            except NotFound:
                continue
            except (ApiError, StorageError) as error:
                log.error("a definition could not be kept up", definition=name, error=str(error))
                failed.append(name)
        if failed:
            await state.clock.sleep(RETRY_SECONDS)
            for name in failed:
                registrar.touch(name)


async def _look_at(state: State, registrar: Registrar, name: str) -> None:
    store = _definitions(state)
    crd = store.entry("", name).decode()
    if crd["metadata"].get("deletionTimestamp"):
        if FINALIZER in (crd["metadata"].get("finalizers") or ()):
            await _finalize(state, registrar, name)
        return
    now = state.clock.now()

    def change(obj: Object) -> Object:
        return _with_status(obj, status_of(obj, registrar.decision(obj), now), now)

    if change(crd) != crd:
        await store.change_system_fields("", name, change, APISERVER)


def _with_status(obj: Object, status: Object, now: datetime) -> Object:
    """The definition with a status that this server owns; the same one if that is what it has."""
    if status == obj.get("status"):
        return obj
    changed = {**obj, "metadata": dict(obj["metadata"]), "status": status}
    managedfields.on_update(CUSTOMRESOURCEDEFINITIONS, changed, obj, APISERVER.field_manager, now, "status")
    return changed


async def _finalize(state: State, registrar: Registrar, name: str) -> None:
    """Delete all instances; when none is left, let the definition go. Instances with finalizers are waited for."""
    stores = registrar.stores_of(name)
    if stores:
        await _set_terminating(state, name, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        for entry in list(stores[0].cache.entries()):
            try:
                await stores[0].delete(entry.namespace, entry.name, DeleteOptions(), APISERVER)
            except NotFound:
                continue
        if len(stores[0].cache):
            return
    await _set_terminating(state, name, "False", "InstanceDeletionCompleted", "removed all instances")

    def released(obj: Object) -> Object:
        obj["metadata"]["finalizers"] = [finalizer for finalizer in obj["metadata"].get("finalizers") or () if finalizer != FINALIZER]
        return obj

    await _definitions(state).update("", name, released, APISERVER)


async def _set_terminating(state: State, name: str, status: str, reason: str, message: str) -> None:
    now = state.clock.now()

    def change(obj: Object) -> Object:
        before = obj.get("status") or {}
        conditions = with_condition(before.get("conditions") or (), TERMINATING, status, reason, message, now)
        return _with_status(obj, {**before, "conditions": conditions}, now)

    store = _definitions(state)
    if change(obj := store.entry("", name).decode()) != obj:
        await store.change_system_fields("", name, change, APISERVER)


def _definitions(state: State) -> ResourceStore:
    row = CUSTOMRESOURCEDEFINITIONS
    return state.store(row.group, row.version, row.plural)
