"""List and watch one resource for ever, as an explicit state machine: Empty → Listing → Listed → Watching.

`advance` is the machine, a pure function (state, input) → (events, state); `Watcher.step` does the one effect that the state asks for and
feeds its outcome to `advance`. Waiting between failed steps is not decided here: see kubecosm.client.backoff.

            page with continue        last page             watch opened
    Empty ────────────────► Listing ────────────► Listed ────────────────► Watching
      ▲                        │                  │    ▲                      │
      └────────────────────────┴──── 410 ─────────┘    └── end, disconnect ───┘   (410 → Empty from anywhere)

The shape is kube-rs's watcher, the rules are client-go's Reflector: bookmarks advance the position, an expired position means a new
list, the first list may come from the server's cache (resourceVersion=0), one after a 410 may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from kubecosm.api.errors import ApiError, from_status
from kubecosm.api.resources import Object, Resource
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.client.stream import WatchEvent, WatchStream

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

WATCH_TIMEOUT_SECONDS_MIN = 300
"""Each watch asks the server to end it after a random time of one to two times this, so that watches do not all end at once."""
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner than this and without an event counts as a failure, else a broken server would be asked in a tight loop."""


class Init(NamedTuple):
    """A new list begins: all that follows until InitDone replaces what was known."""


class InitApply(NamedTuple):
    """An object of the list."""

    object: Object


class InitDone(NamedTuple):
    """The list is complete as of this version; objects it did not name are gone."""

    resource_version: str


class Apply(NamedTuple):
    """An object was created or changed."""

    object: Object


class Delete(NamedTuple):
    """An object was deleted; this is its last state."""

    object: Object


class Bookmark(NamedTuple):
    """Nothing changed up to this version."""

    resource_version: str


Event = Init | InitApply | InitDone | Apply | Delete | Bookmark


@dataclass(frozen=True)
class Empty:
    """Nothing is known. `from_cache`: the server may answer the list from its cache, however old."""

    from_cache: bool = True


@dataclass(frozen=True)
class Listing:
    """Some pages have been read."""

    continue_token: str


@dataclass(frozen=True)
class Listed:
    """Everything is known as of this version; no watch is open."""

    resource_version: str


@dataclass(frozen=True)
class Watching:
    """A watch is open and everything up to this version has been seen."""

    resource_version: str
    stream: WatchStream = field(compare=False, repr=False)


State = Empty | Listing | Listed | Watching


class Page(NamedTuple):
    """Input: the answer to a list request."""

    body: Object


class Opened(NamedTuple):
    """Input: the answer to a watch request."""

    stream: WatchStream


class Batch(NamedTuple):
    """Input: what came from the watch; never an ERROR event, which is a Failed."""

    events: Sequence[WatchEvent]


class Ended(NamedTuple):
    """Input: the server ended the watch, or the connection broke."""


class Failed(NamedTuple):
    """Input: the server refused, by answer or by an ERROR event."""

    error: ApiError


Input = Page | Opened | Batch | Ended | Failed


class WatchTooShort(Exception):
    """The server ended a watch at once and without an event."""


def advance(state: State, given: Input) -> tuple[list[Event], State]:
    """What happened, and the next state. Raises TypeError for an input that cannot occur in the state."""
    match state, given:
        case ((Empty() | Listing()), Page(body)):
            return _on_page(state, body)
        case Listed(version), Opened(stream):
            return [], Watching(version, stream)
        case Watching(), Batch(events):
            return _on_batch(state, events)
        case Watching(version), Ended():
            return [], Listed(version)
        case ((Empty() | Listing() | Listed()), Ended()):
            return [], state
        case _, Failed(error):
            return [], _on_failed(state, error)
    raise TypeError(f"{type(given).__name__} cannot happen in state {type(state).__name__}")


def _on_page(state: Empty | Listing, body: Object) -> tuple[list[Event], State]:
    meta = body["metadata"]
    events: list[Event] = [Init()] if isinstance(state, Empty) else []
    api_version, kind = body.get("apiVersion"), body.get("kind", "").removesuffix("List")
    for item in body.get("items") or ():
        # Items of a list do not name their kind on the wire; events of a watch do. Consumers see no difference.
        if "kind" not in item and kind:
            item = {"kind": kind, "apiVersion": api_version, **item}
        events.append(InitApply(item))
    if meta.get("continue"):
        return events, Listing(meta["continue"])
    version = meta.get("resourceVersion", "")
    events.append(InitDone(version))
    return events, Listed(version)


def _on_batch(state: Watching, batch: Sequence[WatchEvent]) -> tuple[list[Event], State]:
    events: list[Event] = []
    version = state.resource_version
    for kind, obj in batch:
        version = obj["metadata"]["resourceVersion"]
        if kind == "MODIFIED" or kind == "ADDED":
            events.append(Apply(obj))
        elif kind == "DELETED":
            events.append(Delete(obj))
        elif kind == "BOOKMARK":
            events.append(Bookmark(version))
        else:
            raise ValueError(f"unknown watch event type {kind!r}")
    return events, Watching(version, state.stream)


def _on_failed(state: State, error: ApiError) -> State:
    if error.code == 410 or _is_version_too_large(error):
        return Empty(from_cache=False)
    if isinstance(state, Watching):
        return Listed(state.resource_version)
    return state


def _is_version_too_large(error: ApiError) -> bool:
    """The server knows nothing as new as our position: it was put back to an older state. Only a new list helps."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes) or "Too large resource version" in error.message


class Watcher:
    """Follows one resource. Not for concurrent use; whoever steps it decides how long to wait after a failure."""

    def __init__(
        self, client: ApiClient, resource: Resource, *, clock: Clock, random: Random, namespace: str | None = None,
        label_selector: str = "", field_selector: str = "", page_items: int = 0,
    ) -> None:  # fmt: skip
        """`page_items` > 0 reads lists in pages from storage; 0 takes the whole list from the server's cache, which is faster."""
        self.state: State = Empty()
        self._client, self._resource, self._namespace = client, resource, namespace
        self._clock, self._random = clock, random
        self._label_selector, self._field_selector = label_selector, field_selector
        self._page_items = page_items
        self._watch_started = 0.0
        self._watch_had_events = False
        self._pending_error: ApiError | None = None
        self.watched_seconds = 0.0
        """How long the watch had been open that the last step ended; 0 if it ended none."""

    async def step(self) -> list[Event]:
        """Do what the state asks for: list a page, open the watch, or wait for its next events.

        Raises ApiError, a transport error, ValueError (undecodable answer) or WatchTooShort; `state` is then already where to go on from.
        """
        self.watched_seconds = 0.0
        try:
            given = await self._act(self.state)
        except ApiError as error:
            await self._move(Failed(error))
            raise
        except (*TRANSPORT_ERRORS, ValueError):
            await self._move(Ended())
            raise
        events = await self._move(given)
        if isinstance(given, Ended) and not self._watch_had_events and self.watched_seconds < SHORT_WATCH_SECONDS:
            raise WatchTooShort(f"the watch of {self._resource.group_resource} ended at once")
        return events

    async def aclose(self) -> None:
        """Close the open watch, if any; a later step resumes where it was."""
        await self._move(Ended())

    async def _act(self, state: State) -> Input:
        match state:
            case Empty(from_cache):
                cached = from_cache and not self._page_items
                return Page(await self._list(resource_version="0" if cached else ""))
            case Listing(token):
                return Page(await self._list(continue_token=token))
            case Listed(version):
                return Opened(await self._open(version))
            case Watching(_, stream):
                return await self._read(stream)

    async def _list(self, resource_version: str = "", continue_token: str = "") -> Object:
        return await self._client.list(
            self._resource, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector,
            limit=self._page_items, resource_version=resource_version, continue_token=continue_token,
        )  # fmt: skip

    async def _open(self, version: str) -> WatchStream:
        timeout = int(WATCH_TIMEOUT_SECONDS_MIN * (1 + self._random.random()))
        stream = await self._client.open_watch(
            self._resource, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector,
            resource_version=version, timeout_seconds=timeout,
        )  # fmt: skip
        self._watch_started, self._watch_had_events = self._clock.monotonic(), False
        self._pending_error = None
        return stream

    async def _read(self, stream: WatchStream) -> Input:
        if self._pending_error is not None:
            error, self._pending_error = self._pending_error, None
            raise error
        batch = await stream.read()
        if batch is None:
            return Ended()
        self._watch_had_events = True
        failed = next((place for place, event in enumerate(batch) if event.type == "ERROR"), None)
        if failed is None:
            return Batch(batch)
        error = from_status(batch[failed].object)
        if failed == 0:
            raise error
        self._pending_error = error
        return Batch(batch[:failed])

    async def _move(self, given: Input) -> list[Event]:
        before = self.state
        events, self.state = advance(before, given)
        if isinstance(before, Watching) and not isinstance(self.state, Watching):
            self.watched_seconds = self._clock.monotonic() - self._watch_started
            await before.stream.aclose()
        return events
