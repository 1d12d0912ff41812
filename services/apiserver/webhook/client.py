"""The client that asks webhooks: finds them by URL or Service, checks their certificates, keeps connections, bounds time and size.

Webhooks are told who asks only where whoever calls has credentials for them. Imitates k8s.io/apiserver/pkg/util/webhook. Left out:
proxies.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.client.config import ConfigError, Credentials

from .failures import CallFailed, of_dial, of_http_code

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

PORT_DEFAULT = 443
ANSWER_BYTES_MAX = 16 * 1024 * 1024
CONNECTIONS_PER_WEBHOOK_MAX = 100
CONTEXTS_MAX = 200
"""TLS contexts kept, one per CA bundle and client certificate."""

ResolveService = Callable[[str, str, int], tuple[str, int]]
"""(namespace, name, port) → an address and port behind a Service. Raises ApiError (NotFound, ServiceUnavailable)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A clientConfig, read once."""

    host: str
    """Whom the certificate must name."""
    port: int
    path: str
    ca: str
    """PEM; empty: the authorities of the machine."""
    service: tuple[str, str] | None = None
    """(namespace, name), if it is reached by a Service."""
    with_port: bool = True
    """Whether the URL names the port."""

    def url(self, seconds: float) -> str:
        """As error messages show it."""
        host = f"{self.host}:{self.port}" if self.with_port else self.host
        return f"https://{host}{self.path}?timeout={duration(seconds)}"


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, as Go prints them: 10s, 1m0s."""
    whole = int(-(-seconds // 1))
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"


def read_target(config: Object) -> Target:
    """`config` is a WebhookClientConfig (url or service, caBundle), validated. Raises CallFailed."""
    try:
        ca = base64.b64decode(config.get("caBundle") or "").decode("ascii", "replace")
    except binascii.Error:
        ca = "undecodable"
    service = config.get("service")
    if service:
        namespace, name = service["namespace"], service["name"]
        path = service.get("path") or "/"
        return Target(f"{name}.{namespace}.svc", service.get("port") or PORT_DEFAULT, path, ca, (namespace, name))
    if not config.get("url"):
        raise CallFailed("webhook configuration must have either service or URL")
    parts = urlsplit(config["url"])
    return Target(parts.hostname or "", parts.port or PORT_DEFAULT, parts.path or "/", ca, with_port=parts.port is not None)


class WebhookClients:
    """One per server; connections are shared by all who call the same webhook."""

    def __init__(self, resolve: ResolveService) -> None:
        self._resolve = resolve
        self._session: ClientSession | None = None
        self._contexts: dict[tuple[str, Credentials | None], ssl.SSLContext] = {}

    async def post(self, target: Target, body: bytes, seconds: float, credentials: Credentials | None = None) -> bytes:
        """The body of a successful answer to a JSON document. Raises CallFailed."""
        context, url = self._context(target.ca, credentials), target.url(seconds)
        call = _Call(target, context, body, seconds, _authorization(credentials))
        try:
            async with asyncio.timeout(seconds):
                return await self._post(call)
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from None
        except ApiError as error:  # from the resolver
            raise CallFailed(f'Post "{url}": {error.message}') from None
        except _Broken as broken:
            raise CallFailed(f'Post "{url}": {broken}') from None

    async def _post(self, call: _Call) -> bytes:
        from aiohttp import ClientConnectorError, ClientError, ClientOSError, ServerDisconnectedError

        target = call.target
        host, port = self._resolve(*target.service, target.port) if target.service else (target.host, target.port)
        address = f"{host}:{port}"
        while True:
            connection = _Connection()
            try:
                response = await self._request(call, address, connection)
            except ClientConnectorError as error:
                raise _Broken(of_dial(error.os_error, target.host, address)) from None
            except (ServerDisconnectedError, ClientOSError) as error:
                if not connection.is_new:  # a kept one that the webhook has closed meanwhile
                    continue
                why = "EOF" if isinstance(error, ServerDisconnectedError) else of_dial(error, target.host, address)
                raise _Broken(why) from None
            except ClientError as error:
                raise _Broken(f"net/http: HTTP/1.x transport connection broken: {error}") from None
            async with response:
                return await _read(response)

    async def _request(self, call: _Call, address: str, connection: _Connection) -> ClientResponse:
        from yarl import URL

        target = call.target
        url = URL(f"https://{address}{target.path}?timeout={duration(call.seconds)}", encoded=True)
        headers = {"Host": f"{target.host}:{target.port}" if target.with_port else target.host, "Content-Type": "application/json"}
        headers["Accept"] = "application/json, */*"
        if call.authorization:
            headers["Authorization"] = call.authorization
        return await self._client().post(
            url, data=call.body, headers=headers, ssl=call.context, server_hostname=target.host, allow_redirects=False,
            trace_request_ctx=connection,
        )  # fmt: skip

    def _client(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, TraceConfig

            trace = TraceConfig()
            trace.on_connection_create_end.append(_connected)
            connector = TCPConnector(limit=0, limit_per_host=CONNECTIONS_PER_WEBHOOK_MAX)
            self._session = ClientSession(
                connector=connector, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=None),
                headers={"User-Agent": "kube-apiserver-admission"}, trace_configs=[trace],
            )  # fmt: skip
        return self._session

    def _context(self, ca: str, credentials: Credentials | None) -> ssl.SSLContext:
        """Raises CallFailed for a bundle that holds no certificate."""
        found = self._contexts.get((ca, credentials))
        if found is None:
            if len(self._contexts) >= CONTEXTS_MAX:
                self._contexts.clear()
            try:
                found = ssl.create_default_context(cadata=ca) if ca else ssl.create_default_context()
            except ssl.SSLError:
                why = "unable to load root certificates: unable to parse bytes as PEM block"
                raise CallFailed(f"could not get REST client: {why}", 500) from None
            found.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as in Go, whatever is in the bundle is trusted
            if credentials is not None:
                credentials.present(found)
            self._contexts[ca, credentials] = found
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


@dataclass(frozen=True, slots=True)
class _Call:
    """One question to one webhook."""

    target: Target
    context: ssl.SSLContext
    body: bytes
    seconds: float
    authorization: str


def _authorization(credentials: Credentials | None) -> str:
    """Raises CallFailed."""
    try:
        return "" if credentials is None else credentials.authorization()
    except ConfigError as error:
        raise CallFailed(f"could not get REST client: {error}", 500) from None


@dataclass
class _Connection:
    """What is known of the connection that a request took."""

    is_new: bool = False


async def _connected(_session: ClientSession, context: Any, _params: Any) -> None:
    context.trace_request_ctx.is_new = True


class _Broken(Exception):
    """The connection failed; the text says why."""


async def _read(response: ClientResponse) -> bytes:
    """The body of a success. Raises CallFailed."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise CallFailed(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    if not 200 <= response.status <= 206:
        code = response.status
        raise CallFailed(of_http_code(code, bytes(body), response.headers.get("Content-Type", "")), code)
    if not body:
        content_type = response.headers.get("Content-Type", "")
        raise CallFailed(f"0-length response with status code: {response.status} and content type: {content_type}")
    return bytes(body)
