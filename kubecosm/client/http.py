"""The API client: typed verbs over keep-alive HTTP/1.1 connections, JSON by orjson, failures as kubecosm.api.errors.

Owns paths, bodies, authentication, time limits and the waiting that a 429 asks for. Transport failures (refused, reset, timed out:
`TRANSPORT_ERRORS`) pass through untouched: whether to try again is the caller's decision. Leaves out protobuf, HTTP/2, redirects, caching.
Requests have lean connections of our own (pool.py), streams an HTTP client that hands on bodies as they arrive.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from kubecosm.api.errors import Asked, TooManyRequests, from_status
from kubecosm.api.resources import Object, Resource
from kubecosm.client.config import ClientConfig
from kubecosm.client.connection import Answer
from kubecosm.client.metrics import ClientMetrics
from kubecosm.client.pool import CONNECT_TIMEOUT_SECONDS, ConnectionPool
from kubecosm.client.ratelimit import RateLimiter
from kubecosm.client.stream import ResponseStream, WatchEvent, WatchStream

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
"""What a request raises when no answer came; `except (ApiError, *TRANSPORT_ERRORS)` is every expected failure."""

REQUEST_CONNECTIONS_MAX = 64
"""Requests in flight; the rest wait. More does not help against one server process."""
STREAM_CONNECTIONS_MAX = 20_000
"""Watches and log streams open at once; they have a pool of their own, so they never starve requests."""
REQUEST_TIMEOUT_SECONDS = 60.0
WATCH_TIMEOUT_MARGIN_SECONDS = 30.0
"""A watch that outlives the server's own time limit by this much is taken for dead."""
WATCH_TIMEOUT_DEFAULT_SECONDS = 300
RETRIES_AFTER_429_MAX = 10
RETRY_AFTER_SECONDS_MAX = 60.0
TOKEN_FILE_REFRESH_SECONDS = 60.0
READ_BUFFER_BYTES = 1 << 20

JSON = "application/json"
LEAN_JSON = "application/json;managedFields=omit"
"""JSON without managedFields; an API server that does not know the parameter sends them all the same."""


class PatchType(enum.StrEnum):
    """The media types of patches."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class ApiClient:
    """One user's view of one apiserver. Use as an async context manager; safe for any number of concurrent tasks of one loop."""

    def __init__(
        self, config: ClientConfig, *, clock: Clock, user_agent: str = "kubecosm", metrics: ClientMetrics | None = None,
        connections_max: int = REQUEST_CONNECTIONS_MAX, limiter: RateLimiter | None = None, accept: str = JSON,
    ) -> None:  # fmt: skip
        """`limiter` holds every request back, watches included, that would exceed its rate."""
        self.config = config
        self.clock = clock
        self.metrics = metrics or ClientMetrics()
        self._host = urlsplit(config.server).netloc
        self.user_agent = user_agent
        self.accept = accept
        self._connections_max = connections_max
        self._limiter = limiter
        self._token = config.token
        self._token_read_at = float("-inf")
        self._base_path = urlsplit(config.server).path
        self._requests: ConnectionPool | None = None
        self._streams: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls, name = self.config.ssl_context(), self.config.tls_server_name
        self._requests = ConnectionPool(self.config.server, tls, server_name=name, connections_max=self._connections_max)
        self._streams = _session({"User-Agent": self.user_agent, "Accept": self.accept}, tls or False, STREAM_CONNECTIONS_MAX)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._requests is not None:
            await self._requests.close()
        if self._streams is not None:
            await self._streams.close()
        self._requests = self._streams = None

    def _share(self, other: ApiClient) -> None:
        """Use the connections and metrics of another client, which is open."""
        self._requests, self._streams, self.metrics = other._requests, other._streams, other.metrics

    # Verbs

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        """The newest state of one object. Raises NotFound, Forbidden, …"""
        return await self._call("GET", _path(resource, namespace, name, subresource), params)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = "",
        limit: int = 0, continue_token: str = "", resource_version: str = "", resource_version_match: str = "",
    ) -> Object:  # fmt: skip
        """The List object: all of it, or at most `limit` items and a `metadata.continue` token for the next page."""
        params = _present(
            labelSelector=label_selector, fieldSelector=field_selector, limit=str(limit) if limit else "",
            resourceVersion=resource_version, resourceVersionMatch=resource_version_match,
        )  # fmt: skip
        params |= _present(**{"continue": continue_token})
        return await self._call("GET", _path(resource, namespace), params)

    async def create(
        self, resource: Resource, obj: Object, namespace: str | None = None, *, name: str | None = None,
        subresource: str | None = None, params: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        """Create `obj` (in its own namespace unless one is given), or POST it to the `subresource` of the object `name`."""
        namespace = namespace or obj.get("metadata", {}).get("namespace")
        return await self._call("POST", _path(resource, namespace, name, subresource), params, orjson.dumps(obj))

    async def update(
        self, resource: Resource, obj: Object, *, subresource: str | None = None, params: Mapping[str, str] | None = None
    ) -> Object:
        """Replace the object (or its subresource); Conflict if `metadata.resourceVersion` is not the newest."""
        meta = obj["metadata"]
        path = _path(resource, meta.get("namespace"), meta["name"], subresource)
        return await self._call("PUT", path, params, orjson.dumps(obj))

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, *, patch_type: PatchType,
        subresource: str | None = None, params: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        """Change parts of an object. APPLY needs `params={"fieldManager": …}`, and creates what is not there."""
        path = _path(resource, namespace, name, subresource)
        return await self._call("PATCH", path, params, orjson.dumps(patch), patch_type)

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, options: Object | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        """Delete one object. Answers a Status when it is gone, or the object while it still terminates. `options`: DeleteOptions."""
        return await self._call("DELETE", _path(resource, namespace, name), params, _delete_options(options))

    async def delete_collection(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = "",
        options: Object | None = None,
    ) -> Object:  # fmt: skip
        """Delete all that the selectors match."""
        params = _present(labelSelector=label_selector, fieldSelector=field_selector)
        return await self._call("DELETE", _path(resource, namespace), params, _delete_options(options))

    # Watch

    async def open_watch(
        self, resource: Resource, namespace: str | None = None, *, resource_version: str = "", label_selector: str = "",
        field_selector: str = "", allow_bookmarks: bool = True, timeout_seconds: int = WATCH_TIMEOUT_DEFAULT_SECONDS,
        params: Mapping[str, str] | None = None,
    ) -> WatchStream:  # fmt: skip
        """Start a watch; the caller reads batches from it and closes it. Raises Expired when the position is too old."""
        query = {"watch": "true", "timeoutSeconds": str(timeout_seconds)}
        query |= _present(
            resourceVersion=resource_version, labelSelector=label_selector, fieldSelector=field_selector,
            allowWatchBookmarks="true" if allow_bookmarks else "",
        ) | dict(params or {})  # fmt: skip
        response = await self._open("GET", _path(resource, namespace), query, timeout_seconds + WATCH_TIMEOUT_MARGIN_SECONDS)
        return WatchStream(response)

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, resource_version: str = "", label_selector: str = "",
        field_selector: str = "", allow_bookmarks: bool = False, timeout_seconds: int = WATCH_TIMEOUT_DEFAULT_SECONDS,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[WatchEvent]:  # fmt: skip
        """The events of one watch until the server ends it; an ERROR event is raised as the ApiError it tells of."""
        stream = await self.open_watch(
            resource, namespace, resource_version=resource_version, label_selector=label_selector, field_selector=field_selector,
            allow_bookmarks=allow_bookmarks, timeout_seconds=timeout_seconds, params=params,
        )  # fmt: skip
        async with aclosing(stream):
            while (batch := await stream.read()) is not None:
                for event in batch:
                    if event.type == "ERROR":
                        raise from_status(event.object)
                    yield event

    # Raw access

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> bytes:  # fmt: skip
        """The raw body that the server answers; any code of 400 or more is raised as ApiError."""
        retries = 0
        if self._limiter is not None:
            await self._limiter.wait()
        while True:
            try:
                return await self._once(method, f"{self._base_path}{path}{_query(params)}", body, headers, timeout_seconds)
            except TooManyRequests as error:
                if error.retry_after_seconds is None or retries == RETRIES_AFTER_429_MAX:
                    raise
                retries += 1
                await self.clock.sleep(min(error.retry_after_seconds, RETRY_AFTER_SECONDS_MAX))

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[ResponseStream]:  # fmt: skip
        """GET a body of unknown length piece by piece (logs, watches as bytes). No time limit unless one is given."""
        response = await self._open("GET", path, params or {}, timeout_seconds, headers)
        async with aclosing(response):
            yield response

    # Plumbing

    async def _call(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: bytes | None = None, media_type: str = JSON
    ) -> Object:
        headers = {"Content-Type": media_type} if body is not None else None
        result: Object = orjson.loads(await self.request(method, path, params=params, body=body, headers=headers))
        return result

    async def _once(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str] | None, timeout_seconds: float
    ) -> bytes:
        if self._requests is None:
            raise RuntimeError("the ApiClient is not open: use `async with ApiClient(...) as client`")
        request = self._head(method, target, self._headers(headers), body) + (body or b"")
        started, code = self.clock.monotonic(), "<error>"
        try:
            answer = await self._requests.request(method, request, timeout_seconds)
            code = str(answer.code)
        finally:
            self.metrics.request(method, self._host, code, self.clock.monotonic() - started)
        if answer.code >= 400:
            raise answer.failure(asked_for(method, target.removeprefix(self._base_path)))
        return answer.body

    def _head(self, method: str, target: str, headers: Mapping[str, str] | None, body: bytes | None) -> bytes:
        """The request up to its body. ValueError for a path or a header that would end the line it stands in."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        sent = {"User-Agent": self.user_agent, "Accept": self.accept, **(headers or {})}
        lines += [f"{name}: {value}" for name, value in sent.items()]
        if body is not None or method not in ("GET", "DELETE"):
            lines.append(f"Content-Length: {len(body or b'')}")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or " " in target:
            raise ValueError(f"not a path or header of a request: {target!r}")
        return head.encode("latin-1") + b"\r\n\r\n"

    async def _open(
        self, method: str, path: str, params: Mapping[str, str], timeout_seconds: float | None, headers: Mapping[str, str] | None = None
    ) -> ResponseStream:
        if self._streams is None:
            raise RuntimeError("the ApiClient is not open: use `async with ApiClient(...) as client`")
        if self._limiter is not None:
            await self._limiter.wait()
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):  # for the head of the answer; the body may take its time
            response = await self._streams.request(
                method, self._url(path, params), headers=self._headers(headers), timeout=_timeout(timeout_seconds),
                server_hostname=self.config.tls_server_name or None,
            )  # fmt: skip
        self.metrics.request(method, self._host, str(response.status), 0.0)
        if response.status >= 400:
            async with response:
                answer = Answer(response.status, await response.read(), response.headers.get("Retry-After", ""))
                raise answer.failure(asked_for(method, path))
        return ResponseStream(response)

    def _url(self, path: str, params: Mapping[str, str] | None) -> URL:
        return URL(f"{self.config.server}{path}{_query(params)}", encoded=True)

    def _headers(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        if self.config.token_file is not None:
            now = self.clock.monotonic()
            if now - self._token_read_at >= TOKEN_FILE_REFRESH_SECONDS:
                self._token, self._token_read_at = self.config.token_file.read_text().strip(), now
        if not self._token:
            return headers
        return {"Authorization": f"Bearer {self._token}", **(headers or {})}


@lru_cache
def _timeout(total_seconds: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_seconds, sock_connect=CONNECT_TIMEOUT_SECONDS)


def _session(headers: Mapping[str, str], tls: Any, connections_max: int) -> aiohttp.ClientSession:
    # aiohttp's own choice of resolver starts a thread at once; ours starts none until a name (not an address) is looked up.
    resolver = aiohttp.ThreadedResolver()
    connector = aiohttp.TCPConnector(ssl=tls, limit=connections_max, resolver=resolver, ttl_dns_cache=60, keepalive_timeout=60)
    return aiohttp.ClientSession(
        connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=READ_BUFFER_BYTES, auto_decompress=True,
        skip_auto_headers=("Content-Type", "Accept-Encoding"),
    )  # fmt: skip


def _path(resource: Resource, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    if name is not None:
        if not name:
            raise ValueError(f"a name is needed to reach one object of {resource.group_resource}")
        name = quote(name, safe=":")
    return resource.path(namespace and quote(namespace, safe=":"), name, subresource)


def asked_for(method: str, path: str) -> Asked:
    """What a request is about, for answers that do not say what is wrong; `path` may have a query."""
    prefix, *parts = path.partition("?")[0].strip("/").split("/")
    if prefix not in ("api", "apis"):
        return Asked(method)
    group = parts.pop(0) if prefix == "apis" and parts else ""
    parts = parts[1:]
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] not in ("status", "finalize"):
        parts = parts[2:]
    resource, name = (*parts[:2], "", "")[:2]
    return Asked(method, resource, group if resource else "", unquote(name))


def _query(params: Mapping[str, str] | None) -> str:
    return f"?{urlencode(params)}" if params else ""


def _present(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _delete_options(options: Object | None) -> bytes | None:
    return orjson.dumps({"kind": "DeleteOptions", "apiVersion": "v1", **options}) if options is not None else None

