"""Serves what definitions describe: follows them in the storage and keeps the resource table, stores and caches in step.

A definition is served in the same turn of the loop in which its write is published, before its writer has an answer. Pure decisions are
made in `names` and `rows`; `upkeep` writes what they come to into the definitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kubecosm.api.resources import CUSTOMRESOURCEDEFINITIONS, CustomResource, Object

from ..cache.caches import prefix_of
from ..cache.entry import Attributes
from ..rest.storedkind import selectable_of
from ..state import State
from ..storage.contract import Change, Subscription
from .conversion import WebhookConverter
from .names import Decision, decide
from .rows import ENDING_VERBS, rows_of, selectable_paths, version_priority
from .store import CustomResourceStore
from .strategy import CustomResourceStrategy

PREFIX = prefix_of(CUSTOMRESOURCEDEFINITIONS.group, CUSTOMRESOURCEDEFINITIONS.plural)


@dataclass
class Served:
    """One definition being served."""

    described: Object
    """All that the rows are made from."""
    rows: list[CustomResource]
    stored: CustomResource
    attributes: Any
    """What selectors see of an instance; the cache asks for it each time, so it may change."""


class Registrar:
    """The custom resources of one server. `load` before the caches start, `follow` after."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._served: dict[str, Served] = {}
        self._names: dict[str, tuple[str, Object]] = {}  # definition → (group, accepted names)
        self._subscription: Subscription | None = None
        self.dirty: dict[str, None] = {}
        """Definitions whose status or instances need a look, oldest first; at most one entry each."""
        self.wake = asyncio.Event()

    async def load(self) -> None:
        """Serve what is stored, so that the caches are filled with the instances when they start."""
        listed = await self._state.storage.list(prefix=PREFIX)
        found = [orjson.loads(item.value) for item in listed.items]
        for crd in found:
            if names := (crd.get("status") or {}).get("acceptedNames"):
                self._names[crd["metadata"]["name"]] = crd["spec"]["group"], names
        for crd in found:
            self._observe(crd)

    async def follow(self) -> None:
        """Take in the changes of definitions from now on."""
        self._subscription = await self._state.storage.subscribe(
            prefix=PREFIX, after_revision=self._state.caches.revision, deliver=self._deliver
        )

    def stop(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def touch(self, name: str) -> None:
        """Have a look at a definition soon."""
        self.dirty[name] = None
        self.wake.set()

    def decision(self, crd: Object) -> Decision:
        """The names a definition gets beside those that are served."""
        name, group = crd["metadata"]["name"], crd["spec"]["group"]
        others = [names for other, (its_group, names) in self._names.items() if other != name and its_group == group]
        return decide(crd, others)

    def stores_of(self, name: str) -> list[CustomResourceStore]:
        """The stores of a definition that is served, best version first."""
        served = self._served.get(name)
        if served is None:
            return []
        found = [self._state.stores[row.group, row.version, row.plural] for row in served.rows]
        return [store for store in found if isinstance(store, CustomResourceStore)]

    def _deliver(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.value is None:
                self._withdraw(change.key.removeprefix(PREFIX))
            else:
                self._observe(orjson.loads(change.value))

    def _observe(self, crd: Object) -> None:
        name, decision = crd["metadata"]["name"], self.decision(crd)
        self.touch(name)
        self._names[name] = crd["spec"]["group"], decision.names
        if decision.conflict and name not in self._served:
            return
        described = {"spec": crd["spec"], "names": decision.names, "ends": bool(crd["metadata"].get("deletionTimestamp"))}
        served = self._served.get(name)
        if served is None or served.described != described:
            self._serve(name, crd, decision, described)

    def _serve(self, name: str, crd: Object, decision: Decision, described: Object) -> None:
        """(Re)place the stores and rows. Open watches go on: the cache stays."""
        state = self._state
        rows, stored = rows_of(crd, decision.names)
        selectable = selectable_paths(crd["spec"]["versions"])
        attributes = selectable_of(CustomResourceStrategy(stored, selectable))
        before = self._served.get(name)
        self._served[name] = Served(described, rows, stored, attributes)

        def current(obj: Object) -> Attributes:
            found: Attributes = self._served[name].attributes(obj)
            return found

        cache = state.caches.add(stored.group, stored.plural, current, namespaced=stored.namespaced)
        if before is not None:
            self._drop_rows(before)
        conversion = crd["spec"].get("conversion") or {}
        config = (conversion.get("webhook") or {}).get("clientConfig") if conversion.get("strategy") == "Webhook" else None
        converter, is_only = WebhookConverter(state, config) if config else None, len(crd["spec"]["versions"]) == 1
        own = {version["name"]: selectable_paths([version]) for version in crd["spec"]["versions"]}
        for row in rows:
            store = CustomResourceStore(state, row, stored, cache, own[row.version], lambda: self._instance_gone(name), converter, is_only)
            store.is_ending = described["ends"]
            state.stores[row.group, row.version, row.plural] = store
            state.table.add(replace(row, verbs=ENDING_VERBS) if store.is_ending else row)
        self._sort_group(stored.group)
        state.admission.forget()

    def _instance_gone(self, name: str) -> None:
        served = self._served.get(name)
        if served is not None and served.described["ends"]:
            self.touch(name)

    def _sort_group(self, group: str) -> None:
        """Custom rows of a group stand in the order of their versions, so that discovery prefers the most stable one."""
        table = self._state.table
        rows = [row for row in table if row.group == group and isinstance(row, CustomResource)]
        for row in rows:
            table.remove(row)
        for row in sorted(rows, key=lambda row: (version_priority(row.version), row.plural)):
            table.add(row)

    def _drop_rows(self, served: Served) -> None:
        for row in served.rows:
            self._state.table.remove(row)
            self._state.stores.pop((row.group, row.version, row.plural), None)

    def _withdraw(self, name: str) -> None:
        """A definition is gone: end the watches of its instances; names that others wait for are free."""
        served = self._served.pop(name, None)
        group, _ = self._names.pop(name, ("", {}))
        self.dirty.pop(name, None)
        if served is not None:
            self._drop_rows(served)
            self._state.caches.remove(served.stored.group, served.stored.plural)
        for other, (its_group, _) in list(self._names.items()):
            entry = self._state.store(*_DEFINITIONS).cache.get(other) if its_group == group else None
            if entry is not None:
                self._observe(entry.decode())


_DEFINITIONS = (CUSTOMRESOURCEDEFINITIONS.group, CUSTOMRESOURCEDEFINITIONS.version, CUSTOMRESOURCEDEFINITIONS.plural)
