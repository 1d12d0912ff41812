"""Keeps the status of ValidatingAdmissionPolicies: which generation was looked at, and what type checking warns of.

Imitates pkg/controller/validatingadmissionpolicystatus, which runs here because this is where expressions are understood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubecosm.api import managedfields
from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object, builtin
from kubecosm.runtime.logs import get_logger

from ...bootstrap import APISERVER
from ...cache.events import Event
from ...state import State
from ...storage.contract import StorageError
from ..matching import GROUP

log = get_logger("apiserver")
POLICIES = builtin(GROUP, "v1", "validatingadmissionpolicies")
MANAGER = "validatingadmissionpolicy-status"
RETRY_SECONDS = 1.0


async def maintain_policy_status(state: State) -> None:
    """Look at each policy that has changed; failures are tried again."""
    store = state.store(POLICIES.group, POLICIES.version, POLICIES.plural)
    dirty = dict.fromkeys(entry.key for entry in store.cache.entries())
    wake = asyncio.Event()
    if dirty:
        wake.set()

    def take_in(events: Sequence[Event]) -> None:
        dirty.update(dict.fromkeys(event.key for event in events if event.entry is not None))
        wake.set()

    store.cache.followers.append(take_in)
    try:
        while True:
            await wake.wait()
            wake.clear()
            failed = []
            for name in tuple(dirty):
                del dirty[name]
                try:
                    await _look_at(state, name)
                except (ApiError, StorageError) as error:
                    if not isinstance(error, ApiError) or error.code != 404:
                        log.warning("the status of a policy could not be written", policy=name, why=str(error))
                        failed.append(name)
            if failed:
                await state.clock.sleep(RETRY_SECONDS)
                dirty.update(dict.fromkeys(failed))
                wake.set()
    finally:
        store.cache.followers.remove(take_in)


async def _look_at(state: State, name: str) -> None:
    """Raises ApiError, StorageError."""
    store = state.store(POLICIES.group, POLICIES.version, POLICIES.plural)
    policy = store.entry("", name).decode()
    generation = policy["metadata"].get("generation", 0)
    if (policy.get("status") or {}).get("observedGeneration", 0) >= generation:
        return
    from .typechecking import warnings_of  # imported here: only who has policies pays for CEL

    warnings = warnings_of(policy["spec"], state.table)
    checked: Object = {"observedGeneration": generation, "typeChecking": {"expressionWarnings": warnings} if warnings else {}}

    def change(obj: Object) -> Object:
        if obj["metadata"].get("generation", 0) != generation:
            return obj  # it has changed meanwhile, and will be looked at again
        changed = {**obj, "metadata": dict(obj["metadata"]), "status": {**(obj.get("status") or {}), **checked}}
        managedfields.on_update(store.row, changed, obj, MANAGER, state.clock.now(), "status")
        return changed

    await store.update("", name, change, APISERVER, subresource="status", strategy=store.strategy_of("status"))
