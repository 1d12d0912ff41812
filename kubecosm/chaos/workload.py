"""The write load of a chaos run: creates, updates and deletes of ConfigMaps, every answer entered in the ledger.

Each writer owns its objects and works on one at a time, with optimistic locking, so that what is in doubt is at most one write an object.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import aiohttp

from kubecosm.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubecosm.api.resources import CONFIGMAPS, Object
from kubecosm.client.http import ApiClient
from kubecosm.runtime.clock import Clock

from .ledger import Ledger

OBJECTS_PER_WRITER = 40
DELETE_SHARE = 0.1
PAUSE_AFTER_FAILURE_SECONDS = 0.05
LABEL = "kubecosm.dev/chaos"
LIST_PAGE = 500
DISCONNECTS = (aiohttp.ClientError, OSError, TimeoutError)


class Writer:
    """One task's share of the load."""

    def __init__(self, client: ApiClient, ledger: Ledger, clock: Clock, rng: random.Random, *, name: str, namespace: str, run: str) -> None:
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._namespace = namespace
        self._run = run
        self._names = [f"{run}-{name}-{number}" for number in range(OBJECTS_PER_WRITER)]
        self._values: Iterator[int] = iter(range(1 << 62))

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop; a lost connection is a short pause, never an end."""
        while not stop.is_set():
            try:
                await self._step(self._rng.choice(self._names))
            except DISCONNECTS:
                self._ledger.lose()
                await self._clock.sleep(PAUSE_AFTER_FAILURE_SECONDS)
            except ApiError as error:
                if error.code not in (429, 500, 503, 504):
                    raise
                self._ledger.lose()
                await self._clock.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    async def _step(self, name: str) -> None:
        try:
            live = await self._client.get(CONFIGMAPS, name, self._namespace)
        except NotFound:
            await self._create(name)
            return
        if self._rng.random() < DELETE_SHARE:
            await self._delete(name, live)
        else:
            await self._update(name, live)

    async def _create(self, name: str) -> None:
        value = str(next(self._values))
        body = {
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value},
            "metadata": {"name": name, "namespace": self._namespace, "labels": {LABEL: self._run}},
        }  # fmt: skip
        self._ledger.begin(name, value)
        try:
            await self._client.create(CONFIGMAPS, body, self._namespace)
        except AlreadyExists:
            self._ledger.reject(name, value)
        else:
            self._ledger.confirm(name, value)

    async def _update(self, name: str, live: Object) -> None:
        value = str(next(self._values))
        self._ledger.begin(name, value)
        try:
            await self._client.update(CONFIGMAPS, {**live, "data": {"value": value}})
        except (Conflict, NotFound):
            self._ledger.reject(name, value)
        else:
            self._ledger.confirm(name, value)

    async def _delete(self, name: str, live: Object) -> None:
        meta = live["metadata"]
        preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        self._ledger.begin(name, None)
        try:
            await self._client.delete(CONFIGMAPS, name, self._namespace, options={"preconditions": preconditions})
        except (Conflict, NotFound):
            self._ledger.reject(name, None)
        else:
            self._ledger.confirm(name, None)


async def held_values(client: ApiClient, namespace: str, run: str) -> dict[str, str]:
    """What the server holds of a run: name → value, read page by page."""
    held: dict[str, str] = {}
    token = ""
    while True:
        page = await client.list(CONFIGMAPS, namespace, label_selector=f"{LABEL}={run}", limit=LIST_PAGE, continue_token=token)
        held |= {item["metadata"]["name"]: item["data"]["value"] for item in page["items"]}
        token = page["metadata"].get("continue", "")
        if not token:
            return held
