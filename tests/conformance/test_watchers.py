"""Watchers: what they are told, in which order, and from where they can go on."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conformance.wire import Wire
from tests.promises import promise

pytestmark = pytest.mark.process

A, B = {"watch-this": "a"}, {"watch-this": "b"}


def path_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}}


def change(wire: Wire, path: str, name: str, step: int) -> dict[str, Any]:
    changed: dict[str, Any] = wire.patch(f"{path}/{name}", {"data": {"step": str(step)}})
    return changed


@promise("Watchers should observe add, update, and delete watch notifications on configmaps")
def test_watchers_observe_what_happens_to_configmaps_their_selector_matches(wire: Wire, namespace: str) -> None:
    path = path_of(namespace)
    with ExitStack() as stack:
        seen_a, seen_b, seen_both = (
            stack.enter_context(wire.watch(path, labelSelector=f"watch-this in ({values})")) for values in ("a", "b", "a,b")
        )
        wire.create(path, config_map("a", A))
        change(wire, path, "a", 1)
        change(wire, path, "a", 2)
        wire.delete(f"{path}/a")
        wire.create(path, config_map("b", B))
        wire.delete(f"{path}/b")
        life_of_a = [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        life_of_b = [("ADDED", "b"), ("DELETED", "b")]
        assert seen_a.take(4) == life_of_a
        assert seen_b.take(2) == life_of_b  # the first things it hears of, so it heard nothing of `a`
        assert seen_both.take(6) == life_of_a + life_of_b


@promise("Watchers should be able to start watching from a specific resource version")
def test_a_watch_can_start_from_a_past_resource_version(wire: Wire, namespace: str) -> None:
    path = path_of(namespace)
    wire.create(path, config_map("c"))
    first = change(wire, path, "c", 1)
    change(wire, path, "c", 2)
    wire.delete(f"{path}/c")
    with wire.watch(path, resourceVersion=first["metadata"]["resourceVersion"]) as watching:
        second, last = watching.next(), watching.next()
    assert (second["type"], second["object"]["data"]) == ("MODIFIED", {"step": "2"})
    assert (last["type"], last["object"]["data"]) == ("DELETED", {"step": "2"})


@promise("Watchers should be able to restart watching from the last resource version observed by the previous watch")
def test_a_closed_watch_can_be_taken_up_where_it_ended(wire: Wire, namespace: str) -> None:
    path = path_of(namespace)
    with wire.watch(path, fieldSelector="metadata.name=c") as watching:
        wire.create(path, config_map("c"))
        change(wire, path, "c", 1)
        assert watching.next()["type"] == "ADDED"
        observed = watching.next()["object"]["metadata"]["resourceVersion"]
    change(wire, path, "c", 2)
    wire.delete(f"{path}/c")
    with wire.watch(path, fieldSelector="metadata.name=c", resourceVersion=observed) as watching:
        assert [(event["type"], event["object"]["data"]["step"]) for event in (watching.next(), watching.next())] == [
            ("MODIFIED", "2"),
            ("DELETED", "2"),
        ]


@promise("Watchers should observe an object deletion if it stops meeting the requirements of the selector")
def test_an_object_that_leaves_the_selector_is_reported_as_deleted(wire: Wire, namespace: str) -> None:
    path = path_of(namespace)
    with wire.watch(path, labelSelector="watch-this=a") as watching:
        wire.create(path, config_map("c", A))
        assert watching.take(1) == [("ADDED", "c")]
        wire.patch(f"{path}/c", {"metadata": {"labels": B}})
        gone = watching.next()
        assert (gone["type"], gone["object"]["metadata"]["labels"]) == ("DELETED", A)
        change(wire, path, "c", 1)  # not to be heard of
        wire.patch(f"{path}/c", {"metadata": {"labels": A}})
        back = watching.next()
        assert (back["type"], back["object"]["data"]) == ("ADDED", {"step": "1"})
        change(wire, path, "c", 2)
        wire.delete(f"{path}/c")
        assert watching.take(2) == [("MODIFIED", "c"), ("DELETED", "c")]


@promise("Watchers should receive events on concurrent watches in same order")
def test_concurrent_watches_tell_the_same_story(wire: Wire, namespace: str) -> None:
    path, stop, writes = path_of(namespace), threading.Event(), 12
    start = wire.get(path)["metadata"]["resourceVersion"]

    def produce() -> None:
        for step in range(10_000):
            if stop.is_set():
                return
            name = f"c-{step % 5}"
            reply = wire.send("POST", path, config_map(name))
            if reply.status == 409:
                wire.send("DELETE", f"{path}/{name}")

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        with ExitStack() as stack:
            first = stack.enter_context(wire.watch(path, resourceVersion=start))
            others = [first]
            for _write in range(writes):
                versions = {watching.next()["object"]["metadata"]["resourceVersion"] for watching in others}
                assert len(versions) == 1
                others.append(stack.enter_context(wire.watch(path, resourceVersion=versions.pop())))
    finally:
        stop.set()
        producer.join()


def test_a_streamed_list_sends_all_objects_and_then_says_so(wire: Wire, namespace: str) -> None:
    path = path_of(namespace)
    for name in ("a", "b"):
        wire.create(path, config_map(name, A))
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    with wire.watch(path, labelSelector="watch-this", **query) as watching:
        assert watching.take(2) == [("ADDED", "a"), ("ADDED", "b")]
        end = watching.next()
        assert end["type"] == "BOOKMARK"
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        wire.create(path, config_map("c", A))
        assert watching.take(1) == [("ADDED", "c")]


def test_a_watch_ends_when_its_time_is_over(wire: Wire, namespace: str) -> None:
    with wire.watch(path_of(namespace), timeoutSeconds=1, resourceVersion="0", labelSelector="watch-this") as watching:
        assert watching.rest() == []
