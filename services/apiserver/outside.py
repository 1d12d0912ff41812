"""Asking services outside the cluster that a flag names: JSON over HTTPS, with certificates and credentials, tries and bounds.

For webhooks of authentication and authorization, and OpenID Connect providers. aiohttp's client is imported when first needed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kubecosm.api.resources import Object
from kubecosm.client.config import ClientConfig, ConfigError
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError

if TYPE_CHECKING:
    from aiohttp import ClientSession

ANSWER_BYTES_MAX = 1024 * 1024
SECONDS_MAX = 30.0
TRIES_MAX = 5
FIRST_REST_SECONDS, REST_FACTOR = 0.5, 1.5
CONNECTIONS_MAX = 20
WORTH_RETRYING = frozenset((429, 500, 502, 503, 504))


class OutsideError(Exception):
    """The service could not be asked, or gave no usable answer; the text says what happened."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Outside:
    """A client of one service."""

    def __init__(self, context: ssl.SSLContext | None, headers: Mapping[str, str], server_name: str = "") -> None:
        """`context` None: the machine's own authorities are trusted."""
        self._context = context
        self._headers = dict(headers)
        self._server_name = server_name
        self._session: ClientSession | None = None

    async def get(self, url: str) -> Any:
        """The decoded JSON. Raises OutsideError."""
        return _decoded("GET", url, await self._once("GET", url, None, {}))

    async def get_text(self, url: str, token: str = "") -> str:
        """The body as text, asked for with a bearer token if there is one. Raises OutsideError."""
        return (await self._once("GET", url, None, {"Authorization": f"Bearer {token}"} if token else {})).decode(errors="replace")

    async def post(self, url: str, body: Object) -> Any:
        """The decoded JSON. Raises OutsideError."""
        return _decoded("POST", url, await self._once("POST", url, orjson.dumps(body), {"Content-Type": "application/json"}))

    async def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
            timeout = aiohttp.ClientTimeout(total=SECONDS_MAX)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        tls: Any = self._context if self._context is not None else True
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, ssl=tls, server_hostname=self._server_name or None
            ) as answer:
                text = await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status >= 400:
                    shown = text[:200].decode(errors="replace").strip()
                    raise OutsideError(f"{method} {url}: {answer.status} {shown}", retryable=answer.status in WORTH_RETRYING)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OutsideError(f"{method} {url}: {error or type(error).__name__}", retryable=True) from error
        return text

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _decoded(method: str, url: str, text: bytes) -> Any:
    """Raises OutsideError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise OutsideError(f"{method} {url}: the answer is not JSON") from error


class KubeconfigWebhook:
    """A service that a kubeconfig file describes: its `server` is the whole URL."""

    def __init__(self, path: str, clock: Clock, flag: str) -> None:
        """Raises StartupError, which names the flag."""
        try:
            config = ClientConfig.from_kubeconfig(Path(path))
            token = config.token or (config.token_file.read_text().strip() if config.token_file else "")
            context = config.ssl_context()
        except (ConfigError, OSError) as error:
            raise StartupError(f"{flag}: {error}") from error
        self.url = config.server
        self._clock = clock
        self._client = Outside(context, {"Authorization": f"Bearer {token}"} if token else {}, config.tls_server_name)

    async def ask(self, body: Object, seconds: float = SECONDS_MAX) -> Object:
        """The answer to `body`, tried again with growing rests while that may help. Raises OutsideError."""
        rest = FIRST_REST_SECONDS
        for attempt in range(TRIES_MAX):
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._client.post(self.url, body)
                if not isinstance(answer, dict):
                    raise OutsideError(f"POST {self.url}: the answer is not an object")
                return answer
            except TimeoutError:
                raise OutsideError(f"POST {self.url}: no answer within {seconds:g}s") from None
            except OutsideError as error:
                if not error.retryable or attempt == TRIES_MAX - 1:
                    raise
            await self._clock.sleep(rest)
            rest *= REST_FACTOR
        raise AssertionError("unreachable")

    async def close(self) -> None:
        await self._client.close()
