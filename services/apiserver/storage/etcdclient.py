"""etcd's v3 API over HTTP: its JSON gateway, which every etcd since 3.4 serves beside gRPC. Keys and values travel in base64.

Calls go to the first of the endpoints that takes a connection. Left out: leases, authentication by name and password.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import orjson

from .contract import CompactedError, StorageError

CALL_SECONDS_MAX = 10.0
CONNECTIONS_MAX = 256
COMPACTED, FUTURE = "required revision has been compacted", "required revision is a future revision"


class EtcdError(StorageError):
    """etcd has refused a call, or cannot be reached."""


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    return b64decode(text).decode()


def range_end(prefix: str) -> str:
    """The end of the range of all keys with a prefix, encoded; everything for an empty one."""
    raw = prefix.encode().rstrip(b"\xff")
    return b64encode(raw[:-1] + bytes([raw[-1] + 1]) if raw else b"\0").decode()


class EtcdClient:
    """Calls and watches. Make it on the event loop; `close` it there."""

    def __init__(self, endpoints: Sequence[str], context: ssl.SSLContext | None) -> None:
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=context or True), cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS_MAX),
        )  # fmt: skip

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, body: Any) -> Any:
        """One call, `kv/txn` and the like. Raises EtcdError; a write may then have taken place all the same, unless etcd refused it."""
        data = orjson.dumps(body)
        problem = "no endpoint"
        for endpoint in tuple(self._endpoints):
            try:
                async with self._session.post(f"{endpoint}/v3/{method}", data=data) as response:
                    answer = orjson.loads(await response.read())
            except aiohttp.ClientConnectorError as error:
                problem = str(error)
                self._prefer_another(endpoint)
                continue
            except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
                raise EtcdError(f"etcd did not answer: {error or type(error).__name__}") from error
            if response.status != 200:
                raise EtcdError(f"etcd: {answer.get('message') or answer.get('error') or response.status}")
            return answer
        raise EtcdError(f"etcd cannot be reached: {problem}")

    def _prefer_another(self, endpoint: str) -> None:
        """What could not be reached is asked last."""
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)

    async def watch(self, key: str, end: str, start_revision: int) -> AsyncIterator[Any]:
        """The results of a watch (`events`, `created`, …) as they come, from a revision on; keys are encoded.

        Ends when the connection does. Raises CompactedError, EtcdError.
        """
        request = {"create_request": {"key": key, "start_revision": str(start_revision), **({"range_end": end} if end else {})}}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS_MAX)
        endpoint = self._endpoints[0]
        try:
            async with self._session.post(f"{endpoint}/v3/watch", data=orjson.dumps(request), timeout=timeout) as response:
                async for line in _lines(response.content):
                    message = orjson.loads(line)
                    result = message.get("result")
                    if result is None:
                        raise EtcdError(f"etcd: {message.get('error')}")
                    if compacted := int(result.get("compact_revision", 0)):
                        raise CompactedError(start_revision - 1, compacted)
                    if result.get("canceled"):
                        raise EtcdError(f"etcd ended a watch: {result.get('cancel_reason', '')}")
                    yield result
        except (aiohttp.ClientError, TimeoutError) as error:
            self._prefer_another(endpoint)
            raise EtcdError(f"etcd cannot be watched: {error or type(error).__name__}") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """A stream in lines of any length."""
    rest: list[bytes] = []
    async for piece in content.iter_any():
        *complete, last = piece.split(b"\n")
        for line in complete:
            whole = b"".join((*rest, line))
            rest = []
            if whole:
                yield whole
        if last:
            rest.append(last)


async def pause(attempt: int) -> None:
    """Between tries to watch again: 0.1 s, doubled up to 3.2 s."""
    await asyncio.sleep(0.1 * 2 ** min(attempt, 5))
