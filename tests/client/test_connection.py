"""The connections of requests: answers are cut out of the stream wherever it breaks, and connections are kept, bounded and replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kubecosm.client.connection import Answer, Connection
from kubecosm.client.pool import IDLE_SECONDS_MAX, ConnectionPool
from kubecosm.testing.virtualtime import run_virtual

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1a;x=y\r\n" + b"z" * 26 + b"\r\n0\r\n\r\n"
ANNOUNCED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n"
LATER = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3 \r\nContent-Length: 2\r\n\r\n{}"
REQUEST = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


def answers_of(stream: bytes, size: int, count: int) -> list[Answer]:
    async def main() -> list[Answer]:
        connection = Connection()
        futures = [asyncio.get_running_loop().create_future() for _ in range(count)]
        connection.waiting.extend(futures)
        for start in range(0, len(stream), size):
            connection.data_received(stream[start : start + size])
        return await asyncio.wait_for(asyncio.gather(*futures), 1)

    return asyncio.run(main())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_answers_are_cut_out_wherever_the_stream_breaks(size: int) -> None:
    assert answers_of(PLAIN + CHUNKED + ANNOUNCED + EMPTY + LATER + PLAIN, size, 6) == [
        Answer(200, b"hello"), Answer(201, b"abc" + b"z" * 26), Answer(200, b"hello"), Answer(204, b""), Answer(429, b"{}", "3"),
        Answer(200, b"hello"),
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [
    b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
])  # fmt: skip
def test_what_is_no_answer_or_too_long_ends_the_connection(stream: bytes) -> None:
    async def main() -> None:
        async with Peer(lambda reader, writer: _say(reader, writer, stream)) as peer:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(1000), "127.0.0.1", peer.port)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(connection.send(REQUEST), 5)

    asyncio.run(main())


class Peer:
    """A server of one function; counts its connections."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.opened = self.port = 0
        self._serve = serve

    async def __aenter__(self) -> Peer:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()
        await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def pool(self, connections_max: int = 4) -> ConnectionPool:
        return ConnectionPool(f"http://127.0.0.1:{self.port}", None, connections_max=connections_max)


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: bytes) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(stream)
    await reader.read()


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof():
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        writer.write(PLAIN)


async def _answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(PLAIN)


def test_connections_are_used_again_and_never_more_than_allowed() -> None:
    async def main() -> None:
        async with Peer(_answer_all) as peer:
            pool = peer.pool(3)
            answers = await asyncio.gather(*(pool.request("GET", REQUEST, 5) for _ in range(50)))
            assert ({answer.code for answer in answers}, peer.opened) == ({200}, 3)
            await pool.close()

    asyncio.run(main())


def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    async def main() -> None:
        async with Peer(_answer_all) as peer:
            pool = peer.pool()
            await pool.request("GET", REQUEST, 5)
            await asyncio.sleep(IDLE_SECONDS_MAX + 1)
            await pool.request("GET", REQUEST, 5)
            assert peer.opened == 2
            await pool.close()

    run_virtual(main())


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def main() -> None:
        async with Peer(_answer_one) as peer:
            pool = peer.pool()
            for _ in range(3):
                assert (await pool.request("GET", REQUEST, 5)).body == b"hello"
            assert peer.opened == 3
            await pool.close()

    asyncio.run(main())


def test_a_create_is_never_sent_twice() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer_one(reader, writer)
        await reader.readuntil(b"\r\n\r\n")

    async def main() -> None:
        async with Peer(hang_up) as peer:
            pool = peer.pool()
            await pool.request("POST", REQUEST, 5)
            with pytest.raises(ConnectionResetError):
                await pool.request("POST", REQUEST, 5)
            assert peer.opened == 1
            await pool.request("GET", REQUEST, 5)
            assert (await pool.request("GET", REQUEST, 5)).code == 200
            assert peer.opened == 3
            await pool.close()

    asyncio.run(main())
