"""Keeps flows and levels in step with the FlowSchemas and PriorityLevelConfigurations, and moves seats between levels.

The configuration is digested in the same turn of the loop in which a change is published. Imitates apf_controller.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kubecosm.api.resources import Object, builtin
from kubecosm.runtime.clock import Clock

from ..authn.user import GROUP_MASTERS
from ..cache.caches import Caches, prefix_of
from ..http.info import READ_ONLY_VERBS
from ..http.request import Request
from ..storage.contract import Change, Store, Subscription
from .allocation import Used, bounds_of, lend
from .bootstrap import CATCH_ALL, EXEMPT, MANDATORY, default_levels, default_schemas
from .dispatcher import Dispatcher
from .flows import Flow, FlowStats
from .level import Level, level_spec
from .matching import distinguisher, find_schema, in_order
from .retry import RetryAfter

GROUP = "flowcontrol.apiserver.k8s.io"
FLOWSCHEMAS = builtin(GROUP, "v1", "flowschemas")
LEVELS = builtin(GROUP, "v1", "prioritylevelconfigurations")
BORROWING_SECONDS = 10.0
"""How often seats move between levels (borrowingAdjustmentPeriod)."""
WAIT_SHARE = 0.25
"""Part of a request's time that it may wait for seats."""


class FlowController:
    """The priority and fairness of one server. `follow` it once the caches are filled."""

    def __init__(self, caches: Caches, storage: Store, clock: Clock, *, seats: int, request_seconds: float) -> None:
        """`seats`: how many there are in all."""
        self.caches = caches
        self.now: Callable[[], float] = clock.monotonic
        self.dispatcher = Dispatcher(self.now, request_seconds * WAIT_SHARE)
        self.seats = seats
        self.levels: dict[str, Level] = {}
        self.quiescing: dict[str, Level] = {}
        """Levels whose object is gone, while requests still use them."""
        self.stats: dict[tuple[str, str, bool], FlowStats] = {}
        self.changed = asyncio.Event()
        """The objects have changed: conditions may need an update, defaults may be missing."""
        self._storage = storage
        self.epoch = 0
        """Grows with every change of the objects: flows found before are out of date."""
        self._schemas: Sequence[Object] = ()
        self._exempt: dict[bool, Flow] = {}
        self._retry: dict[str, RetryAfter] = {}
        self._stale = True
        self._subscription: Subscription | None = None

    async def follow(self) -> None:
        """Take in changes from now on."""
        self._subscription = await self._storage.subscribe(
            prefix=prefix_of(GROUP, "").removesuffix("/"), after_revision=self.caches.revision, deliver=self._deliver
        )

    def stop(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def _deliver(self, _changes: Sequence[Change]) -> None:
        self._stale = True
        self.epoch += 1
        self.changed.set()

    # ---- which flow a request belongs to

    def flow_of(self, request: Request) -> Flow:
        """The flow of an authenticated request, found once for those that are alike."""
        alike = request.alike
        flow = alike.flow
        if flow is None or alike.flow_epoch != self.epoch:
            flow = alike.flow = self._find(request)
            alike.flow_epoch = self.epoch
        return flow

    def _find(self, request: Request) -> Flow:
        if self._stale:
            self._digest()
        if GROUP_MASTERS in request.user.groups:
            return self._exempt[request.verb not in READ_ONLY_VERBS]
        schema = find_schema(self._schemas, request.user, request.verb, request.info) or self._named(CATCH_ALL)
        return self._flow(schema, distinguisher(schema, request.user, request.info), request.verb not in READ_ONLY_VERBS)

    def _named(self, name: str) -> Object:
        return next(schema for schema in self._schemas if schema["metadata"]["name"] == name)

    def _flow(self, schema: Object, distinct: str, mutating: bool) -> Flow:
        meta = schema["metadata"]
        level = self.levels[schema["spec"]["priorityLevelConfiguration"]["name"]]
        key = (meta["name"], level.name, mutating)
        stats = self.stats.get(key)
        if stats is None:
            stats = self.stats[key] = FlowStats(*key)
        return Flow(meta["name"], meta.get("uid", ""), distinct, level, stats)

    def retry_after(self, level: Level) -> int:
        """A request of the level has been rejected: how long to tell its client to stay away, in seconds."""
        return self._retry.setdefault(level.name, RetryAfter()).rejected(self.now())

    def in_flight(self) -> tuple[int, int]:
        """(reads, writes) being served."""
        executing = {False: 0, True: 0}
        for stats in self.stats.values():
            executing[stats.mutating] += stats.executing
        return executing[False], executing[True]

    # ---- the configuration

    def _digest(self) -> None:
        """Levels, seats and flows as the objects have them now."""
        self._stale = False
        specs = {spec.name: spec for spec in map(level_spec, self._objects(LEVELS.plural, default_levels()))}
        for name in [name for name in self.levels if name not in specs]:
            self.quiescing[name] = self.levels.pop(name)
        for name, spec in specs.items():
            level = self.levels.get(name)
            if level is None:
                level = self.levels[name] = self.quiescing.get(name) or Level(spec, self.now())
            level.configure(spec)
        self.quiescing = {name: level for name, level in self.quiescing.items() if name not in specs and level.in_use}
        total = sum(spec.shares for spec in specs.values())
        for level in self.levels.values():
            spec = level.spec
            bounds = bounds_of(spec.shares, total, self.seats, spec.lendable_percent, spec.borrowing_percent)
            if bounds != level.bounds:
                level.bounds, level.limit = bounds, bounds.nominal
        schemas = self._objects(FLOWSCHEMAS.plural, default_schemas())
        self._schemas = in_order(s for s in schemas if s["spec"]["priorityLevelConfiguration"]["name"] in self.levels)
        exempt = self._named(EXEMPT)
        self._exempt = {mutating: self._flow(exempt, "", mutating) for mutating in (False, True)}
        self.dispatcher.kick()

    def _objects(self, plural: str, defaults: Sequence[Object]) -> list[Object]:
        """What is stored; the mandatory ones are there even if somebody has just deleted them."""
        cache = self.caches.find(GROUP, plural)
        stored = [entry.decode() for entry in cache.entries()] if cache is not None else []
        names = {obj["metadata"]["name"] for obj in stored}
        return stored + [obj for obj in defaults if obj["metadata"]["name"] in MANDATORY - names]

    # ---- borrowing

    async def lend_forever(self, clock: Clock) -> None:
        """Every period, seats go where they were wanted."""
        while True:
            await clock.sleep(BORROWING_SECONDS)
            self.lend()

    def lend(self) -> None:
        """Divide the seats anew by the demand of the period that ends."""
        now = self.now()
        limited = [level for level in self.levels.values() if not level.exempt]
        used = []
        for level in limited:
            highest = level.demand.highest
            used.append(Used(level.bounds, highest, level.demand.end_period(now)))
            level.target = used[-1].target
        seats = lend(used)
        for level, share in zip(limited, seats, strict=True):
            level.limit = max(round(share), min(1, level.bounds.nominal))
        self.dispatcher.kick()
