"""A scripted apiserver: the test says which requests will come and how each is answered, call by call.

A request that nobody expects, and an expected request that never comes, fail the test with a message that names it.

    async with ScriptedServer() as server, server.client(clock) as client:
        server.expect("GET", "/api/v1/pods", {"resourceVersion": "0"}).answer(pod_list)
        watch = server.expect("GET", "/api/v1/pods", {"watch": "true"}).stream()
        ...
        watch.send({"type": "ADDED", "object": pod})
        await server.wait_done()
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from kubecosm.api.errors import ApiError
from kubecosm.testing.server import LocalServer, json_response, start_stream

WAIT_SECONDS_MAX = 30.0
STREAM_PIECES_MAX = 100_000


class ScriptedStream:
    """An answer that the test writes piece by piece."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(STREAM_PIECES_MAX)
        self._open = asyncio.Event()
        self._request: web.BaseRequest | None = None

    async def wait_open(self) -> None:
        """Return when the client has made the request."""
        await self._open.wait()

    def send(self, *events: Any) -> None:
        """Write watch events, one a line."""
        self.send_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))

    def send_bytes(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        """End the answer properly, as the server does at its time limit."""
        self._pieces.put_nowait(None)

    def cut(self) -> None:
        """Drop the connection in the middle of the answer."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        self.end()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self._request = request
        response = await start_stream(request)
        self._open.set()
        while (piece := await self._pieces.get()) is not None:
            with suppress(ConnectionError):  # the client is gone
                await response.write(piece)
        return response


class Expectation:
    """One request that will come, and its answer (an empty object unless told)."""

    def __init__(self, method: str, path: str, query: Mapping[str, str]) -> None:
        self.method, self.path, self.query = method, path, dict(query)
        self.body: Any = None
        """The decoded JSON body of the request, once it has come."""
        self.headers: Mapping[str, str] = {}
        """The request's headers, once it has come."""
        self._answer: Any = {}
        self._code = 200
        self._headers: dict[str, str] | None = None
        self._drop = False
        self._stream: ScriptedStream | None = None

    def answer(self, body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Expectation:
        """Answer with this JSON."""
        self._answer, self._code, self._headers = body, code, headers
        return self

    def fail(self, error: ApiError) -> Expectation:
        """Answer with the Status of this error."""
        retry = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds is not None else None
        return self.answer(error.status(), error.code, retry)

    def drop(self) -> Expectation:
        """Close the connection without an answer."""
        self._drop = True
        return self

    def stream(self) -> ScriptedStream:
        """Answer piece by piece."""
        self._stream = ScriptedStream()
        return self._stream

    def matches(self, request: web.BaseRequest) -> bool:
        """Method and path are equal, and the query has at least the expected parameters."""
        return (request.method, request.path) == (self.method, self.path) and self.query.items() <= dict(request.query).items()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        self.body = orjson.loads(raw) if raw else None
        self.headers = request.headers
        if self._drop:
            assert request.transport is not None
            request.transport.abort()
        if self._stream is not None:
            return await self._stream.serve(request)
        return json_response(self._answer, self._code, self._headers)

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.method} {self.path}{'?' + query if query else ''}"


class ScriptedServer(LocalServer):
    """Expectations are met in any order; of those that match a request, the one made first is used up."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: list[Expectation] = []
        self._unexpected: list[str] = []
        self._changed = asyncio.Event()

    def expect(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Expectation:
        """One request that must come; `query` names the parameters that matter."""
        expectation = Expectation(method, path, query or {})
        self._expected.append(expectation)
        return expectation

    async def wait_done(self, timeout_seconds: float = WAIT_SECONDS_MAX) -> None:
        """Return when every expected request has come. Raises AssertionError on a missing or an unexpected one."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._expected and not self._unexpected:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        self.check()

    def check(self) -> None:
        """Raises AssertionError if a request is still missing, or one came that nobody expected."""
        if self._unexpected:
            raise AssertionError(f"unexpected requests: {'; '.join(self._unexpected)}")
        if self._expected:
            raise AssertionError(f"these requests never came: {'; '.join(map(str, self._expected))}")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await super().__aexit__(kind, error, trace)
        if kind is None:
            self.check()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        expectation = next((one for one in self._expected if one.matches(request)), None)
        if expectation is None:
            self._unexpected.append(f"{request.method} {request.path_qs}")
            self._changed.set()
            raise ApiError(f"the script does not expect {request.method} {request.path_qs}", reason="InternalError", code=500)
        self._expected.remove(expectation)
        self._changed.set()
        return await expectation.serve(request)
