"""Connections to kubelets, pods and Services: upgrades are spliced byte by byte, other requests go through a pooled HTTP client."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from kubecosm.api.errors import InternalError, ServiceUnavailable
from kubecosm.api.names import KUBELET_SERVER_NAME

from ..http.request import Request
from ..http.response import LAST_CHUNK, Answer, Response, Streamed, chunk, stream_head
from ..state import State
from .location import Endpoint
from .splice import Handshake, Splice

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

CONNECT_SECONDS_MAX = 10.0
CONNECTIONS_MAX = 1000
REFUSED_BODY_BYTES_MAX = 64 * 1024
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"))
_SECRET = frozenset(("authorization", "impersonate-user", "impersonate-group", "impersonate-uid"))
_NOT_PASSED_BACK = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "content-length", "content-type", "date", "server", "audit-id")
)


@dataclass
class Backends:
    """How to reach what is behind the apiserver."""

    kubelet_tls: ssl.SSLContext | None
    """Our client certificate and the kubelets' authority; None if not configured."""
    insecure_tls: ssl.SSLContext | None = field(default=None, repr=False)
    _session: ClientSession | None = None

    def tls_for(self, endpoint: Endpoint) -> tuple[ssl.SSLContext | None, str | None]:
        """(context, server name). Raises ServiceUnavailable if kubelets cannot be reached for want of a certificate."""
        if not endpoint.is_tls:
            return None, None
        if endpoint.context is not None:
            return endpoint.context, endpoint.server_name
        if endpoint.is_kubelet:
            if self.kubelet_tls is None:
                why = "--kubelet-client-certificate, --kubelet-client-key and --kubelet-certificate-authority are not set"
                raise ServiceUnavailable(f"kubelets cannot be reached: {why}")
            return self.kubelet_tls, KUBELET_SERVER_NAME
        if self.insecure_tls is None:  # a proxied pod's certificate is nobody's business, as in Kubernetes
            self.insecure_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.insecure_tls.check_hostname = False
            self.insecure_tls.verify_mode = ssl.CERT_NONE
        return self.insecure_tls, endpoint.host

    async def upgrade(
        self, state: State, request: Request, endpoint: Endpoint, path: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Pass an upgrade request on; if the backend agrees, the connection is spliced until it ends. Raises InternalError.

        `headers` replace those of the request, but for the ones that ask for the upgrade.
        """
        context, server_name = self.tls_for(endpoint)
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                transport, handshake = await asyncio.get_running_loop().create_connection(
                    Handshake, endpoint.host, endpoint.port, ssl=context, server_hostname=server_name
                )
                transport.write(_upgrade_head(request, endpoint, path, headers))
                head = await handshake.head
        except (OSError, TimeoutError) as error:
            raise dial_error(endpoint, error) from error
        if not head.startswith(b"HTTP/1.1 101"):
            return await _refused(transport, handshake, head)
        if request.on_response_started is not None:
            request.on_response_started(101)
        splice = Splice(request.connection, transport, handshake, head)
        state.streams.add(splice)
        try:
            await splice.wait_ended()
        finally:
            state.streams.discard(splice)
        return Streamed(101, keep_alive=False)

    async def forward(self, request: Request, endpoint: Endpoint, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Pass a request on and its answer back as it comes; `headers` replace those of the request. Raises InternalError."""
        sent = passed_headers(request.headers) if headers is None else headers
        async with await self.open(request.method, endpoint, path, sent, request.pieces()) as response:
            return await stream_back(request, response)

    async def open(
        self, method: str, endpoint: Endpoint, path: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
    ) -> ClientResponse:
        """A request to a backend, answered up to its head. Raises InternalError."""
        from aiohttp import ClientError
        from yarl import URL

        context, server_name = self.tls_for(endpoint)
        scheme = "https" if endpoint.is_tls else "http"
        url = URL(f"{scheme}://{endpoint.host}:{endpoint.port}{path}", encoded=True)
        try:
            return await self._client().request(
                method, url, headers=headers, data=body or None, allow_redirects=False, ssl=context or True, server_hostname=server_name
            )
        except (ClientError, TimeoutError) as error:
            raise dial_error(endpoint, error) from error

    def _client(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(limit=CONNECTIONS_MAX), auto_decompress=False, cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None, connect=CONNECT_SECONDS_MAX), skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )  # fmt: skip
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def is_upgrade(request: Request) -> bool:
    return "upgrade" in request.headers.get("Connection", "").lower() and "Upgrade" in request.headers


def dial_error(endpoint: Endpoint, error: BaseException) -> InternalError:
    """Go's words for a backend that cannot be reached."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError):
        why = "i/o timeout"
    elif isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno:
        why = f"connect: {os.strerror(cause.errno).lower()}"
    else:
        why = str(cause) or type(error).__name__
    return InternalError(f"error dialing backend: dial tcp {endpoint.host}:{endpoint.port}: {why}")


def passed_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """What a backend gets of a client's headers: nothing about this connection, and no credentials."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP and not _is_secret(name))


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return lower in _SECRET or lower.startswith("impersonate-extra-")


def _upgrade_head(request: Request, endpoint: Endpoint, path: str, headers: Mapping[str, str] | None) -> bytes:
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {endpoint.host}:{endpoint.port}"]
    asked = [(name, value) for name, value in request.headers.items() if not _is_secret(name)]
    if headers is not None:
        asked = [*((name, value) for name, value in asked if name.lower() in ("connection", "upgrade")), *headers.items()]
    lines += [f"{name}: {value}" for name, value in asked if name.lower() not in ("host", "content-length")]
    if request.method != "GET":
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _refused(transport: asyncio.Transport, handshake: Handshake, head: bytes) -> Answer:
    """The backend answered an upgrade with an ordinary response: pass it on."""
    status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wanted = min(int(headers.get("content-length", "0") or "0"), REFUSED_BODY_BYTES_MAX)
    reader = asyncio.StreamReader(limit=REFUSED_BODY_BYTES_MAX)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    reader.feed_data(handshake.take_rest())
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            body = await reader.readexactly(wanted)
    except (asyncio.IncompleteReadError, TimeoutError):
        body = b""
    finally:
        transport.close()
    parts = status_line.split(" ")
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 502
    return Response(status, body, headers.get("content-type", "text/plain"))


async def stream_back(request: Request, response: ClientResponse, headers: Iterable[tuple[str, str]] | None = None) -> Answer:
    """Send a backend's answer to the client, piece by piece; `headers` replace those it came with."""
    content_type = response.headers.get("Content-Type", "application/octet-stream")
    extra = b"".join(_header_lines(response.headers.items() if headers is None else headers))
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    transport.write(stream_head(request, response.status, content_type, extra))
    if request.method != "HEAD":
        await _copy_body(request, response, transport)
        transport.write(LAST_CHUNK)
    return Streamed(response.status, keep_alive=not request.should_close)


async def _copy_body(request: Request, response: ClientResponse, transport: asyncio.Transport) -> None:
    """Raises ConnectionResetError when either end is gone; the client then sees its connection break, as nothing else can tell it."""
    from aiohttp import ClientError

    try:
        async for piece in response.content.iter_any():
            if request.transport is None:
                raise ConnectionResetError("the client is gone")
            transport.write(chunk(piece))
            await request.connection.drain()
    except ClientError as error:
        transport.close()
        raise ConnectionResetError("the backend is gone") from error


def answered_headers(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """What a client gets of a backend's headers besides the type of its content."""
    return ((name, value) for name, value in headers if name.lower() not in _NOT_PASSED_BACK)


def _header_lines(headers: Iterable[tuple[str, str]]) -> Iterable[bytes]:
    for name, value in answered_headers(headers):
        yield f"{name}: {value}\r\n".encode("utf-8", "surrogateescape")
