"""A small synchronous client for promises about the wire: requests as bytes, answers as they came, watches event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from kubecosm.client.config import ClientConfig

REQUEST_SECONDS_MAX = 30.0
EVENT_SECONDS_MAX = 15.0
MERGE, JSON_PATCH, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def warnings(self) -> list[str]:
        """The texts of the Warning headers."""
        given = (value for name, value in self.headers.items() if name.lower() == "warning")
        return [value[value.index('"') + 1 : -1].replace('\\"', '"') for value in given]


class Watching:
    """An open watch. `next()` waits for one event, `types_and_names(n)` for n of them."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response, self._lines = response, self._split(response)

    @staticmethod
    def _split(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        rest = b""
        for chunk in response.stream(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines

    def next(self) -> dict[str, Any]:
        """The next event; a test fails when none comes in EVENT_SECONDS_MAX."""
        event: dict[str, Any] = json.loads(next(self._lines))
        return event

    def take(self, count: int) -> list[tuple[str, str]]:
        """(type, object's name) of the next `count` events."""
        events = [self.next() for _event in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    def rest(self) -> list[dict[str, Any]]:
        """Everything until the server ends the watch."""
        return [json.loads(line) for line in self._lines]


class Wire:
    """Requests as the user of a kubeconfig. Query parameters are keyword arguments of every method."""

    def __init__(self, kubeconfig: Path) -> None:
        config = ClientConfig.from_kubeconfig(kubeconfig)
        self.server = config.server
        self._pool = urllib3.PoolManager(ssl_context=config.ssl_context(), maxsize=8, retries=False)

    def close(self) -> None:
        self._pool.clear()

    def send(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Reply:  # fmt: skip
        """The answer, whatever its status. A body that is neither bytes nor None is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if data is not None else {}) | dict(headers or {})
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        answer = self._pool.request(method, url, body=data, headers=sent, timeout=REQUEST_SECONDS_MAX)
        return Reply(answer.status, answer.headers, answer.data)

    def expect(self, code: int, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The decoded answer, which must have this status."""
        reply = self.send(method, path, body, **options)
        assert reply.status == code, f"{method} {path}: {reply.status} {reply.data[:2000]!r}"
        return reply.json

    def get(self, path: str, **options: Any) -> Any:
        return self.expect(200, "GET", path, **options)

    def create(self, path: str, body: Any, **options: Any) -> Any:
        return self.expect(201, "POST", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Any:
        return self.expect(200, "PUT", path, body, **options)

    def patch(self, path: str, body: Any, kind: str = MERGE, **options: Any) -> Any:
        return self.expect(200, "PATCH", path, body, headers={"Content-Type": kind}, **options)

    def delete(self, path: str, body: Any = None, **options: Any) -> Any:
        reply = self.send("DELETE", path, body, **options)
        assert reply.status in (200, 202), f"DELETE {path}: {reply.status} {reply.data[:2000]!r}"
        return reply.json

    def exists(self, path: str) -> bool:
        reply = self.send("GET", path)
        assert reply.status in (200, 404), reply.data
        return reply.status == 200

    @contextmanager
    def watch(self, path: str, **query: Any) -> Iterator[Watching]:
        """A watch of a collection; closed at the end of the block."""
        url = f"{self.server}{path}?{urlencode({'watch': 'true'} | query)}"
        answer = self._pool.request(
            "GET", url, headers={"Accept": "application/json"}, preload_content=False, timeout=urllib3.Timeout(EVENT_SECONDS_MAX)
        )
        assert answer.status == 200, answer.data
        try:
            yield Watching(answer)
        finally:
            answer.close()
