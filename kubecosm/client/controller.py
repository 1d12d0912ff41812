"""What a controller declares and what it is handed; kubecosm.client.runner does the rest.

A controller is a module (or any object) with `SPEC` and `async reconcile(ctx, key) -> Result`. It reads from caches, plans, and writes
through `ctx.client`. It never owns a queue, a task or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubecosm.api.meta import Key, controller_of, uid_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import Informer, InformerFactory
from kubecosm.client.metrics import Family, Meter
from kubecosm.client.store import IndexFn, Store
from kubecosm.client.workqueue import BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

INDEX_CONTROLLER_UID = "controller-uid"
"""Objects by the uid of the ownerReference that has controller: true."""
INDEX_ORPHAN_NAMESPACE = "orphan-namespace"
"""Objects without such an ownerReference, by namespace: what may be adopted."""


class ReconcileError(Exception):
    """An expected failure of a work item that is no answer of the server: told in one line, and tried again after a back-off."""


class Result(NamedTuple):
    """How a work item ended well: never again unless something changes, or again after so many seconds at the latest."""

    requeue_after_seconds: float | None = None
    rest_seconds: float = 0.0


_DONE = Result()


def done(*, rest_seconds: float = 0.0) -> Result:
    """Nothing more to do until something changes.

    `rest_seconds` > 0: and then no sooner than after so many seconds of real time, so that a work item that is dear (a thousand pods to
    count) takes many changes at once.
    """
    return Result(rest_seconds=rest_seconds) if rest_seconds else _DONE


def requeue(*, after_seconds: float, rest_seconds: float = 0.0) -> Result:
    """Look again after so many seconds, or sooner if something changes; `rest_seconds` as for `done`."""
    return Result(after_seconds, rest_seconds)


class Reader:
    """A controller's view of the caches it declared."""

    def __init__(self, controller: str, informers: Mapping[Resource, Informer]) -> None:
        self._controller = controller
        self._informers = informers

    def cache(self, resource: Resource) -> Store:
        """The cache of a resource that the spec names in primary, owns, watches or reads; KeyError for any other."""
        informer = self._informers.get(resource)
        if informer is None:
            what = resource.group_resource
            raise KeyError(f"controller {self._controller} reads {what}, but its SPEC does not name it: add it to `reads`")
        return informer.store

    def owned(self, resource: Resource, owner: Object) -> list[Object]:
        """The objects whose managing controller is `owner` (by uid)."""
        return self.cache(resource).by_index(INDEX_CONTROLLER_UID, uid_of(owner))

    def orphans(self, resource: Resource, namespace: str) -> list[Object]:
        """The objects of the namespace that have no managing controller."""
        return self.cache(resource).by_index(INDEX_ORPHAN_NAMESPACE, namespace)


MapFn = Callable[[Reader, Object], Iterable[Key]]
"""From an object of a watched resource to the keys it matters to."""
ChangeFilter = Callable[[Object, Object], bool]
"""(old, new) → whether the controller cares."""


@dataclass(frozen=True)
class ControllerSpec:
    """What wakes a controller, and what it reads."""

    name: str
    primary: Resource | None = None
    """Each of its objects is a work item, woken by its own changes."""
    owns: tuple[Resource, ...] = ()
    """A change of such an object wakes the primary object that controls it."""
    watches: Mapping[Resource, MapFn] = field(default_factory=dict)
    """A change of such an object wakes the keys that its function names (for an update: of the old and of the new state)."""
    reads: tuple[Resource, ...] = ()
    """Cached for reading; wakes nothing."""
    cares: Mapping[Resource, ChangeFilter] = field(default_factory=dict)
    """Updates of a resource that the filter refuses wake nothing; for busy resources such as nodes."""
    wait_seconds: Mapping[Resource, float] = field(default_factory=dict)
    """How long a work item waits after a change of such an object (primary or watched), so that it takes many changes at once."""
    indexers: Mapping[Resource, Mapping[str, IndexFn]] = field(default_factory=dict)
    """More indexes for the caches."""
    seeds: tuple[Key, ...] = ()
    """Work items added once at the start: for controllers that work on a schedule."""
    workers: int = 5
    """Work items at once."""
    retry_seconds: tuple[float, float] = (BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX)
    """How long a work item waits after its first failure, doubled with each, and at most. Where the first is longer than the default,
    changes do not cut it short: what is refused is not asked for again at every change of a pod."""
    connect: Callable[[InformerFactory, Callable[[Key], None]], None] | None = None
    """Called once, before anything runs, with the shared informers and the function that wakes a key: for a controller that follows
    resources it learns of only at run time."""
    metrics: tuple[Family, ...] = ()
    """What it counts, through `ctx.meter`."""
    component: str = ""
    """The source of its events; `<name>-controller` unless given."""

    @property
    def event_source(self) -> str:
        return self.component or f"{self.name}-controller"

    def resources(self) -> tuple[Resource, ...]:
        """All resources whose caches it needs, once each."""
        primary = (self.primary,) if self.primary else ()
        return tuple(dict.fromkeys((*primary, *self.owns, *self.watches, *self.reads)))


@dataclass
class Writes:
    """What one run of a work item wrote and its caches must have seen before the next run."""

    versions: dict[Informer, int] = field(default_factory=dict)
    deletions: list[tuple[Informer, Object]] = field(default_factory=list)


class Context(Reader):
    """Handed to `reconcile`: one for each run of a work item."""

    def __init__(
        self, controller: str, informers: Mapping[Resource, Informer], *, client: ApiClient, clock: Clock, random: Random,
        recorder: EventRecorder, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(controller, informers)
        self.client = client
        self.clock = clock
        self.random = random
        self.recorder = recorder
        self.meter = meter or Meter()
        self.writes = Writes()

    def expect_written(self, obj: Object) -> None:
        """Do not run this work item again before the cache has seen this answer of a create, update, patch or graceful delete.

        Without it a stale cache makes a controller create the same object twice. Resources without a cache are ignored.
        """
        informer, version = self._informer_of(obj), obj["metadata"].get("resourceVersion")
        if informer is not None and version:
            self.writes.versions[informer] = max(int(version), self.writes.versions.get(informer, 0))

    def expect_deleted(self, obj: Object) -> None:
        """Do not run this work item again before the cache has seen that this object is gone or terminates."""
        informer = self._informer_of(obj)
        if informer is not None:
            self.writes.deletions.append((informer, obj))

    def _informer_of(self, obj: Object) -> Informer | None:
        identity = obj.get("apiVersion"), obj.get("kind")
        return next((i for r, i in self._informers.items() if (r.api_version, r.kind) == identity), None)


class Controller(Protocol):
    """What the runner runs; a module with these two names is one."""

    @property
    def SPEC(self) -> ControllerSpec: ...

    @property
    def reconcile(self) -> Reconcile: ...


class Reconcile(Protocol):
    """Bring the world a step closer to what the object `key` asks for. An exception means: again, after a back-off."""

    async def __call__(self, ctx: Context, key: Key, /) -> Result: ...


def controller_uids(obj: Object) -> Collection[str]:
    """The index function behind `Reader.owned`."""
    ref = controller_of(obj)
    return (ref["uid"],) if ref else ()


def orphan_namespaces(obj: Object) -> Collection[str]:
    """The index function behind `Reader.orphans`."""
    return (obj["metadata"].get("namespace", ""),) if controller_of(obj) is None else ()


OWNER_INDEXERS: Mapping[str, IndexFn] = {INDEX_CONTROLLER_UID: controller_uids, INDEX_ORPHAN_NAMESPACE: orphan_namespaces}
"""The indexes that `owned` and `orphans` need; every resource that a spec owns has them, for others name them in `indexers`."""
