"""Sends planned requests to an API server from several workers, and tells what went wrong: server errors, hangs, lost writes."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from kubecosm.client.config import ClientConfig
from tests.fuzz.ledger import Ledger
from tests.fuzz.plan import Operation, Planned, Planner, operations
from tests.fuzz.values import Values

WORKERS = 8
REQUEST_SECONDS_MAX = 20.0
COMPLAINTS_MAX = 50
LINE_MAX = 1500
KUBERNETES_OWN_ERRORS = (
    "failed to create typed patch object", "failed to create typed live object", "failed to create manager for existing fields",
    "failed to merge config", "no preferred addresses found", "expected a []interface {}, but received", "unknown patch type:",
    "does not contain declared merge key", "unable to find api field in struct", "resourceVersion should not be set on objects to be",
    "failed to convert merged object", ".metadata.managedFields", "error decoding patch", "failed to compare",
    "list element types are not identical",
)  # fmt: skip
"""Bad input that kube-apiserver itself answers with an InternalError."""


@dataclass
class Outcome:
    """What a run found."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    checked_writes: int = 0

    def complain(self, text: str) -> None:
        """Remembers and tells what went wrong, up to a point."""
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(text)
            print(text[:LINE_MAX], flush=True)


class Fuzzer:
    """One run against one server."""

    def __init__(self, config: ClientConfig, seed: int, count: int) -> None:
        self._config, self._seed, self._left = config, seed, count
        self.outcome, self.ledgers = Outcome(), [Ledger() for _worker in range(WORKERS)]

    def _session(self) -> aiohttp.ClientSession:
        context = self._config.ssl_context()
        connector = aiohttp.TCPConnector(ssl=context if context is not None else False, limit=WORKERS)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX))

    async def run(self) -> None:
        """Sends all requests."""
        async with self._session() as session:
            documents = await self._documents(session)
            found = operations(documents)
            schemas: dict[str, Any] = {}
            for document in documents:
                schemas |= document["components"]["schemas"]
            async with asyncio.TaskGroup() as workers:
                for number in range(WORKERS):
                    workers.create_task(self._work(session, number, found, schemas))

    async def _documents(self, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
        index = await self._json(session, "/openapi/v3")
        paths = [entry["serverRelativeURL"] for name, entry in sorted(index["paths"].items()) if name == "api/v1" or name.count("/") == 2]
        return [await self._json(session, path) for path in paths]

    async def _json(self, session: aiohttp.ClientSession, path: str) -> Any:
        async with session.get(URL(self._config.server + path, encoded=True)) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _work(self, session: aiohttp.ClientSession, number: int, found: list[Operation], schemas: dict[str, Any]) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        planner = Planner(number, rng, found, Values(rng, schemas))
        await self._prepare(session, planner.namespace)
        while self._left > 0:
            self._left -= 1
            request = planner.next()
            status, body = await self._send(session, request)
            self.outcome.requests += 1
            self.outcome.statuses[status] += 1
            answer = decoded(body)
            self._judge(request, status, body)
            self.ledgers[number].record(request, status, answer)
            if status < 300 and request.operation.names_one and not request.operation.subresource and isinstance(answer, dict):
                planner.seen[request.path] = answer

    async def _prepare(self, session: aiohttp.ClientSession, namespace: str) -> None:
        for path, name in (("/api/v1/namespaces", namespace), (f"/api/v1/namespaces/{namespace}/serviceaccounts", "default")):
            async with session.post(self._config.server + path, json={"metadata": {"name": name}}) as answer:
                await answer.read()

    async def _send(self, session: aiohttp.ClientSession, request: Planned) -> tuple[int, bytes]:
        url = URL(f"{self._config.server}{request.path}?{request.query}", encoded=True)
        try:
            async with session.request(request.method, url, data=request.body, headers=request.headers) as answer:
                return answer.status, await answer.read()
        except TimeoutError:
            self.outcome.complain(f"no answer in {REQUEST_SECONDS_MAX} s: {request}")
            return 0, b""
        except aiohttp.ClientError as error:
            self.outcome.complain(f"{type(error).__name__} {error}: {request}")
            return 0, b""

    def _judge(self, request: Planned, status: int, body: bytes) -> None:
        text = body.decode("utf-8", "replace")
        if status == 500 and not any(words in text for words in KUBERNETES_OWN_ERRORS):
            self.outcome.complain(f"500 {text[:600]}: {request}")
        elif status > 500 and status != 503:
            self.outcome.complain(f"{status} {text[:300]}: {request}")

    async def check_writes(self, config: ClientConfig) -> None:
        """Looks for every acknowledged write on a server, which may have been started anew since."""
        self._config = config
        async with self._session() as session:
            for place, wanted in [entry for ledger in self.ledgers for entry in ledger.written.items()]:
                path = quote(place, safe="/%:")  # names of roles may have line breaks in them
                async with session.get(URL(config.server + path, encoded=True)) as answer:
                    found = decoded(await answer.read())
                self.outcome.checked_writes += 1
                if complaint := Ledger.complaint(place, wanted, answer.status, found):
                    self.outcome.complain(complaint)


def decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
