"""An apiserver in the test's own process and event loop, and a small client that speaks plain HTTP to it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.services.apiserver.app import running
from kubecosm.services.apiserver.config import Config
from kubecosm.services.apiserver.state import State

ADMIN_TOKEN, USER_TOKEN, NODE_TOKEN = "admin-token", "user-token", "node-token"
TOKENS = f'{ADMIN_TOKEN},admin,admin,"system:masters"\n{USER_TOKEN},jane,1001,"devs,qa"\n{NODE_TOKEN},system:node:node-0,,"system:nodes"\n'


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Api:
    """Requests to a server under test; paths are below its address."""

    def __init__(self, session: aiohttp.ClientSession, base: str, state: State) -> None:
        self.session, self.base, self.state = session, base, state

    async def raw(self, method: str, path: str, body: Any = None, *, token: str = ADMIN_TOKEN, **headers: str) -> Reply:
        """The whole answer, read. Header names are given with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
            sent["Content-Length"] = str(len(data))
        payload = None if data is None else io.BytesIO(data)
        async with self.session.request(method, self.base + path, data=payload, headers=sent) as response:
            return Reply(response.status, response.headers, await response.read())

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """(HTTP code, decoded JSON)."""
        reply = await self.raw(method, path, body, **options)
        return reply.status, orjson.loads(reply.body) if reply.body else None

    async def get(self, path: str, **options: Any) -> Any:
        return await self._expect(200, "GET", path, None, options)

    async def create(self, path: str, body: Any, **options: Any) -> Any:
        return await self._expect(201, "POST", path, body, options)

    async def put(self, path: str, body: Any, **options: Any) -> Any:
        return await self._expect(200, "PUT", path, body, options)

    async def merge(self, path: str, body: Any, **options: Any) -> Any:
        return await self._expect(200, "PATCH", path, body, options | {"Content_Type": "application/merge-patch+json"})

    async def delete(self, path: str, body: Any = None, **options: Any) -> Any:
        return await self._expect(200, "DELETE", path, body, options)

    async def refused(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The Status of a request that is not granted."""
        code, status = await self.call(method, path, body, **options)
        assert code >= 400, status
        assert status["kind"] == "Status"
        return dict(status)

    async def _expect(self, code: int, method: str, path: str, body: Any, options: dict[str, Any]) -> Any:
        status, answer = await self.call(method, path, body, **options)
        assert status == code, answer
        return answer

    @asynccontextmanager
    async def watch(self, path: str, **options: Any) -> AsyncIterator[Watch]:
        """A watch stream; `path` has its query."""
        headers = {"Authorization": f"Bearer {options.pop('token', ADMIN_TOKEN)}"} | {k.replace("_", "-"): v for k, v in options.items()}
        async with self.session.get(self.base + path, headers=headers) as response:
            yield Watch(response)


class Watch:
    """Reads the events of a watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, seconds: float = 5.0) -> Any:
        """The next event; fails if none comes in time or the stream ends."""
        async with asyncio.timeout(seconds):
            line = await self.response.content.readline()
        assert line, "the watch has ended"
        return orjson.loads(line)

    async def names(self, count: int) -> list[tuple[str, str]]:
        """(type, name) of so many events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def wait_end(self, seconds: float = 5.0) -> bytes:
        """What still comes until the stream ends."""
        async with asyncio.timeout(seconds):
            return await self.response.content.read()


@asynccontextmanager
async def api_server(tmp_path: Path, *, clock: Clock | None = None, **config: Any) -> AsyncIterator[Api]:
    """A server on a free port with storage in memory unless `config` says otherwise."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(TOKENS)
    settings = {"secure_port": 0, "storage_backend": "memory", "token_auth_file": str(tokens), **config}
    async with running(Config(**settings), clock or RealClock()) as (state, port):
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, skip_auto_headers=("Accept-Encoding",)) as session:
            yield Api(session, f"https://127.0.0.1:{port}", state)


def with_api(tmp_path: Path, test: Callable[[Api], Awaitable[None]], **config: Any) -> None:
    """Run a coroutine against a fresh server."""

    async def main() -> None:
        async with api_server(tmp_path, **config) as api:
            await test(api)

    asyncio.run(main())


def admission_configuration(folder: Path, **plugins: dict[str, Any]) -> dict[str, str]:
    """The flag for a file with the configurations of plugins; a relative `path` instead of one is beside it."""
    path = folder / "admission.json"
    listed = [{"name": n, **(given if list(given) == ["path"] else {"configuration": given})} for n, given in plugins.items()]
    path.write_bytes(orjson.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": listed}))
    return {"admission_control_config_file": str(path)}


def configmap(name: str, data: dict[str, str] | None = None, **meta: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}, "data": data or {"k": "v"}}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
