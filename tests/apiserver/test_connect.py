"""Logs, exec and proxies end at a kubelet or pod: here at a small server that says what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubecosm.api.names import KUBELET_SERVER_NAME, LABEL_SERVICE_NAME

from .harness import ACCOUNT, ACCOUNTS, ADMIN_TOKEN, PODS, Api, api_server, pod

NODES = "/api/v1/nodes"


def make_certificate(folder: Path) -> tuple[str, str]:
    """(certificate, key) files of a kubelet that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubelet")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(KUBELET_SERVER_NAME)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    cert_file, key_file = folder / "kubelet.crt", folder / "kubelet.key"
    cert_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(cert_file), str(key_file)


class FakeBackend:
    """Answers like a kubelet would, and remembers the requests it got."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode())
                if b"upgrade:" in head.lower():
                    await self._upgraded(head, reader, writer)
                    break
                path = head.split(b" ")[1]
                if b"missing" in path:
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno such c")
                else:
                    body = b"asked for " + path
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _upgraded(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"refuse" in head:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nrefused")
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nhello ")
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()


@asynccontextmanager
async def cluster_of_one(tmp_path: Path, **config: Any) -> AsyncIterator[tuple[Api, FakeBackend]]:
    """A server, a node whose kubelet is a FakeBackend, and the pod `web` on it."""
    cert, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    backend = FakeBackend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0, ssl=context)
    backend.port = server.sockets[0].getsockname()[1]
    flags = {"kubelet_certificate_authority": cert, "kubelet_client_certificate": cert, "kubelet_client_key": key, **config}
    async with server, api_server(tmp_path, **flags) as api:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0"}})
        status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                  "daemonEndpoints": {"kubeletEndpoint": {"Port": backend.port}}}  # fmt: skip
        await api.merge(f"{NODES}/node-0/status", {"status": status})
        await api.create(PODS, pod("web", nodeName="node-0"))
        yield api, backend


async def upgrade(api: Api, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection on which an upgrade was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.base.rpartition(":")[2]), ssl=context)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n"
    writer.write(f"{head}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n".encode())
    return reader, writer


def test_logs_come_from_the_kubelet_of_the_pod(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster_of_one(tmp_path) as (api, _):
            reply = await api.raw("GET", f"{PODS}/web/log?follow=true&tailLines=5&sinceSeconds=9&timestamps=true")
            assert reply.status == 200
            asked = "/containerLogs/default/web/c?follow=true&timestamps=true&sinceSeconds=9&tailLines=5"
            assert reply.text == f"asked for {asked}"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("web/log?container=missing", 400, "container missing is not valid for pod web"),
        ("web/log?tailLines=-1", 422, 'PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0'),
        ("web/log?limitBytes=0", 422, 'PodLogOptions "web" is invalid: limitBytes: Invalid value: 0: must be greater than 0'),
        ("web/log?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("nosuch/log", 404, 'pods "nosuch" not found'),
        ("web/exec?stdout=1", 400, "you must specify at least one command for the container"),
        ("free/exec?stdout=1&command=ls", 400, "pod free does not have a host assigned"),
        ("two/log", 400, "a container name must be specified for pod two, choose one of: [a b]"),
        ("web/exec?stdout=1&command=ls", 400, "Upgrade request required"),
    ],
    ids=[
        "unknown container", "negative lines", "no bytes", "no number", "unknown pod", "no command", "not scheduled",
        "several containers", "no upgrade",
    ],
)
def test_what_cannot_be_connected_is_told_in_kubernetes_words(tmp_path: Path, path: str, code: int, message: str) -> None:
    async def main() -> None:
        async with cluster_of_one(tmp_path) as (api, _):
            await api.create(PODS, pod("free"))
            await api.create(PODS, pod("two", nodeName="node-0", containers=[{"name": n, "image": "i"} for n in "ab"]))
            found, status = await api.call("GET", f"{PODS}/{path}")
            assert (found, status["message"]) == (code, message)

    asyncio.run(main())


def test_exec_is_spliced_both_ways_and_nothing_early_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster_of_one(tmp_path) as (api, backend):
            reader, writer = await upgrade(api, f"{PODS}/web/exec?command=sh&command=-c&stdin=true&stdout=true&tty=true")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(6) == b"hello "
            big = b"abc" * 300_000
            writer.write(big)
            assert await reader.readexactly(len(big)) == big.upper()
            asked = backend.requests[-1]
            assert asked.startswith("POST /exec/default/web/c?input=1&output=1&tty=1&command=sh&command=-c HTTP/1.1\r\n")
            assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in asked
            assert "authorization" not in asked.lower()
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def test_a_kubelet_that_refuses_an_upgrade_is_quoted(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster_of_one(tmp_path) as (api, _):
            reader, writer = await upgrade(api, f"{PODS}/web/exec?command=refuse&stdout=1")
            answer = await reader.readuntil(b"refused")
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            writer.close()

    asyncio.run(main())


def test_an_unreachable_kubelet_is_a_500_that_says_where(tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster_of_one(tmp_path) as (api, _):
            await api.merge(f"{NODES}/node-0/status", {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}})
            code, status = await api.call("GET", f"{PODS}/web/log")
            assert code == 500
            assert status["message"].startswith("error dialing backend: dial tcp 127.0.0.1:1:")

    asyncio.run(main())


def test_nodes_pods_and_services_are_proxied(tmp_path: Path) -> None:
    async def main() -> None:
        backend = FakeBackend()
        server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, cluster_of_one(tmp_path) as (api, _):
            reply = await api.raw("GET", f"{NODES}/node-0/proxy/stats/summary?only_cpu=1")
            assert reply.text == "asked for /stats/summary?only_cpu=1"
            await api.merge(f"{PODS}/web/status", {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}})
            reply = await api.raw("GET", f"{PODS}/web:{port}/proxy/a/b")
            assert reply.text == "asked for /a/b"
            ports = [{"name": "http", "port": 80, "targetPort": port}]
            service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": ports}}
            await api.create("/api/v1/namespaces/default/services", service)
            path = "/api/v1/namespaces/default/services/web:http/proxy/hi"
            code, status = await api.call("GET", path)
            assert (code, status["message"]) == (503, 'no endpoints available for service "web"')
            endpoint_slice = {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "web-1", "labels": {LABEL_SERVICE_NAME: "web"}}, "endpoints": [{"addresses": ["127.0.0.1"]}],
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            }  # fmt: skip
            await api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoint_slice)
            assert (await api.raw("GET", path)).text == "asked for /hi"

    asyncio.run(main())
