"""Writes the default RBAC policy at start: what is missing is created, what was taken away from a default comes back."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from kubecosm.api.errors import AlreadyExists
from kubecosm.api.resources import Object, Resource

from ..rest.store import Caller, ResourceStore
from ..state import State
from .bootstrap import bootstrap_policy, reconciled


async def ensure_policy(state: State, caller: Caller) -> None:
    """All objects side by side: the storage commits them together."""
    async with asyncio.TaskGroup() as tasks:
        for resource, default in bootstrap_policy():
            store = state.store(resource.group, resource.version, resource.plural)
            tasks.create_task(_ensure(store, resource, default, caller), name=f"rbac {default['metadata']['name']}")


async def _ensure(store: ResourceStore, resource: Resource, default: Object, caller: Caller) -> None:
    namespace, name = default["metadata"].get("namespace", ""), default["metadata"]["name"]
    entry = store.cache.get(f"{namespace}/{name}" if resource.namespaced else name)
    if entry is None:
        with contextlib.suppress(AlreadyExists):  # another apiserver was faster
            await store.create(default, namespace, caller)
    elif reconciled(entry.decode(), default) is not None:
        await store.update(namespace, name, partial(_with_default, default), caller)


def _with_default(default: Object, live: Object) -> Object:
    return reconciled(live, default) or dict(live)
