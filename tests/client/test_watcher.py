"""The watcher: its state machine as a table, and the machine driven against a scripted server in virtual time."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kubecosm.api.errors import ApiError, Expired, Forbidden, Timeout
from kubecosm.api.resources import PODS, Object
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.client.stream import WatchEvent
from kubecosm.client.watcher import (
    Apply,
    Batch,
    Bookmark,
    Delete,
    Empty,
    Ended,
    Event,
    Failed,
    Init,
    InitApply,
    InitDone,
    Input,
    Listed,
    Listing,
    Opened,
    Page,
    State,
    Watcher,
    Watching,
    WatchTooShort,
    advance,
)
from kubecosm.testing.scripted import ScriptedServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

STREAM: Any = object()
EXPIRED = Expired("too old resource version: 5 (90)")
DENIED = Forbidden("pods is forbidden")
TOO_LARGE = Timeout("Too large resource version: 99, current: 5", details={"causes": [{"reason": "ResourceVersionTooLarge"}]})


def pod(name: str, version: int) -> Object:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}}


def pod_list(version: int, *items: Object, token: str = "") -> Object:
    meta = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    bare = [{"metadata": item["metadata"]} for item in items]
    return {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": bare}


A, B = pod("a", 4), pod("b", 5)
ADDED, MODIFIED, DELETED = WatchEvent("ADDED", pod("a", 6)), WatchEvent("MODIFIED", pod("b", 7)), WatchEvent("DELETED", pod("a", 8))
BOOKMARK = WatchEvent("BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}})

TABLE: dict[str, tuple[State, Input, list[Event], State]] = {
    "the only page of a list": (Empty(), Page(pod_list(5, A, B)), [Init(), InitApply(A), InitApply(B), InitDone("5")], Listed("5")),
    "an empty list": (Empty(), Page(pod_list(5)), [Init(), InitDone("5")], Listed("5")),
    "the first page": (Empty(), Page(pod_list(5, A, token="t")), [Init(), InitApply(A)], Listing("t")),
    "a page in the middle": (Listing("t"), Page(pod_list(5, A, token="u")), [InitApply(A)], Listing("u")),
    "the last page": (Listing("u"), Page(pod_list(5, B)), [InitApply(B), InitDone("5")], Listed("5")),
    "the watch opens": (Listed("5"), Opened(STREAM), [], Watching("5", STREAM)),
    "events": (
        Watching("5", STREAM), Batch([ADDED, MODIFIED, DELETED]),
        [Apply(ADDED.object), Apply(MODIFIED.object), Delete(DELETED.object)], Watching("8", STREAM),
    ),
    "a bookmark advances the position": (Watching("5", STREAM), Batch([BOOKMARK]), [Bookmark("9")], Watching("9", STREAM)),
    "the watch ends": (Watching("8", STREAM), Ended(), [], Listed("8")),
    "the list request breaks": (Empty(), Ended(), [], Empty()),
    "a page request breaks": (Listing("t"), Ended(), [], Listing("t")),
    "the watch request breaks": (Listed("5"), Ended(), [], Listed("5")),
    "the list is refused": (Empty(), Failed(DENIED), [], Empty()),
    "a page is refused": (Listing("t"), Failed(DENIED), [], Listing("t")),
    "the watch is refused": (Listed("5"), Failed(DENIED), [], Listed("5")),
    "an error ends the watch": (Watching("8", STREAM), Failed(DENIED), [], Listed("8")),
    "the list position expired": (Empty(), Failed(EXPIRED), [], Empty(from_cache=False)),
    "the continue token expired": (Listing("t"), Failed(EXPIRED), [], Empty(from_cache=False)),
    "the watch position expired before": (Listed("5"), Failed(EXPIRED), [], Empty(from_cache=False)),
    "the watch position expired within": (Watching("5", STREAM), Failed(EXPIRED), [], Empty(from_cache=False)),
    "the server knows nothing that new": (Listed("99"), Failed(TOO_LARGE), [], Empty(from_cache=False)),
}  # fmt: skip

IMPOSSIBLE: list[tuple[State, Input]] = [
    (Listed("5"), Page(pod_list(5))),
    (Watching("5", STREAM), Page(pod_list(5))),
    (Empty(), Opened(STREAM)),
    (Listing("t"), Opened(STREAM)),
    (Watching("5", STREAM), Opened(STREAM)),
    (Empty(), Batch([ADDED])),
    (Listing("t"), Batch([ADDED])),
    (Listed("5"), Batch([ADDED])),
]


@pytest.mark.parametrize(("state", "given", "events", "after"), TABLE.values(), ids=[name.replace(" ", "_") for name in TABLE])
def test_state_and_input_give_events_and_next_state(state: State, given: Input, events: list[Event], after: State) -> None:
    assert advance(state, given) == (events, after)


@pytest.mark.parametrize(("state", "given"), IMPOSSIBLE)
def test_what_cannot_happen_in_a_state_is_a_bug(state: State, given: Input) -> None:
    with pytest.raises(TypeError, match="cannot happen in state"):
        advance(state, given)


def test_table_covers_every_pair_of_state_and_input() -> None:
    covered = {(type(state), type(given)) for state, given, *_ in TABLE.values()} | {(type(s), type(g)) for s, g in IMPOSSIBLE}
    assert covered == {(s, g) for s in (Empty, Listing, Listed, Watching) for g in (Page, Opened, Batch, Ended, Failed)}


def test_an_unknown_event_type_is_refused() -> None:
    with pytest.raises(ValueError, match="RENAMED"):
        advance(Watching("5", STREAM), Batch([WatchEvent("RENAMED", A)]))


LIST, WATCH = {"resourceVersion": "0"}, {"watch": "true"}


def new_watcher(client: ApiClient, **options: Any) -> Watcher:
    return Watcher(client, PODS, clock=VirtualClock(), random=Random(1), **options)


def test_first_list_comes_from_the_cache_and_the_watch_goes_on_from_it() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            server.expect("GET", "/api/v1/pods", LIST).answer(pod_list(5, A))
            stream = server.expect(
                "GET", "/api/v1/pods", WATCH | {"resourceVersion": "5", "allowWatchBookmarks": "true", "timeoutSeconds": "340"}
            ).stream()
            watcher = new_watcher(client)
            assert await watcher.step() == [Init(), InitApply(A), InitDone("5")]
            assert await watcher.step() == []
            stream.send(ADDED._asdict(), DELETED._asdict())
            assert await watcher.step() == [Apply(ADDED.object), Delete(DELETED.object)]
            await watcher.aclose()
            assert watcher.state == Listed("8")

    run_virtual(main())


def test_list_in_pages_reads_storage_and_follows_continue_tokens() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            first = server.expect("GET", "/api/v1/namespaces/default/pods", {"limit": "1", "labelSelector": "app=web"})
            first.answer(pod_list(5, A, token="next"))
            server.expect("GET", "/api/v1/namespaces/default/pods", {"limit": "1", "continue": "next"}).answer(pod_list(5, B))
            watcher = new_watcher(client, namespace="default", label_selector="app=web", page_items=1)
            assert await watcher.step() == [Init(), InitApply(A)]
            assert await watcher.step() == [InitApply(B), InitDone("5")]

    run_virtual(main())


def test_after_410_the_new_list_is_not_taken_from_the_cache() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            server.expect("GET", "/api/v1/pods", WATCH).fail(EXPIRED)
            with pytest.raises(Expired):
                await watcher.step()
            server.expect("GET", "/api/v1/pods").answer(pod_list(90))
            assert await watcher.step() == [Init(), InitDone("90")]

    run_virtual(main())


def test_events_before_an_error_event_are_not_lost() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            stream = server.expect("GET", "/api/v1/pods", WATCH).stream()
            stream.send(ADDED._asdict(), {"type": "ERROR", "object": EXPIRED.status()})
            await watcher.step()
            assert await watcher.step() == [Apply(ADDED.object)]
            with pytest.raises(Expired):
                await watcher.step()
            assert isinstance(watcher.state, Empty)

    run_virtual(main())


def test_disconnect_resumes_at_the_last_position() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            stream = server.expect("GET", "/api/v1/pods", WATCH).stream()
            stream.send(ADDED._asdict())
            await watcher.step()
            await watcher.step()
            stream.cut()
            with pytest.raises(TRANSPORT_ERRORS):
                await watcher.step()
            assert watcher.state == Listed("6")

    run_virtual(main())


def test_a_watch_that_ends_at_once_is_a_failure_and_one_that_lasted_is_not() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with ScriptedServer() as server, server.client(clock) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            server.expect("GET", "/api/v1/pods", WATCH).stream().end()
            await watcher.step()
            with pytest.raises(WatchTooShort):
                await watcher.step()
            stream = server.expect("GET", "/api/v1/pods", WATCH).stream()
            await watcher.step()
            await clock.sleep(340)
            stream.end()
            assert await watcher.step() == []
            assert watcher.state == Listed("5")

    run_virtual(main())


def test_a_silent_watch_is_given_up_a_margin_after_the_servers_own_limit() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with ScriptedServer() as server, server.client(clock) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            server.expect("GET", "/api/v1/pods", WATCH | {"timeoutSeconds": "340"}).stream()
            await watcher.step()
            with pytest.raises(TimeoutError):
                await watcher.step()
            assert 370 <= clock.monotonic() < 372
            assert watcher.state == Listed("5")

    run_virtual(main())


def test_garbage_on_the_stream_is_a_failure_that_resumes() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            watcher = new_watcher(client)
            watcher.state = Listed("5")
            server.expect("GET", "/api/v1/pods", WATCH).stream().send_bytes(b"<html>\n")
            await watcher.step()
            with pytest.raises(ValueError):
                await watcher.step()
            assert watcher.state == Listed("5")

    run_virtual(main())


def test_a_refused_list_is_raised_as_what_it_is() -> None:
    async def main() -> None:
        async with ScriptedServer() as server, server.client(VirtualClock()) as client:
            server.expect("GET", "/api/v1/pods").fail(DENIED)
            with pytest.raises(ApiError, match="pods is forbidden") as caught:
                await new_watcher(client).step()
            assert isinstance(caught.value, Forbidden)

    run_virtual(main())
