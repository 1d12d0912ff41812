"""Event recorders: never in the way, and as frugal as client-go's correlator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubecosm.api.errors import Forbidden
from kubecosm.api.meta import Key
from kubecosm.api.resources import EVENTS, EVENTS_V1, NODES, PODS, Object
from kubecosm.client.correlator import AGGREGATE_EVENTS, AGGREGATE_SECONDS, COMBINED_PREFIX, SPAM_BURST, Correlator, LruCache
from kubecosm.client.events import QUEUED_EVENTS_MAX, TRIES_MAX, WRITES_BURST, WRITES_PER_SECOND, EventRecorder, object_reference
from kubecosm.client.series import FINISH_SECONDS, REFRESH_SECONDS, SeriesRecorder
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import ManualClock, VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_until

POD: Object = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}  # fmt: skip
NODE: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": "u2"}}


def pod(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "shop", "uid": name}}


Recorder = EventRecorder | SeriesRecorder


def recording(scenario: Callable[[MemoryServer, Any, VirtualClock], Awaitable[None]], *, series: bool = False) -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            recorder: Recorder = EventRecorder(client, "kubelet", clock, host="node-1")
            if series:
                recorder = SeriesRecorder(client, "default-scheduler", "default-scheduler-host", clock)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(recorder.run())
                await scenario(server, recorder, clock)
                running.cancel()

    run_virtual(main())


def test_an_event_looks_like_one_of_kubernetes() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, PODS, "Normal", "Pulled", "Container image already present", field_path="spec.containers{web}")
        await recorder.wait_written()
        (event,) = server.list(EVENTS)
        assert event["metadata"]["namespace"] == "shop"
        prefix, _, suffix = event["metadata"]["name"].rpartition(".")
        assert prefix == "web-0"
        assert int(suffix, 16) // 10**6 == int(clock.epoch.timestamp() * 1000)
        assert event["involvedObject"] == {
            "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u1", "apiVersion": "v1", "resourceVersion": "7",
            "fieldPath": "spec.containers{web}",
        }  # fmt: skip
        assert {name: event[name] for name in ("reason", "message", "type", "count", "source", "reportingComponent")} == {
            "reason": "Pulled", "message": "Container image already present", "type": "Normal", "count": 1,
            "source": {"component": "kubelet", "host": "node-1"}, "reportingComponent": "kubelet",
        }  # fmt: skip
        assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-02T03:04:05Z"

    recording(scenario)


def test_an_event_of_a_cluster_scoped_object_lies_in_default() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(NODE, NODES, "Normal", "NodeReady", "ready")
        await recorder.wait_written()
        assert server.list(EVENTS)[0]["metadata"]["namespace"] == "default"
        assert "namespace" not in server.list(EVENTS)[0]["involvedObject"]

    recording(scenario)


def test_a_repeat_raises_the_count_of_the_first() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        for _ in range(3):
            recorder.event(POD, PODS, "Warning", "BackOff", "Back-off restarting failed container")
            await clock.sleep(10)
        (event,) = server.list(EVENTS)
        assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (3, "2026-01-02T03:04:05Z", "2026-01-02T03:04:25Z")

    recording(scenario)


def test_an_expired_event_is_made_anew_when_it_repeats() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        recorder.event(POD, PODS, "Normal", "Created", "Created container")
        await recorder.wait_written()
        server.delete(EVENTS, Key("shop", server.list(EVENTS)[0]["metadata"]["name"]))
        recorder.event(POD, PODS, "Normal", "Created", "Created container")
        await recorder.wait_written()
        assert [event["count"] for event in server.list(EVENTS)] == [2]

    recording(scenario)


def test_the_same_moment_gives_different_names() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        other = EventRecorder(recorder._client, "default-scheduler", clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(other.run())
            for reason in ("Pulled", "Created", "Started"):
                recorder.event(POD, PODS, "Normal", reason, "x")
                other.event(POD, PODS, "Normal", reason, "x")
            await recorder.wait_written()
            await other.wait_written()
            running.cancel()
        assert len(server.list(EVENTS)) == 6

    recording(scenario)


def test_a_recorder_never_waits_and_drops_what_exceeds_its_queue() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            recorder = EventRecorder(client, "kubelet", clock)
            for number in range(QUEUED_EVENTS_MAX + 5):
                recorder.event(pod(f"pod-{number}"), PODS, "Normal", "Started", "x")
            assert recorder.dropped == 5

    run_virtual(main())


def test_after_a_burst_events_are_written_at_a_steady_rate_with_the_time_they_happened() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        for number in range(WRITES_BURST + 300):
            recorder.event(pod(f"pod-{number:03}"), PODS, "Normal", "Scheduled", "assigned")
        await wait_until(lambda: len(server.list(EVENTS)) >= WRITES_BURST)
        assert clock.monotonic() < 0.5
        await recorder.wait_written()
        assert clock.monotonic() == pytest.approx(300 / WRITES_PER_SECOND, abs=0.5)
        assert {event["firstTimestamp"] for event in server.list(EVENTS)} == {"2026-01-02T03:04:05Z"}

    recording(scenario)


def test_an_unreachable_server_is_tried_for_a_while_and_a_refusal_is_final() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        server.refuse_next(Forbidden("namespace shop is being terminated"))
        recorder.event(POD, PODS, "Normal", "Killing", "Stopping container")
        await recorder.wait_written()
        assert (recorder.dropped, len(server.requests), clock.monotonic()) == (1, 1, 0)

    recording(scenario)

    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server:
            client = server.client(clock)
        async with client:
            recorder = EventRecorder(client, "kubelet", clock)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(recorder.run())
                recorder.event(POD, PODS, "Normal", "Killing", "Stopping container")
                await recorder.wait_written()
                running.cancel()
            assert recorder.dropped == 1
            assert 30 < clock.monotonic() < 10 * TRIES_MAX

    run_virtual(main())


def raw_event(message: str, name: str = "web-0", field_path: str = "") -> Object:
    reference = object_reference(pod(name), PODS, field_path)
    meta = {"name": f"{name}.{abs(hash(message)):x}", "namespace": "shop"}
    return {
        "metadata": meta, "involvedObject": reference, "source": {"component": "kubelet"}, "type": "Warning", "reason": "Unhealthy",
        "message": message, "count": 1, "firstTimestamp": "first", "lastTimestamp": "last",
    }  # fmt: skip


class TestCorrelator:
    def test_from_the_tenth_message_on_alike_events_are_combined(self) -> None:
        correlator = Correlator(ManualClock())
        for number in range(1, AGGREGATE_EVENTS):
            correlated = correlator.correlate(raw_event(f"probe failed {number}"))
            assert correlated is not None
            assert (correlated.patch, correlated.event["message"]) == (None, f"probe failed {number}")
        tenth = correlator.correlate(raw_event("probe failed 10"))
        assert tenth is not None
        assert (tenth.patch, tenth.event["message"]) == (None, COMBINED_PREFIX + "probe failed 10")
        eleventh = correlator.correlate(raw_event("probe failed 11"))
        assert eleventh is not None
        assert eleventh.event["metadata"]["name"] == tenth.event["metadata"]["name"]
        assert eleventh.patch == {"count": 2, "lastTimestamp": "last", "message": COMBINED_PREFIX + "probe failed 11"}

    def test_after_ten_quiet_minutes_combining_begins_anew(self) -> None:
        clock = ManualClock()
        correlator = Correlator(clock)
        for number in range(AGGREGATE_EVENTS):
            correlator.correlate(raw_event(f"probe failed {number}"))
        clock.advance(AGGREGATE_SECONDS + 1)
        correlated = correlator.correlate(raw_event("another"))
        assert correlated is not None
        assert correlated.event["message"] == "another"

    def test_an_object_that_causes_too_many_is_silenced_and_heard_again_later(self) -> None:
        clock = ManualClock()
        correlator = Correlator(clock)
        passed = [correlator.correlate(raw_event("again")) is not None for _ in range(SPAM_BURST + 5)]
        assert passed == [True] * SPAM_BURST + [False] * 5
        assert correlator.correlate(raw_event("again", "other")) is not None
        clock.advance(300)
        heard = correlator.correlate(raw_event("again"))
        assert heard is not None
        assert heard.event["count"] == SPAM_BURST + 6

    def test_containers_of_a_pod_are_counted_apart(self) -> None:
        correlator = Correlator(ManualClock())
        for path in ("spec.containers{a}", "spec.containers{b}"):
            correlated = correlator.correlate(raw_event("probe failed", field_path=path))
            assert correlated is not None
            assert correlated.patch is None

    def test_what_is_remembered_is_bounded_by_use(self) -> None:
        cache: LruCache[int] = LruCache(entries_max=2)
        cache.put("a", 1)
        cache.put("b", 2)
        cache.get("a")
        cache.put("c", 3)
        assert [cache.get(key) for key in "abc"] == [1, None, 3]


class TestSeries:
    def test_an_event_names_action_and_reporter(self) -> None:
        async def scenario(server: MemoryServer, recorder: SeriesRecorder, clock: VirtualClock) -> None:
            recorder.event(POD, PODS, "Normal", "Scheduled", "Binding", "Successfully assigned shop/web-0 to node-1", related=(NODE, NODES))
            await recorder.wait_written()
            (event,) = server.list(EVENTS_V1)
            assert {name: event[name] for name in ("action", "reason", "note", "type", "eventTime")} == {
                "action": "Binding", "reason": "Scheduled", "note": "Successfully assigned shop/web-0 to node-1", "type": "Normal",
                "eventTime": "2026-01-02T03:04:05.000000Z",
            }  # fmt: skip
            assert (event["reportingController"], event["reportingInstance"]) == ("default-scheduler", "default-scheduler-host")
            assert (event["regarding"]["name"], event["related"]["name"]) == ("web-0", "node-1")
            assert "series" not in event

        recording(scenario, series=True)

    def test_repeats_become_a_series_written_at_its_start_now_and_then_and_at_its_end(self) -> None:
        async def scenario(server: MemoryServer, recorder: SeriesRecorder, clock: VirtualClock) -> None:
            def counted() -> Any:
                (event,) = server.list(EVENTS_V1)
                return event.get("series", {}).get("count")

            async def repeat(times: int) -> None:
                for _ in range(times):
                    recorder.event(POD, PODS, "Warning", "FailedScheduling", "Scheduling", "0/3 nodes are available")
                    await clock.sleep(1)

            await repeat(1)
            assert counted() is None
            await repeat(1)
            assert counted() == 2
            await repeat(5)
            assert counted() == 2, "the third to seventh wait"
            for _ in range(int(REFRESH_SECONDS / 300) + 2):
                await clock.sleep(300)
                await repeat(1)
            refreshed = counted()
            assert refreshed > 7
            await clock.sleep(2 * FINISH_SECONDS)
            assert counted() == 15
            await repeat(1)
            assert len(server.list(EVENTS_V1)) == 2, "after its end the next one begins anew"

        recording(scenario, series=True)

    def test_what_cannot_repeat_is_written_and_forgotten(self) -> None:
        async def scenario(server: MemoryServer, recorder: SeriesRecorder, clock: VirtualClock) -> None:
            for name in ("a", "b"):
                recorder.event(pod(name), PODS, "Normal", "Scheduled", "Binding", "Successfully assigned", once=True)
            await recorder.wait_written()
            assert len(server.list(EVENTS_V1)) == 2
            assert not recorder._running
            assert not recorder._once

        recording(scenario, series=True)

    def test_different_objects_do_not_share_a_series(self) -> None:
        async def scenario(server: MemoryServer, recorder: SeriesRecorder, clock: VirtualClock) -> None:
            for name in ("a", "b"):
                recorder.event(pod(name), PODS, "Warning", "FailedScheduling", "Scheduling", "no")
            await recorder.wait_written()
            assert len(server.list(EVENTS_V1)) == 2

        recording(scenario, series=True)


@pytest.mark.parametrize("series", [False, True], ids=["core", "events.k8s.io"])
def test_an_idle_recorder_has_no_timer(series: bool) -> None:
    async def scenario(server: MemoryServer, recorder: Recorder, clock: VirtualClock) -> None:
        await asyncio.sleep(0)
        before = clock.monotonic()
        await recorder.wait_written()
        assert clock.monotonic() == before

    recording(scenario, series=series)


def test_one_process_may_speak_for_many_nodes() -> None:
    async def scenario(server: MemoryServer, recorder: EventRecorder, clock: VirtualClock) -> None:
        for host in ("node-1", "node-2"):
            recorder.event(POD, PODS, "Normal", "Pulled", "already present", host=host)
        await recorder.wait_written()
        sources = [(event["source"], event["reportingInstance"], event["count"]) for event in server.list(EVENTS)]
        assert sources == [({"component": "kubelet", "host": host}, host, 1) for host in ("node-1", "node-2")]

    recording(scenario)
