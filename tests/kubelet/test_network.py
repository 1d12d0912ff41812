"""Simulated pods answer on real sockets, each on its own address."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.runtime.tls import server_context
from kubecosm.services.kubelet.network import documents, listeners, redis
from kubecosm.services.kubelet.network.documents import Documents
from kubecosm.services.kubelet.network.endpoint import Endpoint, Identity
from kubecosm.services.kubelet.network.h2 import H2Server, grpc_health_check
from kubecosm.services.kubelet.network.http1 import HttpError, RequestParser
from kubecosm.services.kubelet.network.listeners import PodNetwork, PortRefused, wildcard_is_taken
from kubecosm.services.kubelet.probes.checks import Target, check_grpc, check_http, check_tcp
from kubecosm.services.kubelet.sim.addresses import AddressesExhausted, AddressPool
from kubecosm.services.kubelet.volumes.filesystem import FileSystem

BLOCK = "127.127.251."


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((BLOCK + "1", 0))
        return int(sock.getsockname()[1])


def endpoint(ip: str, port: int, application: str = "http", **notes: str) -> Endpoint:
    identity = Identity(f"pod-{ip}", "default", "node-0", ip, "c", "image")
    return Endpoint(identity, port, application, lambda name: notes.get(name.replace("-", "_")), lambda line: None)


def with_network(story: Callable[[PodNetwork], Awaitable[None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        network = PodNetwork(loop.call_later)
        try:
            await story(network)
        finally:
            network.close_all()

    asyncio.run(main())


async def get(ip: str, port: int, path: str = "/", headers: str = "") -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection(ip, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def test_a_client_that_wants_tls_gets_it_on_any_port(certificates: ClusterPaths) -> None:
    async def ask(ip: str, port: int, context: ssl.SSLContext | None, size: int = 0) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection(ip, port, ssl=context)
        writer.write(f"POST /secret HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + b"x" * size)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body

    async def main() -> None:
        made: list[int] = []

        def tls() -> ssl.SSLContext:
            made.append(1)
            return server_context(certificates.cert(pki.KUBELET), certificates.key(pki.KUBELET))

        network = PodNetwork(asyncio.get_running_loop().call_later, tls)
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        strict = ssl.create_default_context(cafile=certificates.cert(pki.CA))
        try:
            port = free_port()
            await network.open((f"{BLOCK}9", port), endpoint(f"{BLOCK}9", port))
            assert (await ask(f"{BLOCK}9", port, None))[0].startswith(b"HTTP/1.1 200")
            assert not made
            for size in (0, 200_000):
                head, body = await ask(f"{BLOCK}9", port, anybody, size)
                assert head.startswith(b"HTTP/1.1 200")
                assert json.loads(body)["path"] == "/secret"
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(f"{BLOCK}9", port, strict)
            assert made == [1]
        finally:
            network.close_all()

    asyncio.run(main())


def test_every_pod_names_itself() -> None:
    async def story(network: PodNetwork) -> None:
        port = free_port()
        for last in (2, 3):
            await network.open((f"{BLOCK}{last}", port), endpoint(f"{BLOCK}{last}", port))
        for last in (2, 3):
            head, body = await get(f"{BLOCK}{last}", port, "/some/path?x=1")
            seen = json.loads(body)
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert (seen["pod"], seen["path"], seen["method"]) == (f"pod-{BLOCK}{last}", "/some/path?x=1", "GET")
        with pytest.raises(ConnectionRefusedError):
            await get(f"{BLOCK}4", port)

    with_network(story)


def test_many_pods_share_one_listener_and_each_answers_as_itself() -> None:
    async def story(network: PodNetwork) -> None:
        port = free_port()
        count = listeners.SHARED_PORT_PODS_MIN + 20
        for last in range(2, 2 + count):
            await network.open((f"{BLOCK}{last}", port), endpoint(f"{BLOCK}{last}", port))
        assert len(network._servers) == listeners.SHARED_PORT_PODS_MIN
        assert wildcard_is_taken(port)
        for last in (2, 60, 70, 1 + count):
            assert json.loads((await get(f"{BLOCK}{last}", port))[1])["ip"] == f"{BLOCK}{last}"
        network.close((f"{BLOCK}{1 + count}", port))
        with pytest.raises(ConnectionResetError):
            await get(f"{BLOCK}{1 + count}", port)

    with_network(story)


def test_a_port_that_others_hold_is_refused_with_advice_and_still_reached_by_dial() -> None:
    async def story(network: PodNetwork) -> None:
        with socket.socket() as other:
            other.bind((f"{BLOCK}5", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(PortRefused, match="another program listens"):
                await network.open((f"{BLOCK}5", port), endpoint(f"{BLOCK}5", port))
            reader, writer = await network.dial((f"{BLOCK}5", port))
            writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert b"pod-127.127.251.5" in await reader.read()
            writer.close()

    with_network(story)


def test_privileged_ports_are_explained() -> None:
    text = listeners.explain(PermissionError(13, "Permission denied"), (f"{BLOCK}5", 80))
    assert "sysctl net.ipv4.ip_unprivileged_port_start=0" in text
    assert "CAP_NET_BIND_SERVICE" in text


def test_the_wildcard_check_reads_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    lines = ["  sl  local_address rem_address   st", "   0: 00000000:1F90 00000000:0000 0A 0", "   1: 0100007F:1F91 00000000:0000 0A 0"]
    table.write_text("\n".join(lines) + "\n")
    assert wildcard_is_taken(8080, table)
    assert not wildcard_is_taken(8081, table)
    assert wildcard_is_taken(1, tmp_path / "missing")


@pytest.mark.parametrize("shared", [False, True], ids=["own socket", "shared socket"])
def test_datagrams_are_answered_from_the_pods_address(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if shared:
        monkeypatch.setattr(listeners, "SHARED_PORT_PODS_MIN", 0)

    async def story(network: PodNetwork) -> None:
        port = free_port(socket.SOCK_DGRAM)
        for last in (2, 3):
            await network.open((f"{BLOCK}{last}", port), endpoint(f"{BLOCK}{last}", port), udp=True)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind(("127.0.0.1", 0))
            client.connect((f"{BLOCK}3", port))
            await loop.sock_sendall(client, b"ping")
            answer = await asyncio.wait_for(loop.sock_recv(client, 2048), 5)
        assert b"pod=pod-127.127.251.3" in answer
        assert answer.endswith(b"\nping")

    with_network(story)


def test_a_draining_server_answers_and_asks_clients_to_leave() -> None:
    async def story(network: PodNetwork) -> None:
        port = free_port()
        served = endpoint(f"{BLOCK}2", port, latency_seconds="0.05")
        await network.open((f"{BLOCK}2", port), served)
        reader, writer = await asyncio.open_connection(f"{BLOCK}2", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        while not any(connection._waiting for connection in served.connections):  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0)
        served.drain()
        network.close((f"{BLOCK}2", port))
        served.close()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(f"{BLOCK}2", port)
        writer.close()

    with_network(story)


def test_annotations_change_the_answers_of_a_living_pod() -> None:
    async def story(network: PodNetwork) -> None:
        port = free_port()
        await network.open((f"{BLOCK}2", port), endpoint(f"{BLOCK}2", port, http_status="503"))
        assert (await get(f"{BLOCK}2", port))[0].startswith(b"HTTP/1.1 503 Service Unavailable")

    with_network(story)


def test_redis_pods_speak_redis() -> None:
    async def story(network: PodNetwork) -> None:
        port = free_port()
        await network.open((f"{BLOCK}2", port), endpoint(f"{BLOCK}2", port, "redis"))
        reader, writer = await asyncio.open_connection(f"{BLOCK}2", port)
        writer.write(b"PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nNOPE\r\nQUIT\r\n")
        answer = await reader.read()
        assert answer.startswith(b"+PONG\r\n+OK\r\n$5\r\nvalue\r\n-ERR unknown command 'NOPE'")
        writer.close()

    with_network(story)


@given(st.binary(max_size=200))
def test_redis_survives_rubbish(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        while (command := redis.take_command(buffer)) is not None:
            if command:
                assert redis.execute({}, command).endswith(b"\r\n")
    except redis.ProtocolError:
        return


def test_probes_judge_real_answers() -> None:
    async def story(network: PodNetwork) -> None:
        port, bad, nobody = free_port(), free_port(), free_port()
        await network.open((f"{BLOCK}2", port), endpoint(f"{BLOCK}2", port))
        await network.open((f"{BLOCK}2", bad), endpoint(f"{BLOCK}2", bad, http_status="500", grpc_status="NOT_SERVING"))
        ip = f"{BLOCK}2"
        assert (await check_http(Target(ip, port), {"path": "/healthz"}, 1)).success
        failed = await check_http(Target(ip, bad), {"path": "/healthz"}, 1)
        assert (failed.success, failed.message) == (False, "HTTP probe failed with statuscode: 500")
        refused = await check_http(Target(ip, nobody), {"path": "/x"}, 1)
        assert refused.message == f'Get "http://{ip}:{nobody}/x": dial tcp {ip}:{nobody}: connect: connection refused'
        assert (await check_tcp(Target(ip, port), 1)).success
        assert (await check_tcp(Target(ip, nobody), 1)).message == f"dial tcp {ip}:{nobody}: connect: connection refused"
        assert (await check_grpc(Target(ip, port), "svc", 1)).success
        assert (await check_grpc(Target(ip, bad), "", 1)).message == 'service unhealthy (responded with "NOT_SERVING")'

    with_network(story)


def test_a_grpc_check_of_a_server_that_speaks_http_1_fails() -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ValueError, EOFError, OSError)):
            await grpc_health_check(*await asyncio.open_connection("127.0.0.1", port), f"127.0.0.1:{port}", "")
        server.close()

    asyncio.run(main())


@given(st.binary(max_size=100))
def test_http_2_rubbish_is_refused(data: bytes) -> None:
    server = H2Server(lambda: "SERVING")
    try:
        server.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + data)
    except ValueError:
        return


REQUEST = b"POST /p?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"


@given(st.integers(1, 40))
def test_requests_are_read_however_the_bytes_are_cut(step: int) -> None:
    parser, found = RequestParser(), []
    wire = REQUEST + CHUNKED
    for start in range(0, len(wire), step):
        parser.feed(wire[start : start + step])
        while (request := parser.next_request()) is not None:
            found.append(request)
    assert [(r.method, r.path, r.body) for r in found] == [("POST", "/p", b"hello"), ("POST", "/c", b"abcde")]
    assert found[0].headers["x-a"] == "1, 2"
    assert parser.is_empty


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413), (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400), (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_bad_requests_get_their_code(data: bytes, code: int) -> None:
    parser = RequestParser()
    parser.feed(data)
    with pytest.raises(HttpError) as refused:
        parser.next_request()
    assert refused.value.code == code


def test_addresses_go_round_and_run_out() -> None:
    pool = AddressPool("127.64.3.0/29")
    taken = [pool.take() for _ in range(5)]
    assert taken == [f"127.64.3.{last}" for last in (2, 3, 4, 5, 6)]
    with pytest.raises(AddressesExhausted):
        pool.take()
    pool.release("127.64.3.3")
    assert pool.take() == "127.64.3.3"
    assert not pool.reserve("127.64.3.3")
    assert not pool.reserve("127.64.9.3")


def test_the_next_address_is_not_the_one_just_released() -> None:
    pool = AddressPool("127.64.3.0/24")
    first: Any = pool.take()
    pool.release(first)
    assert pool.take() != first


def test_a_web_server_shows_the_files_that_its_container_has() -> None:
    fs = FileSystem()
    documents.install("/www", fs)
    fs.mkdir("/www/empty")
    fs.write("/www/a.json", b"{}")
    fs.write("/secret", b"not below the root")

    async def story(network: PodNetwork) -> None:
        ip, port = BLOCK + "40", free_port()
        server = endpoint(ip, port, "nginx")
        await network.open((ip, port), server)
        assert b"Welcome to nginx!" in (await get(ip, port))[1]
        server.documents = Documents("/www", lambda: fs)
        assert b"pod-" in (await get(ip, port))[1]
        head, body = await get(ip, port, "/a.json")
        assert (b"application/json" in head, body) == (True, b"{}")
        codes = [(await get(ip, port, path))[0].split()[1] for path in ("/nope", "/empty", "/../secret")]
        assert codes == [b"404", b"403", b"404"]
        fs.write("/www/index.html", b"mine")
        assert (await get(ip, port, "/?x=1"))[1] == b"mine"

    with_network(story)


def test_a_slow_client_gets_every_byte_of_large_answers() -> None:
    fs = FileSystem()
    fs.mkdir("/www")
    fs.write("/www/big", bytes(8 * 1024 * 1024))

    async def story(network: PodNetwork) -> None:
        ip, port = BLOCK + "41", free_port()
        server = endpoint(ip, port, "nginx")
        server.documents = Documents("/www", lambda: fs)
        await network.open((ip, port), server)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (ip, port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: 8388608" in head
            assert not any(await reader.readexactly(8 * 1024 * 1024))
        writer.close()

    with_network(story)


PLACES = {"/usr/share": True, "/usr/share/www/a": True, "/": True, "/usr/share/w": False, "/etc": False}


@pytest.mark.parametrize(("path", "holds"), PLACES.items())
def test_a_volume_may_hold_what_a_web_server_shows(path: str, holds: bool) -> None:
    assert documents.is_within("/usr/share/www", path) is holds
