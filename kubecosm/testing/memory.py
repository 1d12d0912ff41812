"""An apiserver of 200 lines for the tests of clients and controllers: any resource, in memory, in the test's own process.

It keeps what clients depend on: resourceVersions that only grow, optimistic locking, uid and generation, the status subresource, label and
field selectors, watches with bookmarks, 410 after `compact`. It has no defaulting, validation, admission, users or graceful
deletion: for those, test against the real one. Faults: `cut_connections`, `end_watches`, `compact`, `refuse_next`, `watch_lag_seconds`.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from kubecosm.api import errors
from kubecosm.api.meta import Key, key_of, labels_of
from kubecosm.api.resources import BUILTIN, Object, Resource, ResourceTable
from kubecosm.api.selectors import parse_fields, parse_labels
from kubecosm.api.times import format_time
from kubecosm.testing.server import LocalServer, json_response, start_stream

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

_Line = tuple[int, str, Object, Object | None]
"""revision, type of change, object, object before."""


class MemoryServer(LocalServer):
    """Use `create`, `update`, `delete` directly, or through a client."""

    def __init__(self, clock: Clock, *, table: ResourceTable = BUILTIN) -> None:
        super().__init__()
        self._clock, self._table = clock, table
        self.revision = 100
        self._compacted = 0
        self._objects: dict[Resource, dict[Key, Object]] = {}
        self._history: dict[Resource, list[_Line]] = {}
        self._uids = itertools.count(1)
        self._watches: set[_Watch] = set()
        self._refusals: list[tuple[Callable[[web.BaseRequest], bool], errors.ApiError]] = []
        self.watch_lag_seconds: dict[Resource, float] = {}
        """How much later than the writes of a resource its watchers hear of them."""
        self.requests: list[str] = []
        """`METHOD path?query` of every request, in order."""

    # What a test does to it

    def create(self, resource: Resource, obj: Object) -> Object:
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        if "name" not in meta:
            meta["name"] = f"{meta.get('generateName', '')}{next(self._uids):05x}"
        if key_of(obj) in self._of(resource):
            raise errors.already_exists(resource, meta["name"])
        obj |= {"apiVersion": resource.api_version, "kind": resource.kind}
        meta |= {"uid": f"uid-{next(self._uids)}", "generation": 1, "creationTimestamp": format_time(self._clock.now())}
        return self._write(resource, "ADDED", obj, None)

    def update(self, resource: Resource, obj: Object, *, status_only: bool = False) -> Object:
        old = self.get(resource, key_of(obj))
        version = obj["metadata"].get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise errors.modified_conflict(resource, obj["metadata"]["name"])
        new = copy.deepcopy({**old, "status": obj.get("status")} if status_only else obj)
        if not status_only and "status" in old and resource.subresource("status"):
            new["status"] = old["status"]
        new["metadata"] |= {name: old["metadata"][name] for name in ("uid", "creationTimestamp", "generation")}
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        new |= {"apiVersion": resource.api_version, "kind": resource.kind}
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            del self._of(resource)[key_of(new)]
            return self._write(resource, "DELETED", new, old)
        return self._write(resource, "MODIFIED", new, old)

    def delete(self, resource: Resource, key: Key) -> Object:
        """Gone at once, unless finalizers hold it."""
        old = self.get(resource, key)
        new = copy.deepcopy(old)
        if old["metadata"].get("finalizers"):
            if "deletionTimestamp" in old["metadata"]:
                return old
            new["metadata"]["deletionTimestamp"] = format_time(self._clock.now())
            return self._write(resource, "MODIFIED", new, old)
        del self._of(resource)[key]
        return self._write(resource, "DELETED", new, old)

    def get(self, resource: Resource, key: Key) -> Object:
        obj = self._of(resource).get(key)
        if obj is None:
            raise errors.not_found(resource, key.name)
        return obj

    def list(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        return [obj for key, obj in sorted(self._of(resource).items()) if namespace is None or key.namespace == namespace]

    def compact(self) -> None:
        """Forget the past: watches from an older revision get 410."""
        self._compacted = self.revision
        for lines in self._history.values():
            lines.clear()

    def end_watches(self, error: errors.ApiError | None = None) -> None:
        """End every open watch, with an ERROR event if one is given."""
        for watch in self._watches:
            watch.end(error)

    def send_bookmarks(self) -> None:
        for watch in self._watches:
            watch.bookmark(self.revision)

    def refuse_next(self, error: errors.ApiError, *, method: str = "", path: str = "", query: str = "") -> None:
        """Answer by an error the next request of this method, with these texts in its path and in its query."""

        def applies(request: web.BaseRequest) -> bool:
            return method in ("", request.method) and path in request.path and query in request.query_string

        self._refusals.append((applies, error))

    # Storage

    def _of(self, resource: Resource) -> dict[Key, Object]:
        return self._objects.setdefault(resource, {})

    def _write(self, resource: Resource, change: str, obj: Object, old: Object | None) -> Object:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if change != "DELETED":
            self._of(resource)[key_of(obj)] = obj
        line: _Line = (self.revision, change, obj, old)
        self._history.setdefault(resource, []).append(line)
        for watch in self._watches:
            if watch.resource == resource:
                watch.feed(line)
        return obj

    # HTTP

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        for position, (applies, error) in enumerate(self._refusals):
            if applies(request):
                del self._refusals[position]
                raise error
        resource, namespace, name, subresource = self._route(request.path)
        body = orjson.loads(raw) if (raw := await request.read()) else None
        if request.method == "GET" and name is None:
            selects = _selector(request.query, namespace)
            if request.query.get("watch") in ("true", "1"):
                return await self._watch(request, resource, selects)
            return json_response(self._page(resource, selects, request.query))
        return self._object_verb(request, resource, namespace, name, subresource, body)

    def _object_verb(
        self, request: web.BaseRequest, resource: Resource, namespace: str, name: str | None, subresource: str, body: Any
    ) -> web.Response:
        key = Key(namespace, name or "")
        if request.method == "POST" and name is None:
            if resource.namespaced:
                body["metadata"]["namespace"] = namespace
            return json_response(self.create(resource, body), 201)
        if request.method == "GET":
            return json_response(self.get(resource, key))
        if request.method == "PUT":
            return json_response(self.update(resource, body, status_only=subresource == "status"))
        if request.method == "PATCH":
            merged = _merge(self.get(resource, key), body)
            return json_response(self.update(resource, merged, status_only=subresource == "status"))
        if request.method == "DELETE" and name is not None:
            gone = self.delete(resource, key)
            if "deletionTimestamp" in gone["metadata"]:
                return json_response(gone)
            details = {"name": name, "kind": resource.plural, "uid": gone["metadata"]["uid"]}
            return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
        if request.method == "DELETE":
            for key in [key_of(obj) for obj in self._of(resource).values() if _selector(request.query, namespace)(obj)]:
                self.delete(resource, key)
            return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")

    def _route(self, path: str) -> tuple[Resource, str, str | None, str]:
        parts = path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = self._table.by_path(group, version, rest[0])
        if resource is None:
            raise errors.NotFound("the server could not find the requested resource")
        return resource, namespace, rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else ""

    def _page(self, resource: Resource, selects: Callable[[Object], bool], query: Any) -> Object:
        found = [obj for obj in self.list(resource) if selects(obj)]
        start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0)
        end = start + limit if limit else len(found)
        meta = {"resourceVersion": str(self.revision)} | ({"continue": str(end)} if end < len(found) else {})
        items = [{name: part for name, part in obj.items() if name not in ("kind", "apiVersion")} for obj in found[start:end]]
        return {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": meta, "items": items}

    async def _watch(self, request: web.BaseRequest, resource: Resource, selects: Callable[[Object], bool]) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since < self._compacted:
            raise errors.Expired(f"too old resource version: {since} ({self._compacted})")
        watch = _Watch(resource, selects, self)
        for line in self._history.get(resource, ()):
            if line[0] > since:
                watch.feed(line)
        self._watches.add(watch)
        try:
            response = await start_stream(request)
            async with asyncio.timeout(float(request.query.get("timeoutSeconds") or 1800)):
                await watch.send_all(response)
        except (TimeoutError, ConnectionError):
            pass  # the time asked for is over, or the client is gone
        finally:
            self._watches.discard(watch)
        return response


class _Watch:
    """One open watch: what to send, and the wish to end."""

    def __init__(self, resource: Resource, selects: Callable[[Object], bool], server: MemoryServer) -> None:
        self.resource, self._selects, self._server = resource, selects, server
        self._lines: list[bytes] = []
        self._changed = asyncio.Event()
        self._ended = False

    def feed(self, line: _Line) -> None:
        _, change, obj, old = line
        before = old is not None and self._selects(old)
        now = change != "DELETED" and self._selects(obj)
        if before or now:
            self._send("MODIFIED" if before and now else "ADDED" if now else "DELETED", obj)

    def bookmark(self, revision: int) -> None:
        kind = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        self._send("BOOKMARK", {**kind, "metadata": {"resourceVersion": str(revision)}})

    def end(self, error: errors.ApiError | None) -> None:
        if error is not None:
            self._send("ERROR", error.status())
        self._ended = True
        self._changed.set()

    async def send_all(self, response: web.StreamResponse) -> None:
        while True:
            if lag := self._server.watch_lag_seconds.get(self.resource):
                await asyncio.sleep(lag)
            lines, self._lines = self._lines, []
            if lines:
                await response.write(b"".join(lines))
            if self._ended and not self._lines:
                return
            await self._changed.wait()
            self._changed.clear()

    def _send(self, kind: str, obj: Object) -> None:
        self._lines.append(orjson.dumps({"type": kind, "object": obj}) + b"\n")
        self._changed.set()


def _selector(query: Any, namespace: str) -> Callable[[Object], bool]:
    labels, fields = parse_labels(query.get("labelSelector", "")), parse_fields(query.get("fieldSelector", ""))

    def selects(obj: Object) -> bool:
        if namespace and obj["metadata"].get("namespace") != namespace:
            return False
        return labels.matches(labels_of(obj)) and all(
            (_field(obj, wanted.field) == wanted.value) != wanted.negated for wanted in fields.requirements
        )

    return selects


def _field(obj: Any, path: str) -> str:
    for part in path.split("."):
        obj = obj.get(part, "") if isinstance(obj, dict) else ""
    return str(obj)


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    base = target if isinstance(target, dict) else {}
    merged = {name: value for name, value in base.items() if patch.get(name, value) is not None}
    return merged | {name: _merge(base.get(name), value) for name, value in patch.items() if value is not None}
