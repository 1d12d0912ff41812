"""/livez, /readyz, /healthz and /metrics: one piece of logic for every process, and a tiny plain HTTP server for those without a TLS port.

Answers look like those of k8s.io/apiserver/pkg/server/healthz: `ok`, or with `?verbose` (and always on failure) one line per check;
`?exclude=name` leaves a check out, `/readyz/name` asks one alone.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web
from multidict import MultiMapping

from kubecosm.runtime.errors import StartupError, startup
from kubecosm.runtime.metrics import Metrics

Check = Callable[[], "Awaitable[str | None] | str | None"]
"""A health check: None when well, else why not. Must be quick."""

TEXT = "text/plain; charset=utf-8"
SHUTDOWN_SECONDS = 0.2


def _ping() -> None:
    return None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that any server can send."""

    status: int
    content_type: str
    body: bytes


@dataclass
class HealthEndpoints:
    """What the health paths and /metrics answer. `ping` is always checked; `readyz` covers all that `livez` does and more."""

    metrics: Metrics
    livez: Mapping[str, Check] = field(default_factory=dict)
    readyz: Mapping[str, Check] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """The path of each single check."""
        alive = ["ping", *self.livez]
        ready = [*alive, *(name for name in self.readyz if name not in alive)]
        return [*(f"/livez/{name}" for name in alive), *(f"/{endpoint}/{name}" for endpoint in ("healthz", "readyz") for name in ready)]

    async def answer(self, path: str, query: MultiMapping[str], accept: str = "") -> Answer | None:
        """The answer to a GET of `path`, or None when the path is not one of ours."""
        if path == "/metrics":
            content_type, body = await self.metrics.render_in_turns(accept)
            return Answer(200, content_type, body)
        endpoint, _, single = path.lstrip("/").partition("/")
        if endpoint not in ("livez", "readyz", "healthz"):
            return None
        checks: dict[str, Check] = {"ping": _ping, **self.livez}
        if endpoint != "livez":
            checks.update(self.readyz)
        if single:
            if single not in checks:
                return Answer(404, TEXT, b"404 page not found\n")
            checks = {single: checks[single]}
        excluded = set(query.getall("exclude", ()))
        failures = {name: None if name in excluded else await _run(check) for name, check in checks.items()}
        self.metrics.health_checked(endpoint, {name: why for name, why in failures.items() if name not in excluded})
        return render(endpoint, failures, excluded & set(checks), verbose="verbose" in query)


def render(endpoint: str, failures: Mapping[str, str | None], excluded: set[str], *, verbose: bool) -> Answer:
    """The answer of `/livez` and its kin for checks in order: name → None when well, else why not."""
    failed = [name for name, why in failures.items() if why is not None]
    if not failed and not verbose:
        return Answer(200, TEXT, b"ok")
    lines = []
    for name, why in failures.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif why is None:
            lines.append(f"[+]{name} ok")
        else:
            lines.append(f"[-]{name} failed: {why}")
    lines.append(f"{endpoint} check {'failed' if failed else 'passed'}")
    return Answer(500 if failed else 200, TEXT, ("\n".join(lines) + "\n").encode())


async def _run(check: Check) -> str | None:
    result = check()
    return await result if inspect.isawaitable(result) else result


def split_address(address: str, flag: str = "--metrics-bind-address") -> tuple[str, int]:
    """Host and port of `127.0.0.1:10259`; StartupError that names the flag if it is not one."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise StartupError(f"invalid {flag} {address!r}: expected host:port, for example 127.0.0.1:0 (0 takes any free port)")
    return host.strip("[]") or "127.0.0.1", int(port)


class HealthServer:
    """Serves a HealthEndpoints over plain HTTP: `async with HealthServer(endpoints, "127.0.0.1:0") as server: server.port`."""

    def __init__(self, endpoints: HealthEndpoints, address: str) -> None:
        self._endpoints = endpoints
        self._host, self._port = split_address(address)
        self._server: asyncio.Server | None = None
        self._http = web.Server(self._handle, access_log=None)

    @property
    def port(self) -> int:
        """The port it listens on (the chosen one if the address said 0)."""
        if self._server is None:
            raise RuntimeError("the health server has not been started")
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        with startup(f"serve health and metrics on {self._host}:{self._port}"):
            self._server = await asyncio.get_running_loop().create_server(self._http, self._host, self._port)
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
            await self._http.shutdown(SHUTDOWN_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="405 method not allowed\n")
        answer = await self._endpoints.answer(request.path, request.query, request.headers.get("Accept", ""))
        if answer is None:
            return web.Response(status=404, text="404 page not found\n")
        headers = {"Content-Type": answer.content_type, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache, private"}
        return web.Response(status=answer.status, headers=headers, body=answer.body)
