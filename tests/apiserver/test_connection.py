"""One connection: its requests are answered in order by one task, whatever their clients do in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from kubecosm.services.apiserver.http import connection
from kubecosm.services.apiserver.http.connection import Server
from kubecosm.services.apiserver.http.handler import Handler
from kubecosm.services.apiserver.http.request import Request
from kubecosm.services.apiserver.http.response import Answer, text_response

SECONDS_MAX = 5.0


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    server = Server(handler)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(1.0)


async def echo(request: Request) -> Answer:
    body = await request.read() if request.path != "/unread" else b""
    return text_response(200, f"{request.method} {request.path} {body.decode()}")


def post(path: str, body: bytes, length: int | None = None, *headers: bytes) -> bytes:
    told = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join((f"POST {path} HTTP/1.1".encode(), b"Host: x", *headers, told, b"", body))


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return (await reader.readexactly(int(length.split(b":")[1]))).decode()


def test_requests_sent_ahead_are_answered_in_order() -> None:
    async def main() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(post(f"/{n}", b"b%d" % n) for n in range(100)))
            assert [await answer(reader) for _ in range(100)] == [f"POST /{n} b{n}" for n in range(100)]
            await close(writer)

    asyncio.run(main())


def test_who_sends_many_requests_ahead_takes_turns_with_others() -> None:
    async def main() -> None:
        served: list[str] = []

        async def handle(request: Request) -> Answer:
            served.append(request.path)
            return await echo(request)

        async with serving(handle) as port:
            (_, greedy), (reader, modest) = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            greedy.write(b"".join(post("/greedy", b"") for _ in range(30)))
            modest.write(post("/modest", b""))
            await answer(reader)
            assert served.index("/modest") < 30 - 5
            await close(greedy, modest)

    asyncio.run(main())


def test_a_body_that_nobody_reads_is_not_taken_for_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/unread", b"GET / HTTP/1.1", 1000))
            assert await answer(reader) == "POST /unread "
            writer.write(b"x" * (1000 - len(b"GET / HTTP/1.1")) + post("/next", b"b"))
            assert await answer(reader) == "POST /next b"
            monkeypatch.setattr(connection, "UNREAD_BODY_SECONDS_MAX", 0.01)
            writer.write(post("/unread", b"", 1000))
            assert await answer(reader) == "POST /unread "
            assert await reader.read() == b""  # the rest never came: closed
            await close(writer)

    asyncio.run(main())


def test_a_declined_upgrade_leaves_the_connection_usable() -> None:
    async def main() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/up", b"", 0, b"Connection: Upgrade", b"Upgrade: websocket") + post("/next", b"b"))
            assert (await answer(reader)).startswith("POST /up")
            assert await answer(reader) == "POST /next b"
            writer.write(post("/last", b"", 0, b"Connection: close"))
            assert (await answer(reader)).startswith("POST /last")
            assert await reader.read() == b""
            await close(writer)

    asyncio.run(main())


def test_a_failure_behind_all_filters_closes_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        told: list[str] = []
        logged = SimpleNamespace(error=lambda _text, exc_info: told.append(str(exc_info)))
        monkeypatch.setattr(connection, "log", logged)

        async def fail(request: Request) -> Answer:
            if request.path == "/fail":
                raise ValueError("a bug")
            return await echo(request)

        async with serving(fail) as port:
            (bad, one), (good, two) = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            one.write(post("/fail", b""))
            assert await bad.read() == b""
            two.write(post("/fine", b"b"))
            assert await answer(good) == "POST /fine b"
            await close(one, two)
        assert told == ["a bug"]

    asyncio.run(main())


def test_a_client_that_leaves_ends_its_request() -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def wait(_request: Request) -> Answer:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        async with serving(wait) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/", b""))
            await began.wait()
            await close(writer)
            await ended.wait()

    asyncio.run(main())
