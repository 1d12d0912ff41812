"""The wire: every way an HTTP/1.1 server may answer, byte by byte, and what becomes of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kubecosm.client.body import Body, ChunkedBody, SizedBody
from kubecosm.client.config import ConfigError
from kubecosm.client.connection import BUFFER_BYTES_MAX, BadAnswer, Head
from kubecosm.client.transport import IDLE_SECONDS_MAX, Transport
from kubecosm.testing.virtualtime import run_virtual
from kubecosm.testing.waiting import wait_until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawServer:
    """Answers each request by the next of the given byte strings, in pieces of `piece` bytes; counts connections."""

    def __init__(self, *answers: bytes, piece: int = 1 << 30, close_after: bool = False) -> None:
        self._answers = list(answers)
        self._piece, self._close_after = piece, close_after
        self.connections = 0
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.url = ""

    async def __aenter__(self) -> RawServer:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for writer in self.writers:
            writer.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while self._answers:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self._answers.pop(0)
                for start in range(0, len(answer), self._piece):
                    writer.write(answer[start : start + self._piece])
                    await writer.drain()
                    if self._piece < 100:
                        await asyncio.sleep(0.0001)
                if self._close_after:
                    break
            if self._close_after:
                writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def transport_to(server: RawServer, requests_max: int = 4) -> Transport:
    return Transport(server.url, None, server_name="", user_agent="test", requests_max=requests_max, streams_max=4)


def with_server(server: RawServer, scenario: Callable[[Transport], Awaitable[None]]) -> None:
    async def main() -> None:
        async with server:
            transport = transport_to(server)
            try:
                await scenario(transport)
            finally:
                await transport.aclose()

    run_virtual(main())


async def get(transport: Transport, method: str = "GET") -> bytes:
    return (await transport.request(method, "/x", "", b"", 30)).body


ANSWERS: dict[str, tuple[bytes, bytes, int]] = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", 1),
    "length_zero": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", 1),
    "header_names_in_any_case": (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:5\r\n\r\nhello", b"hello", 1),
    "no_content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 1),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello", 1),
    "chunks_with_extensions_and_trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", b"hello", 1,
    ),
    "chunks_with_line_ends_inside": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", 1),
    "an_interim_answer_first": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", 1),
    "connection_close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", 2),
}  # fmt: skip
"""answer, its body, and the connections that two requests then take"""


@pytest.mark.parametrize("piece", [1 << 30, 7, 1], ids=["at_once", "in_pieces", "byte_by_byte"])
@pytest.mark.parametrize(("answer", "body", "connections"), ANSWERS.values(), ids=ANSWERS)
def test_every_kind_of_answer_is_understood_however_it_arrives(answer: bytes, body: bytes, connections: int, piece: int) -> None:
    server = RawServer(answer, OK, piece=piece)

    async def scenario(transport: Transport) -> None:
        assert await get(transport) == body
        assert await get(transport) == b"ok"
        assert server.connections == connections

    with_server(server, scenario)


@pytest.mark.parametrize("late", [False, True], ids=["with_the_body", "after_it"])
def test_more_than_was_announced_never_becomes_the_next_answer(late: bool) -> None:
    server = RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhe" + (b"" if late else b"llo"), OK)

    async def scenario(transport: Transport) -> None:
        assert await get(transport) == b"he"
        if late:
            server.writers[0].write(b"llo")
            await wait_until(lambda: not transport._idle[0].reusable)
        assert await get(transport) == b"ok"
        assert server.connections == 2

    with_server(server, scenario)


def test_a_body_without_length_ends_with_the_connection() -> None:
    async def scenario(transport: Transport) -> None:
        assert await get(transport) == b"as long as it takes"

    with_server(RawServer(b"HTTP/1.1 200 OK\r\n\r\nas long as it takes", close_after=True), scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"x" * 70_000,
    ],
    ids=["another_protocol", "no_status", "no_number", "no_chunk_size", "negative_chunk", "endless_head"],
)
def test_what_is_not_http_is_refused(answer: bytes) -> None:
    async def scenario(transport: Transport) -> None:
        with pytest.raises(BadAnswer):
            await get(transport)

    with_server(RawServer(answer), scenario)


def test_an_answer_cut_short_is_a_reset() -> None:
    async def scenario(transport: Transport) -> None:
        with pytest.raises(ConnectionResetError):
            await get(transport)

    with_server(RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", close_after=True), scenario)


def test_a_kept_connection_that_dies_unnoticed_costs_a_read_nothing_but_fails_a_write() -> None:
    server = RawServer(OK, b"", OK, b"")

    async def die_at_request(number: int) -> None:
        await wait_until(lambda: len(server.requests) == number)
        server.writers[-1].transport.abort()

    async def scenario(transport: Transport) -> None:
        await get(transport)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(die_at_request(2))
            assert await get(transport) == b"ok"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(die_at_request(4))
            with pytest.raises(ConnectionResetError):
                await get(transport, "POST")

    with_server(server, scenario)


def test_connections_are_reused_up_to_an_age() -> None:
    server = RawServer(OK, OK, OK)

    async def scenario(transport: Transport) -> None:
        await get(transport)
        await get(transport)
        assert server.connections == 1
        await asyncio.sleep(IDLE_SECONDS_MAX + 1)
        await get(transport)
        assert server.connections == 2

    with_server(server, scenario)


def test_no_more_requests_run_at_once_than_allowed() -> None:
    server = RawServer(*[OK] * 20)

    async def scenario(transport: Transport) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(get(transport))
        assert server.connections <= 4
        assert len(server.requests) == 20

    with_server(server, scenario)


def test_a_request_says_what_it_must() -> None:
    server = RawServer(OK, OK)

    async def scenario(transport: Transport) -> None:
        await transport.request("POST", "/a?b=c", "X-Y: z\r\n", b"{}", 30)
        head = server.requests[0].decode()
        host = server.url.removeprefix("http://")
        assert head == (
            f"POST /a?b=c HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\nAccept: application/json\r\nX-Y: z\r\nContent-Length: 2\r\n\r\n"
        )

    with_server(server, scenario)


def test_the_path_of_the_servers_url_comes_first() -> None:
    server = RawServer(OK)

    async def main() -> None:
        async with server:
            transport = Transport(f"{server.url}/k8s/one/", None, server_name="", user_agent="t", requests_max=1, streams_max=1)
            await get(transport)
            await transport.aclose()
        assert server.requests[0].startswith(b"GET /k8s/one/x HTTP/1.1")

    run_virtual(main())


@pytest.mark.parametrize("url", ["ftp://host", "https://", "host:6443"])
def test_an_unusable_server_url_is_refused(url: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="URL"):
            Transport(url, None, server_name="", user_agent="t", requests_max=1, streams_max=1)

    run_virtual(main())


def test_a_reader_that_falls_behind_stops_the_sender() -> None:
    megabytes = 64
    server = RawServer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (megabytes << 20), piece=1 << 16)

    async def main() -> None:
        async with server:
            transport = transport_to(server)
            stream = await transport.open_stream("GET", "/x", "", 30, None)
            await wait_until(lambda: stream._connection._paused, timeout_seconds=60)
            first = await stream.read()
            assert len(first) < 2 * BUFFER_BYTES_MAX
            rest = 0
            while rest + len(first) < megabytes << 20:
                rest += len(await stream.read())
            await stream.aclose()
            await transport.aclose()

    run_virtual(main())


def test_closing_the_transport_ends_what_is_going_on() -> None:
    server = RawServer(b"HTTP/1.1 200 OK\r\n\r\npart of it")

    async def main() -> None:
        async with server:
            transport = transport_to(server)
            stream = await transport.open_stream("GET", "/x", "", 30, 1000)
            assert await stream.read() == b"part of it"
            await transport.aclose()
            with pytest.raises(ConnectionResetError):
                await stream.read()

    run_virtual(main())


def test_a_cancelled_stream_gives_its_place_back() -> None:
    server = RawServer(*[b"HTTP/1.1 200 OK\r\n\r\n"] * 10)

    async def main() -> None:
        async with server:
            transport = transport_to(server)
            for _ in range(10):  # more than may be open at once
                stream = await transport.open_stream("GET", "/x", "", 30, None)
                await stream.aclose()
                await stream.aclose()
            await transport.aclose()

    run_virtual(main())


class TestBodies:
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
    def test_chunks_may_be_cut_anywhere(self, size: int) -> None:
        wire = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
        body = ChunkedBody()
        for start in range(0, len(wire), size):
            assert not body.finished
            body.feed(wire[start : start + size])
        assert (body.take(), body.finished, body.surplus, body.buffered) == (b"hello0123456789", True, False, 0)

    def test_what_follows_the_last_chunk_is_noticed(self) -> None:
        body = ChunkedBody()
        body.feed(b"0\r\n\r\nHTTP/1.1 200 OK")
        assert body.surplus

    def test_a_chunk_line_without_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="too long"):
            ChunkedBody().feed(b"1" * 5000)

    def test_sized_and_endless_bodies_know_when_they_are_over(self) -> None:
        sized, endless = SizedBody(3), Body()
        sized.feed(b"ab")
        assert not sized.finished
        sized.feed(b"c")
        endless.feed(b"abc")
        assert (sized.finished, sized.take(), endless.finished, endless.take()) == (True, b"abc", False, b"abc")


def test_headers_are_found_whole_and_only_at_the_start_of_a_line() -> None:
    head = Head(b"HTTP/1.1 429 Too Many Requests\r\nX-Retry-After: 9\r\nRetry-After:  7 \r\nContent-Type: text/plain; charset=utf-8")
    assert (head.status, head.header(b"retry-after"), head.header(b"etag"), head.content_type) == (429, "7", "", "text/plain")
