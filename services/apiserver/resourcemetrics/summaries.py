"""What kubelets report at /stats/summary: asked for at most every few seconds per node, many nodes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

T = TypeVar("T")
Fetch = Callable[[str], Awaitable[bytes]]
"""A node's name → the body of its kubelet's summary. Raises ApiError."""

log = get_logger("apiserver")
FRESH_SECONDS = 10.0
"""How long a summary is good for; a metrics-server asks every 15 s."""
FRESH_SECONDS_FOR_NEW_PODS = 0.2
"""How long one is good for that does not know a pod which runs."""
SCRAPES_AT_ONCE_MAX = 64
SCRAPE_SECONDS_MAX = 10.0
SUMMARIES_MAX = 10_000
"""Nodes whose summaries are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _Known:
    at: float
    summary: asyncio.Task[Object | None]


class Summaries:
    """The newest summary of each node. Requests that want the same one at the same time share one call."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._seats = asyncio.Semaphore(SCRAPES_AT_ONCE_MAX)

    async def of(self, nodes: Iterable[str], tasks: asyncio.TaskGroup, *, fresh_seconds: float = FRESH_SECONDS) -> dict[str, Object]:
        """Node → its summary, not older than that; nodes whose kubelet does not answer are left out. `tasks` outlives the request."""
        asked = {node: self._ask(node, tasks, fresh_seconds) for node in dict.fromkeys(nodes)}
        found = {node: await asyncio.shield(task) for node, task in asked.items()}
        return {node: summary for node, summary in found.items() if summary is not None}

    def _ask(self, node: str, tasks: asyncio.TaskGroup, fresh_seconds: float) -> asyncio.Task[Object | None]:
        now, known = self._clock.monotonic(), self._known.get(node)
        if known is not None and now - known.at < fresh_seconds:
            return known.summary
        while len(self._known) >= SUMMARIES_MAX:
            del self._known[next(iter(self._known))]
        self._known.pop(node, None)  # so that the order of the dict is that of age
        task = tasks.create_task(self._scrape(node), name="summary")
        self._known[node] = _Known(now, task)
        return task

    async def _scrape(self, node: str) -> Object | None:
        try:
            async with self._seats, asyncio.timeout(SCRAPE_SECONDS_MAX):
                summary: Object = orjson.loads(await self._fetch(node))
                return summary
        except (ApiError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            log.debug("no summary", node=node, error=str(error))
            self._known.pop(node, None)
            return None
