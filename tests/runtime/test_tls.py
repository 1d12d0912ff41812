"""What a TLS port says to those who do not speak TLS."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import uvloop

from kubecosm.runtime.tls import server_context
from tests.apiserver.outsiders import Authority

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def say(tmp_path: Path, loop: str, request: bytes) -> bytes:
    """All that a TLS server answers to these bytes."""
    cert, key = Authority(tmp_path, "plain-ca").issue("server", names=("localhost",))

    async def main() -> bytes:
        listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context(cert, key))
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname()[:2])
        writer.write(request)
        found = b""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                found = await reader.readuntil(b"server.\n")
                writer.write(request)
                found += await reader.read()
        writer.close()
        listener.close()
        return found

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
def test_plain_http_to_a_tls_port_is_told_so_and_hung_up_on(tmp_path: Path, loop: str, method: str) -> None:
    answer = say(tmp_path, loop, f"{method} /version HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert body == b"Client sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_neither_tls_nor_http_gets_no_answer(tmp_path: Path, loop: str) -> None:
    assert say(tmp_path, loop, b"SSH-2.0-OpenSSH_9.6\r\n") == b""
