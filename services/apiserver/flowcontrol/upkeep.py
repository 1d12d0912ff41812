"""Writes what flow control keeps in the API: the default objects, and the Dangling condition of each FlowSchema.

Imitates pkg/registry/flowcontrol/ensurer and the status part of apf_controller.go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

from kubecosm.api import managedfields
from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.names import ANNOTATION_APF_AUTOUPDATE
from kubecosm.api.resources import Object, Resource
from kubecosm.api.times import format_time
from kubecosm.runtime.logs import get_logger

from ..authn.user import GROUP_MASTERS, User
from ..rest.store import Caller, ResourceStore
from ..state import State
from ..storage.contract import StorageError
from .bootstrap import MANDATORY, default_levels, default_schemas
from .controller import FLOWSCHEMAS, LEVELS, FlowController

log = get_logger("apiserver")

PRODUCER, CONSUMER = "api-priority-and-fairness-config-producer-v1", "api-priority-and-fairness-config-consumer-v1"
_USER = User("system:apiserver", (GROUP_MASTERS,))
RESYNC_SECONDS = 60.0
"""How often the defaults are looked at although nothing has changed."""


async def start_flow_control(state: State, control: FlowController) -> None:
    """Follow the objects and see to it that the defaults are there; what cannot be written now is tried again later."""
    await control.follow()
    try:
        await ensure_defaults(state)
    except* (ApiError, StorageError) as group:
        log.error("flow control objects could not be written", error=str(group.exceptions[0]))


async def maintain_flow_control(state: State, control: FlowController) -> None:
    """Keep conditions and defaults as they should be, whenever an object changes."""
    while True:
        control.changed.clear()
        try:
            await ensure_defaults(state)
            await write_conditions(state)
        except* (ApiError, StorageError) as group:
            log.error("flow control objects could not be written", error=str(group.exceptions[0]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESYNC_SECONDS):
                await control.changed.wait()


async def ensure_defaults(state: State) -> None:
    """Create what is missing, and bring back what has been changed but may not be. Raises a group of ApiError."""
    async with asyncio.TaskGroup() as tasks:
        for row, defaults in ((LEVELS, default_levels()), (FLOWSCHEMAS, default_schemas())):
            store = state.store(row.group, row.version, row.plural)
            for default in defaults:
                tasks.create_task(_ensure(store, row, default), name=f"flow control {default['metadata']['name']}")


async def _ensure(store: ResourceStore, row: Resource, default: Object) -> None:
    name, now = default["metadata"]["name"], store.state.clock.now()
    wanted = {**default, "metadata": {**default["metadata"], "annotations": dict(default["metadata"]["annotations"])}}
    store.strategy.default(wanted)
    entry = store.cache.get(name)
    caller = Caller(_USER, field_manager=PRODUCER)
    if entry is None:
        managedfields.on_create(row, wanted, PRODUCER, now)
        with contextlib.suppress(AlreadyExists):  # another apiserver was faster
            await store.create(wanted, "", caller)
        return
    live = entry.decode()
    if is_ours(live) and live["spec"] != wanted["spec"]:

        def change(obj: Object) -> Object:
            changed = {**obj, "spec": wanted["spec"]}
            managedfields.on_update(row, changed, obj, PRODUCER, now, "")
            return changed

        await store.update("", name, change, caller)


def is_ours(live: Object) -> bool:
    """Whether a default object follows this server's table: the mandatory ones always do, others while their annotation says so."""
    meta = live["metadata"]
    if meta["name"] in MANDATORY:
        return True
    wish = (meta.get("annotations") or {}).get(ANNOTATION_APF_AUTOUPDATE)
    return bool(wish == "true" if wish in ("true", "false") else meta.get("generation", 1) == 1)


async def write_conditions(state: State) -> None:
    """Every FlowSchema says whether its level exists. Raises a group of ApiError."""
    store = state.store(FLOWSCHEMAS.group, FLOWSCHEMAS.version, FLOWSCHEMAS.plural)
    levels = state.caches.of(LEVELS.group, LEVELS.plural)
    async with asyncio.TaskGroup() as tasks:
        for entry in tuple(store.cache.entries()):
            schema = entry.decode()
            level = schema["spec"]["priorityLevelConfiguration"]["name"]
            condition = dangling(level, exists=levels.get(level) is not None)
            if not _has(schema, condition):
                tasks.create_task(_write_condition(store, entry.name, condition), name=f"flow schema {entry.name}")


def dangling(level: str, *, exists: bool) -> Object:
    """The condition, but for its time."""
    reference = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    if exists:
        return {"type": "Dangling", "status": "False", "reason": "Found", "message": f"{reference} and it exists"}
    return {"type": "Dangling", "status": "True", "reason": "NotFound", "message": f"{reference} but there is no such object"}


def _conditions(schema: Object) -> Sequence[Object]:
    return (schema.get("status") or {}).get("conditions") or ()


def _has(schema: Object, wanted: Object) -> bool:
    return any(all(condition.get(k) == v for k, v in wanted.items()) for condition in _conditions(schema))


async def _write_condition(store: ResourceStore, name: str, condition: Object) -> None:
    change = partial(_with_condition, store, name, condition)
    with contextlib.suppress(ApiError):  # it is gone, or another server was faster: that change wakes us again
        await store.update("", name, change, Caller(_USER), subresource="status", strategy=store.strategy_of("status"))


def _with_condition(store: ResourceStore, name: str, condition: Object, live: Object) -> Object:
    now = store.state.clock.now()
    before = next((c for c in _conditions(live) if c.get("type") == condition["type"]), None)
    moved = before is None or before.get("status") != condition["status"]
    since = format_time(now) if moved or before is None else before["lastTransitionTime"]
    applied: Object = {
        "apiVersion": store.row.api_version, "kind": store.row.kind, "metadata": {"name": name},
        "status": {"conditions": [{**condition, "lastTransitionTime": since}]},
    }  # fmt: skip
    obj = managedfields.apply(store.row, live, applied, CONSUMER, True, now, "status")
    store.strategy.default(obj)
    return obj
