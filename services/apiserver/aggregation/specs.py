"""The OpenAPI documents of extension servers, fetched when somebody asks for ours and merged into them.

Imitates kube-aggregator's openapi and openapiv3 controllers. An extension that publishes only v2 gets a v3 document made out of that.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from kubecosm.api.resources import Object

from ..connect.backend import Backends
from ..openapi.handlers import digest_of
from ..openapi.upgrade import v3_of_v2
from ..state import State
from .discovered import fetch_json
from .localservices import GroupVersion
from .remote import RemoteService

FRESH_SECONDS = 60.0
FETCH_SECONDS_MAX = 5.0
_SECTIONS = ("definitions", "parameters")


class RemoteSpecs:
    """What the extension servers' documents add to ours, per group and version."""

    def __init__(self, state: State, backends: Backends) -> None:
        self._state, self._backends = state, backends
        self._fetched: dict[GroupVersion, float] = {}
        self._urls: dict[GroupVersion, dict[str, Object]] = {}
        """What each has in its own index: entries by name."""
        self._made: dict[GroupVersion, bytes] = {}
        """v3 documents of those that have no index."""
        self._v2: dict[GroupVersion, Object] = {}
        self.digest = ""
        """Tells whether anything has changed; empty when there is nothing."""

    def forget(self, key: GroupVersion) -> None:
        self._fetched.pop(key, None)
        if key in self._urls or key in self._v2:
            self._urls.pop(key, None)
            self._made.pop(key, None)
            self._v2.pop(key, None)
            self._sum_up()

    def urls(self) -> dict[str, Object]:
        """What they add to the index of /openapi/v3."""
        return {name: url for urls in self._urls.values() for name, url in urls.items()}

    def document(self, name: str) -> bytes | None:
        """The v3 document made for an extension that has none."""
        return next((made for key, made in self._made.items() if _name(key) == name), None)

    def merged(self, document: Object) -> Object:
        """Our v2 document with theirs in it."""
        for extension in self._v2.values():
            document = merge_v2(document, extension)
        return document

    def owner(self, name: str, remotes: dict[GroupVersion, RemoteService]) -> RemoteService | None:
        """Who serves the v3 document of that name, `apis/<group>/<version>` or `apis/<group>`."""
        found = (remote for key, remote in remotes.items() if key not in self._made and name in self._urls.get(key, ()))
        return next(found, None)

    async def refresh(self, remotes: dict[GroupVersion, RemoteService]) -> None:
        """Fetch what is missing or old, from all at once."""
        now = self._state.clock.monotonic()
        due = [r for key, r in remotes.items() if r.is_available and now - self._fetched.get(key, -FRESH_SECONDS) >= FRESH_SECONDS]
        if not due:
            return
        async with asyncio.TaskGroup() as tasks:
            for remote in due:
                self._fetched[remote.key] = now
                tasks.create_task(self._fetch(remote), name=f"openapi of {remote.name}")
        self._sum_up()

    async def _fetch(self, remote: RemoteService) -> None:
        key = remote.key
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                index = await fetch_json(self._state, self._backends, remote, "/openapi/v3", "application/json")
                document = await fetch_json(self._state, self._backends, remote, "/openapi/v2", "application/json")
        except TimeoutError:
            return  # what was known stays
        if isinstance(document, dict):
            self._v2[key] = only_paths(document, remote.discovery_path)
        if isinstance(index, dict):
            self._made.pop(key, None)
            names = (_name(key), f"apis/{key[0]}")
            self._urls[key] = {name: url for name, url in (index.get("paths") or {}).items() if name in names}
        elif isinstance(document, dict):
            made = self._made[key] = orjson.dumps(v3_of_v2({**document, **self._v2[key]}))
            self._urls[key] = {_name(key): {"serverRelativeURL": f"/openapi/v3/{_name(key)}?hash={digest_of(made)}"}}

    def _sum_up(self) -> None:
        known = sorted([(*key, orjson.dumps([self._urls.get(key), self._v2.get(key)]).hex()) for key in {*self._urls, *self._v2}])
        self.digest = hashlib.sha256(orjson.dumps(known)).hexdigest() if known else ""


def _name(key: GroupVersion) -> str:
    group, version = key
    return f"apis/{group}/{version}" if group else f"api/{version}"


def only_paths(document: Object, prefix: str) -> Object:
    """The part of a v2 document that describes the paths below a prefix, with what these refer to."""
    paths = {path: item for path, item in (document.get("paths") or {}).items() if path == prefix or path.startswith(f"{prefix}/")}
    kept: dict[str, Object] = {section: {} for section in _SECTIONS}
    waiting: list[Any] = [paths]
    while waiting:
        for section, name in references(waiting.pop()):
            found = (document.get(section) or {}).get(name)
            if found is not None and name not in kept[section]:
                kept[section][name] = found
                waiting.append(found)
    return {"paths": paths, **kept}


def references(node: Any) -> Iterator[tuple[str, str]]:
    """The (section, name) of every `$ref` in a part of a v2 document."""
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str) and target.count("/") == 2:
            _, section, name = target.split("/")
            if section in _SECTIONS:
                yield section, name
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def merge_v2(document: Object, extension: Object) -> Object:
    """Both in one; a definition that differs from ours of the same name gets another name, paths we have stay ours."""
    renamed: dict[tuple[str, str], str] = {}
    for section in _SECTIONS:
        ours = document.get(section) or {}
        for name, value in extension[section].items():
            if name in ours and ours[name] != value:
                renamed[section, name] = _free_name(name, {*ours, *extension[section]})
    merged = {**document, "paths": {**_renamed(extension["paths"], renamed), **(document.get("paths") or {})}}
    for section in _SECTIONS:
        theirs = {renamed.get((section, name), name): _renamed(value, renamed) for name, value in extension[section].items()}
        merged[section] = {**theirs, **(document.get(section) or {})}
    return merged


def _free_name(name: str, taken: Iterable[str]) -> str:
    number, names = 2, set(taken)
    while f"{name}_v{number}" in names:
        number += 1
    return f"{name}_v{number}"


def _renamed(node: Any, renamed: dict[tuple[str, str], str]) -> Any:
    if not renamed:
        return node
    if isinstance(node, list):
        return [_renamed(child, renamed) for child in node]
    if not isinstance(node, dict):
        return node
    result = {key: _renamed(child, renamed) for key, child in node.items()}
    target = result.get("$ref")
    if isinstance(target, str) and target.count("/") == 2:
        _, section, name = target.split("/")
        result["$ref"] = f"#/{section}/{renamed.get((section, name), name)}"
    return result
