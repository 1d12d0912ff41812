"""Watch latency and fan-out: N watchers of the default namespace's ConfigMaps while objects are created at a steady rate.

Latency is from sending the create to each watcher's receipt. The watchers' own cost, on the same cores, is part of the figure:
compare servers, and read it as a lower bound of what the server can do.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .targets import Target, fetch

PATH = "/api/v1/namespaces/default/configmaps"
MARK = b'"name":"wf-'
WAIT_SECONDS_MAX = 60.0


@dataclass
class Run:
    """What is shared by the watchers of one measurement."""

    expected: int
    sent: dict[bytes, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    finished: int = 0
    last: float = 0.0


class Watcher(asyncio.Protocol):
    """A raw HTTP client that counts marked events as they arrive; parsing JSON a million times would measure the client."""

    def __init__(self, run: Run, request: bytes, ready: asyncio.Future[None], done: asyncio.Future[None]) -> None:
        self._run, self._request, self._ready, self._done = run, request, ready, done
        self._rest = b""
        self._seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._ready.done():
            self._ready.set_result(None)
        buffer = self._rest + data
        start = buffer.find(MARK)
        while start >= 0:
            end = buffer.find(b'"', start + len(MARK))
            if end < 0:
                break
            sent = self._run.sent.get(buffer[start + 8 : end])
            if sent is not None:
                self._run.latencies.append(now - sent)
                self._seen += 1
            start = buffer.find(MARK, end)
        self._rest = buffer[start:] if start >= 0 else buffer[-len(MARK) + 1 :]
        if self._seen >= self._run.expected and not self._done.done():
            self._run.last = now
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self._ready, self._done):
            if not future.done():
                future.set_result(None)


def measure(target: Target, watchers: int, objects: int, rate: float) -> dict[str, float]:
    """Deliver `objects` creates (at `rate` a second; 0: as fast as they go) to so many watchers."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_measure(target, watchers, objects, rate))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(target, watchers, objects, rate))


async def _measure(target: Target, watchers: int, objects: int, rate: float) -> dict[str, float]:
    import aiohttp

    version = json.loads(fetch(f"{target.url}{PATH}?limit=1", target.token))["metadata"]["resourceVersion"]
    parts = urlsplit(target.url)
    head = (
        f"GET {PATH}?watch=1&resourceVersion={version} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {target.token}\r\n"
        "Accept: application/json\r\n\r\n"
    ).encode()
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    run, waits, transports = Run(objects), [], []
    for _ in range(watchers):
        ready, done = loop.create_future(), loop.create_future()
        transport, _protocol = await loop.create_connection(
            lambda r=ready, d=done: Watcher(run, head, r, d),
            parts.hostname,
            parts.port,
            ssl=tls,  # type: ignore[misc]
        )
        transports.append(transport)
        waits.append(done)
        await ready
    started = time.perf_counter()
    connector = aiohttp.TCPConnector(ssl=False, limit=32)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {target.token}"}) as session:
        async with asyncio.TaskGroup() as creates:
            for number in range(objects):
                if rate:
                    await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
                creates.create_task(_create(session, target.url, run, f"wf-{int(started * 1000)}-{number}"))
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await asyncio.wait(waits)
    for transport in transports:
        transport.abort()
    return _summary(run, watchers, objects, run.last - started)


async def _create(session: object, url: str, run: Run, name: str) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
    run.sent[name.encode()] = time.perf_counter()
    async with session.post(url + PATH, data=body, headers={"Content-Type": "application/json"}) as response:  # type: ignore[attr-defined]
        await response.read()
        if response.status != 201:
            raise RuntimeError(f"create answered {response.status}")


def _summary(run: Run, watchers: int, objects: int, seconds: float) -> dict[str, float]:
    latencies = sorted(run.latencies)
    count = len(latencies)

    def at(share: float) -> float:
        return round(1000 * latencies[min(count - 1, int(count * share))], 2) if count else 0.0

    return {
        "events_per_s": round(count / seconds) if seconds > 0 else 0, "p50_ms": at(0.5), "p99_ms": at(0.99),
        "delivered": count, "expected": watchers * objects,
    }  # fmt: skip
