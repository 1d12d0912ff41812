"""Memory that runs out: of a container, which is killed, and of a node, which ends pods until it has enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.services.kubelet.eviction.manager import EvictionManager
from kubecosm.services.kubelet.eviction.ranking import Candidate, eviction_message, rank
from kubecosm.services.kubelet.nodes.events import Told
from kubecosm.services.kubelet.nodes.objects import disputed_conditions, heartbeat_patch
from kubecosm.services.kubelet.nodes.power import Powers
from kubecosm.services.kubelet.pods.status import Verdict
from kubecosm.services.kubelet.timers import Timers
from kubecosm.testing.virtualtime import EPOCH, VirtualClock, run_virtual

from .lab import Lab, container, in_lab, make_pod

MIB = 2**20


def a_pod(name: str, request: str = "0", priority: int = 0, note: str = "1Mi") -> Object:
    spec = container(resources={"requests": {"memory": request}} if request != "0" else {})
    return make_pod(spec, name=name, priority=priority, annotations={"kubecosm.dev/memory": note})


def test_pods_above_their_requests_go_first_then_the_least_important_then_the_largest() -> None:
    candidates = [
        Candidate(a_pod("within", "1Gi"), {"c": 900 * MIB}),
        Candidate(a_pod("important", "1Mi", priority=1000), {"c": 900 * MIB}),
        Candidate(a_pod("small", "1Mi"), {"c": 10 * MIB}),
        Candidate(a_pod("large", "1Mi"), {"c": 500 * MIB}),
        Candidate(a_pod("critical", priority=2 * 10**9), {"c": 999 * MIB}),
    ]
    assert [one.pod["metadata"]["name"] for one in rank(candidates)] == ["large", "small", "important", "within"]


def test_an_eviction_says_how_short_the_node_was_and_who_used_more_than_it_asked_for() -> None:
    pod = make_pod(container(resources={"requests": {"memory": "64Mi"}}), container("modest", resources={"requests": {"memory": "64Mi"}}))
    message = eviction_message(Candidate(pod, {"c": 200 * MIB, "modest": 10 * MIB}), 50 * MIB)
    assert message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container c was using 200Mi, request is 64Mi, has larger consumption of memory. "
    )


class RecordedNode:
    """One node of 1 GiB and its pods."""

    def __init__(self, clock: VirtualClock, timers: Timers, tasks: asyncio.TaskGroup) -> None:
        self.pods: dict[str, Object] = {}
        self.used: dict[str, int] = {}
        self.evicted: list[tuple[float, str, Verdict]] = []
        self.told: list[str] = []
        self.posted: list[frozenset[str]] = []
        self.clock, self.powers = clock, Powers()
        self.manager = EvictionManager(
            clock, timers, self.powers, self, memory_of=lambda uid: {"c": self.used[uid]}, capacity_of=lambda _: 1024 * MIB,
            tell=self._tell, post=self._post, spawn=lambda work, name: tasks.create_task(work),
        )  # fmt: skip

    def _tell(self, node: str, told: Told) -> None:
        self.told.append(told.reason)

    async def _post(self, node: str) -> None:
        self.posted.append(self.powers.pressures_of(node))

    def active(self, node: str) -> list[Object]:
        return list(self.pods.values())

    def evict(self, pod: Object, verdict: Verdict) -> None:
        uid = pod["metadata"]["uid"]
        self.evicted.append((self.clock.monotonic(), uid, verdict))
        del self.pods[uid]

    def add(self, pod: Object, mib: int) -> None:
        self.pods[pod["metadata"]["uid"]], self.used[pod["metadata"]["uid"]] = pod, mib * MIB
        self.manager.consider(pod, "n")


def on_a_node(story: Callable[[RecordedNode], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = VirtualClock()
        timers = Timers(clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(timers.run())
            await story(RecordedNode(clock, timers, tasks))
            running.cancel()

    run_virtual(main())


def test_a_node_that_is_short_of_memory_ends_one_pod_after_the_other_and_says_so_for_five_minutes_more() -> None:
    async def story(node: RecordedNode) -> None:
        node.add(a_pod("a"), 500)
        node.add(a_pod("b"), 480)
        node.add(make_pod(name="plain"), 0)
        await node.clock.sleep(25)
        assert [(at, uid) for at, uid, _ in node.evicted] == [(10, "uid-a")], "the largest, and it is enough"
        verdict = node.evicted[0][2]
        assert (verdict.reason, verdict.grace_seconds, verdict.is_disruption) == ("Evicted", 1, True)
        assert node.told == ["EvictionThresholdMet"]
        refusal = node.manager.refusal(make_pod(), "n")
        assert refusal is not None
        assert (refusal.reason, refusal.message) == ("Evicted", "The node had condition: [MemoryPressure]. ")
        assert node.manager.refusal(a_pod("burstable", "1Mi"), "n") is None
        tolerant: Any = make_pod(tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
        assert node.manager.refusal(tolerant, "n") is None
        await node.clock.sleep(400)
        assert node.posted == [frozenset({"MemoryPressure"}), frozenset()]
        assert node.manager.refusal(make_pod(), "n") is None

    on_a_node(story)


def test_a_node_whose_pods_use_what_is_plausible_is_not_looked_at() -> None:
    async def story(node: RecordedNode) -> None:
        node.add(make_pod(name="plain"), 2000)
        await node.clock.sleep(100)
        assert (node.evicted, node.posted) == ([], [])

    on_a_node(story)


def test_a_node_under_pressure_says_so_with_each_heartbeat() -> None:
    patch = heartbeat_patch([], EPOCH, pressures={"MemoryPressure"})["status"]["conditions"]
    assert (patch[0]["type"], patch[0]["status"], patch[0]["reason"]) == ("MemoryPressure", "True", "KubeletHasInsufficientMemory")
    assert patch[-1]["status"] == "True", "it is ready all the same"
    node = {"status": {"conditions": patch}}
    assert disputed_conditions(node, {"MemoryPressure"}) == []
    assert len(disputed_conditions(node)) == 1


def test_a_container_that_uses_more_than_its_limit_is_killed() -> None:
    async def story(lab: Lab) -> None:
        spec = container(resources={"limits": {"memory": "64Mi"}})
        worker = lab.run(make_pod(spec, annotations={"kubecosm.dev/memory": "10Mi"}, restartPolicy="Never"))
        await lab.until_phase("Running")
        await lab.clock.sleep(100)
        assert lab.status()["phase"] == "Running"
        pod = worker.pod
        worker.update({**pod, "metadata": {**pod["metadata"], "annotations": {"kubecosm.dev/memory": "65Mi"}}})
        await lab.until_phase("Failed")
        ended = lab.status()["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)

    in_lab(story)
