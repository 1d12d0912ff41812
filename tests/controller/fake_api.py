"""An API server in memory for virtual-time tests: what controllers see of one, behind the methods of ApiClient.

Keeps resourceVersion, uid, generation, status isolation, finalizers, graceful deletion of pods, propagation policies and watches. Leaves
out defaulting, validation, admission and authorization. `answer_with` makes the next matching calls fail.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson

from kubecosm.api.errors import ApiError, ServiceUnavailable, already_exists, conflict, modified_conflict, not_found
from kubecosm.api.meta import Key, is_deleting, labels_of, uid_of
from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import BUILTIN, CUSTOMRESOURCEDEFINITIONS, NAMESPACES, PODS, Object, Resource
from kubecosm.api.selectors import parse_fields, parse_labels
from kubecosm.api.times import format_time
from kubecosm.client.http import PatchType
from kubecosm.client.stream import WatchEvent
from kubecosm.runtime.clock import Clock

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class FakeStream:
    """An open watch of the fake."""

    def __init__(self, api: FakeApi, resource: Resource, namespace: str | None) -> None:
        self._api, self.resource, self.namespace = api, resource, namespace
        self._events: list[WatchEvent] = []
        self._filled = asyncio.Event()

    def push(self, event: WatchEvent) -> None:
        if self.namespace is None or event.object["metadata"].get("namespace") == self.namespace:
            self._events.append(event)
            self._filled.set()

    async def read(self) -> list[WatchEvent] | None:
        await self._filled.wait()
        self._filled.clear()
        events, self._events = self._events, []
        return events

    async def aclose(self) -> None:
        if self in self._api.streams:
            self._api.streams.remove(self)


class FakeApi:
    """See the module docstring; `objects[resource][key]` is the state, `calls` the log of (verb, plural, name)."""

    def __init__(self, clock: Clock, seed: int = 1) -> None:
        self.clock = clock
        self.objects: dict[Resource, dict[Key, Object]] = {resource: {} for resource in BUILTIN}
        self.history: list[tuple[int, Resource, WatchEvent]] = []
        self.streams: list[FakeStream] = []
        self.calls: list[tuple[str, str, str]] = []
        self.latency_seconds = 0.001
        self.flaky = 0.0
        """The share of writes that fail: half of them before they take effect, half after, as when an answer is lost."""
        self.custom: list[Resource] = []
        self._revision = 0
        self._uids = itertools.count(1)
        self._random = random.Random(seed)
        self._failures: list[tuple[str, str, ApiError, int]] = []

    # What tests do

    def answer_with(self, error: ApiError, verb: str, plural: str, times: int = 1) -> None:
        """The next `times` calls of the verb on the resource fail."""
        self._failures.append((verb, plural, error, times))

    def all(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        found = self.objects.get(resource, {}).values()
        return [obj for obj in found if namespace is None or obj["metadata"].get("namespace") == namespace]

    def count(self, verb: str, plural: str) -> int:
        return sum(call[:2] == (verb, plural) for call in self.calls)

    def put(self, resource: Resource, obj: Object) -> Object:
        """Create or replace with everything as given (status too), synchronously."""
        meta = obj["metadata"]
        key = Key(meta.get("namespace", ""), meta["name"])
        old = self.objects.setdefault(resource, {}).get(key)
        return self._store(resource, obj, "MODIFIED" if old else "ADDED")

    def set_status(self, resource: Resource, obj: Object, **fields: Any) -> Object:
        """Merge fields into the newest status."""
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        fresh = self.objects[resource][key]
        return self._store(resource, {**fresh, "status": {**(fresh.get("status") or {}), **fields}}, "MODIFIED")

    def remove(self, resource: Resource, obj: Object) -> None:
        """Take it out of the store, as a kubelet's final delete does."""
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        gone = self.objects[resource].pop(key, None)
        if gone is not None:
            self._publish(resource, "DELETED", self._stamped(gone))

    def serve_custom(self, group: str, version: str, kind: str, plural: str) -> Resource:
        """As if a CustomResourceDefinition had just been established."""
        verbs = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
        resource = Resource(group, version, kind, plural, kind.lower(), True, verbs)
        self.custom.append(resource)
        self.objects[resource] = {}
        spec = {"group": group, "names": {"plural": plural, "kind": kind}}
        status = {"conditions": [{"type": "Established", "status": "True"}]}
        self.put(CUSTOMRESOURCEDEFINITIONS, {"metadata": {"name": f"{plural}.{group}"}, "spec": spec, "status": status})
        return resource

    def unserve_custom(self, resource: Resource) -> None:
        self.custom.remove(resource)
        self.remove(CUSTOMRESOURCEDEFINITIONS, {"metadata": {"name": f"{resource.plural}.{resource.group}"}})

    # The methods of ApiClient

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **_: Any) -> Object:
        await self._call("get", resource, name)
        return copy.deepcopy(self._get(resource, Key(namespace or "", name)))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = "", **_: Any
    ) -> Object:
        await self._call("list", resource, "")
        matches, fields = parse_labels(label_selector).matches, parse_fields(field_selector).requirements
        items = [
            obj for obj in self.all(resource, namespace) if matches(labels_of(obj)) and all(_field(obj, r.field) == r.value for r in fields)
        ]
        body = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": {"resourceVersion": str(self._revision)}}
        return {**body, "items": copy.deepcopy(items)}

    async def create(
        self,
        resource: Resource,
        obj: Object,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        **_: Any,
    ) -> Object:
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        await self._call(
            f"create/{subresource}" if subresource else "create", resource, meta.get("name") or name or meta.get("generateName", "")
        )
        if subresource == "token":
            return {**obj, "status": {"token": f"token of {name}"}}
        if subresource:
            return obj
        if resource.namespaced:
            meta["namespace"] = namespace or meta["namespace"]
        if not meta.get("name"):
            meta["name"] = meta["generateName"] + "".join(self._random.choices(ALPHABET, k=5))
        if Key(meta.get("namespace", ""), meta["name"]) in self.objects.setdefault(resource, {}):
            raise already_exists(resource, meta["name"])
        meta |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": format_time(self.clock.now()), "generation": 1}
        for field in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not meta.get(field):
                meta.pop(field, None)
        if resource == PODS:
            obj["status"] = {"phase": "Pending"}
        created = self._store(resource, obj, "ADDED")
        self._lose_answers()
        return copy.deepcopy(created)

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None, **_: Any) -> Object:
        meta = obj["metadata"]
        await self._call(f"update/{subresource}" if subresource else "update", resource, meta["name"])
        old = self._get(resource, Key(meta.get("namespace", ""), meta["name"]))
        if meta.get("resourceVersion") and meta["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise modified_conflict(resource, meta["name"])
        written = self._write(resource, old, copy.deepcopy(obj), subresource)
        self._lose_answers()
        return written

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, *, patch_type: PatchType,
        subresource: str | None = None, **_: Any,
    ) -> Object:  # fmt: skip
        await self._call(f"patch/{subresource}" if subresource else "patch", resource, name)
        old = self._get(resource, Key(namespace or "", name))
        wanted_uid = patch.get("metadata", {}).get("uid")
        if wanted_uid and wanted_uid != uid_of(old):
            raise conflict(resource, name, f"the UID in the precondition ({wanted_uid}) does not match the UID in record ({uid_of(old)})")
        written = self._write(resource, old, merged(old, patch, strategic=patch_type is PatchType.STRATEGIC), subresource)
        self._lose_answers()
        return written

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, options: Object | None = None, **_: Any
    ) -> Object:
        await self._call("delete", resource, name)
        options = options or {}
        old = self._get(resource, Key(namespace or "", name))
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != uid_of(old):
            raise conflict(resource, name, f"the UID in the precondition ({wanted}) does not match the UID in record ({uid_of(old)})")
        deleted = self._delete(resource, old, options)
        self._lose_answers()
        return copy.deepcopy(deleted)

    async def delete_collection(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", options: Object | None = None, **_: Any
    ) -> Object:
        await self._call("deletecollection", resource, "")
        matches = parse_labels(label_selector).matches
        for obj in self.all(resource, namespace):
            if matches(labels_of(obj)):
                self._delete(resource, obj, options or {})
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        """Discovery, and nothing else."""
        await self.clock.sleep(self.latency_seconds)
        return orjson.dumps(aggregated_discovery(path, self.custom))

    async def open_watch(self, resource: Resource, namespace: str | None = None, *, resource_version: str = "", **_: Any) -> FakeStream:
        await self.clock.sleep(self.latency_seconds)
        stream = FakeStream(self, resource, namespace)
        for revision, seen, event in self.history:
            if seen == resource and revision > int(resource_version or 0):
                stream.push(event)
        self.streams.append(stream)
        return stream

    # Inside

    def _lose_answers(self) -> None:
        """After a write took effect."""
        if self._random.random() < self.flaky / 2:
            raise ServiceUnavailable("the answer was lost")

    async def _call(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append((verb, resource.plural, name))
        await self.clock.sleep(self.latency_seconds)
        if verb not in ("get", "list") and self._random.random() < self.flaky / 2:
            raise ServiceUnavailable("the server is overloaded")
        for index, (failing_verb, plural, error, times) in enumerate(self._failures):
            if failing_verb == verb and plural == resource.plural:
                self._failures[index : index + 1] = [(verb, plural, error, times - 1)] if times > 1 else []
                raise error

    def _get(self, resource: Resource, key: Key) -> Object:
        obj = self.objects.get(resource, {}).get(key)
        if obj is None:
            raise not_found(resource, key.name)
        return obj

    def _write(self, resource: Resource, old: Object, new: Object, subresource: str | None) -> Object:
        if subresource in ("status", "approval"):
            annotations = new["metadata"].get("annotations")
            new = {
                **old,
                "metadata": {**old["metadata"], **({"annotations": annotations} if annotations else {})},
                "status": new.get("status"),
            }
        elif subresource != "finalize":
            new = {**new, **({"status": old["status"]} if "status" in old else {})}
            for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
                if field in old["metadata"]:
                    new["metadata"][field] = old["metadata"][field]
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if _unversioned(new) == _unversioned(old):
            return copy.deepcopy(old)
        if is_deleting(new) and _may_go(resource, new):
            self.remove(resource, new)
            return copy.deepcopy(new)
        return copy.deepcopy(self._store(resource, new, "MODIFIED"))

    def _delete(self, resource: Resource, old: Object, options: Object) -> Object:
        meta = dict(old["metadata"])
        finalizers = list(meta.get("finalizers") or ())
        policy = options.get("propagationPolicy")
        for wanted, finalizer in (("Foreground", FINALIZER_FOREGROUND), ("Orphan", FINALIZER_ORPHAN)):
            if policy == wanted and finalizer not in finalizers:
                finalizers.append(finalizer)
        grace = options.get("gracePeriodSeconds", 30 if resource == PODS and (old.get("spec") or {}).get("nodeName") else 0)
        new = {**old, "metadata": {**meta, **({"finalizers": finalizers} if finalizers else {})}}
        if resource == NAMESPACES:
            new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
        moment = self.clock.now() + timedelta(seconds=grace)
        new["metadata"] |= {"deletionTimestamp": meta.get("deletionTimestamp") or format_time(moment), "deletionGracePeriodSeconds": grace}
        if _may_go(resource, new):
            self.remove(resource, old)
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        if _unversioned(new) == _unversioned(old):
            return old
        return self._store(resource, new, "MODIFIED")

    def _stamped(self, obj: Object) -> Object:
        self._revision += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._revision)}}

    def _store(self, resource: Resource, obj: Object, event: str) -> Object:
        obj = self._stamped({"apiVersion": resource.api_version, "kind": resource.kind, **obj})
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{next(self._uids)}")
        meta.setdefault("creationTimestamp", format_time(self.clock.now()))
        self.objects.setdefault(resource, {})[Key(meta.get("namespace", ""), meta["name"])] = obj
        self._publish(resource, event, obj)
        return obj

    def _publish(self, resource: Resource, kind: str, obj: Object) -> None:
        event = WatchEvent(kind, copy.deepcopy(obj))
        self.history.append((self._revision, resource, event))
        for stream in self.streams:
            if stream.resource == resource:
                stream.push(event)


def _unversioned(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": ""}}


def _may_go(resource: Resource, obj: Object) -> bool:
    if obj["metadata"].get("finalizers") or (resource == NAMESPACES and (obj.get("spec") or {}).get("finalizers")):
        return False
    return resource != PODS or obj["metadata"].get("deletionGracePeriodSeconds", 0) == 0


def _field(obj: Object, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = (value or {}).get(part)
    return str(value or "")


def merged(old: Any, patch: Any, *, strategic: bool) -> Any:
    """A merge patch; `strategic` adds what controllers use: ownerReferences merged by uid, finalizers and lists of primitives added."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(old)
    for field, value in patch.items():
        if strategic and field.startswith("$deleteFromPrimitiveList/"):
            name = field.partition("/")[2]
            result[name] = [item for item in result.get(name, ()) if item not in value]
        elif strategic and field == "ownerReferences":
            result[field] = _merged_by(result.get(field) or [], value, "uid")
        elif strategic and field == "conditions":
            result[field] = _merged_by(result.get(field) or [], value, "type")
        elif strategic and field == "finalizers":
            result[field] = [*result.get(field, ()), *(item for item in value if item not in result.get(field, ()))]
        elif value is None:
            result.pop(field, None)
        else:
            result[field] = merged(result.get(field), value, strategic=strategic)
    return result


def _merged_by(old: list[Object], patch: list[Object], key: str) -> list[Object]:
    result = {item[key]: item for item in old}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item[key], None)
        else:
            result[item[key]] = {**result.get(item[key], {}), **item}
    return list(result.values())


def aggregated_discovery(prefix: str, custom: Sequence[Resource] = ()) -> Object:
    """What a server answers to GET /api or /apis."""
    groups: dict[str, dict[str, Any]] = {}
    for resource in (*BUILTIN, *custom):
        if resource.prefix.startswith(prefix + "/"):
            raw = {
                "resource": resource.plural, "singularResource": resource.singular,
                "responseKind": {"kind": resource.kind}, "verbs": list(resource.verbs),
                "scope": "Namespaced" if resource.namespaced else "Cluster",
            }  # fmt: skip
            groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(raw)
    items = [
        {"metadata": {"name": group}, "versions": [{"version": version, "resources": rows} for version, rows in versions.items()]}
        for group, versions in groups.items()
    ]
    return {"kind": "APIGroupDiscoveryList", "items": items}
