"""A kubelet's inside without an API server: workers, the sim runtime and probes on a virtual clock; statuses are recorded, not written."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object, Resource
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.kubelet.cri.types import ContainerKind, NodeInfo
from kubecosm.services.kubelet.metrics import PodMetrics
from kubecosm.services.kubelet.network.listeners import PodNetwork
from kubecosm.services.kubelet.pods.backoff import Backoff
from kubecosm.services.kubelet.pods.context import PodContext, PodResources
from kubecosm.services.kubelet.pods.hooks import exec_check
from kubecosm.services.kubelet.pods.worker import PodWorker
from kubecosm.services.kubelet.probes.manager import ProbeManager, ProbeSubject
from kubecosm.services.kubelet.shell.programs import PROGRAMS
from kubecosm.services.kubelet.sim.logstore import LogStore
from kubecosm.services.kubelet.sim.machine import MachineBuilder
from kubecosm.services.kubelet.sim.network_access import Resolver
from kubecosm.services.kubelet.sim.profiles import ImageProfiles
from kubecosm.services.kubelet.sim.runtime import SimRuntime
from kubecosm.services.kubelet.timers import Timers
from kubecosm.services.kubelet.volumes.volumes import VolumeManager
from kubecosm.testing.virtualtime import VirtualClock

ALLOCATABLE = {"cpu": "4", "memory": "16Gi"}
NODE = NodeInfo("node-0", "127.31.250.1", "127.127.250.0/24")


def make_pod(*containers: Object, name: str = "web", uid: str = "", **spec: Any) -> Object:
    """A pod bound to the lab's node; containers default to one nginx called `c`."""
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": "1", "generation": 1,
            "annotations": annotations,
        },
        "spec": {"nodeName": NODE.name, "containers": list(containers) or [container()], "terminationGracePeriodSeconds": 30, **spec},
    }  # fmt: skip


def container(name: str = "c", image: str = "nginx:1.25", **fields: Any) -> Object:
    return {"name": name, "image": image, **fields}


def shell(script: str, name: str = "c", **fields: Any) -> Object:
    return container(name, "busybox:1.36", command=["sh", "-c", script], **fields)


class RecordedStatuses:
    """Stands in for the status manager: keeps every status that would be written."""

    def __init__(self) -> None:
        self.history: dict[str, list[Object]] = {}
        self.deleted: list[str] = []
        self.changed = asyncio.Event()

    def observe(self, pod: Object) -> None:
        return

    def forget(self, uid: str) -> None:
        return

    def set(self, uid: str, status: Object) -> None:
        self.history.setdefault(uid, []).append(status)
        self.changed.set()

    def delete(self, uid: str) -> None:
        self.deleted.append(uid)
        self.changed.set()


class RecordedEvents:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def container(self, pod: Object, kind: ContainerKind, name: str, type: str, reason: str, message: str) -> None:
        self.seen.append((type, reason, message))

    def pod(self, pod: Object, type: str, reason: str, message: str, field_path: str = "") -> None:
        self.seen.append((type, reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.seen]


class FixedObjects:
    """The object cache with what a test puts in."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Resource, Key], Object] = {}
        self.service_list: list[Object] = []

    async def ensure(self, *resources: Resource) -> None:
        return

    async def need(self, uid: str, objects: object) -> None:
        return

    def forget(self, uid: str) -> None:
        return

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource, Key(namespace, name)))

    def services(self, pod: Object) -> list[Object]:
        return self.service_list

    def put(self, resource: Resource, obj: Object) -> None:
        meta = obj["metadata"]
        self.objects[resource, Key(meta["namespace"], meta["name"])] = obj


class NoEvictions:
    """A node that has enough of everything."""

    def consider(self, pod: Object, node: str) -> None:
        return

    def refusal(self, pod: Object, node: str) -> None:
        return


class Lab:
    """Use `async with lab() as it:`."""

    def __init__(self, tasks: asyncio.TaskGroup, root: str = "") -> None:
        self.tasks = tasks
        self.clock = VirtualClock()
        rng = random.Random(7)
        self.timers = Timers(self.clock)
        self.network = PodNetwork(self.timers.call_later)
        self.statuses = RecordedStatuses()
        self.events = RecordedEvents()
        self.objects = FixedObjects()
        self.workers: dict[str, PodWorker] = {}
        self.new_images: list[str] = []
        machines = MachineBuilder(
            self.clock, rng, Resolver("127.31.250.53"), frozenset(PROGRAMS), cluster_dns="127.31.250.53", cluster_domain="cluster.local"
        )
        self.runtime = SimRuntime(
            clock=self.clock,
            rng=rng,
            timers=self.timers,
            tasks=tasks,
            profiles=ImageProfiles(),
            machines=machines,
            network=self.network,
            logs=LogStore(root),
        )
        self.runtime.set_listener(self)
        probes = ProbeManager(
            clock=self.clock, timers=self.timers, tasks=tasks, rng=rng, dial=self.runtime.dial, on_change=self.pod_changed,
            on_failure=self.unhealthy,
            exec_check=lambda cid, command, timeout: exec_check(self.runtime, cid, command, timeout),
        )  # fmt: skip
        volumes = VolumeManager(self.clock, self.objects.get, self._token, lambda _: ALLOCATABLE)
        self.context = PodContext(
            runtime_of=lambda pod: self.runtime, clock=self.clock, timers=self.timers, tasks=tasks, probes=probes,
            statuses=self.statuses, events=self.events, resources=PodResources(self.objects, volumes, lambda _: ALLOCATABLE),  # type: ignore[arg-type]
            backoff=Backoff(), image_backoff=Backoff(), metrics=PodMetrics(Metrics()), waiting_for_objects=set(),
            evictions=NoEvictions(), resize=lambda pod: None, on_ended=lambda uid: None, on_finished=lambda uid: None,
        )  # fmt: skip

    async def _token(self, pod: Object, projection: Object) -> str:
        return "token-of-" + pod["metadata"]["name"]

    def pod_changed(self, uid: str) -> None:
        self.workers[uid].wake()

    def images_changed(self, node: str) -> None:
        self.new_images.append(node)

    def warn(self, uid: str, container: str, reason: str, message: str) -> None:
        self.events.seen.append(("Warning", reason, message))

    def unhealthy(self, subject: ProbeSubject, reason: str, message: str) -> None:
        self.events.seen.append(("Warning", reason, message))

    def run(self, pod: Object) -> PodWorker:
        """Start a pod."""
        worker = self.workers[pod["metadata"]["uid"]] = PodWorker(self.context, pod, NODE)
        worker.wake()
        return worker

    def status(self, name: str = "web") -> Object:
        return self.statuses.history[f"uid-{name}"][-1]

    async def until(self, condition: Callable[[], object], seconds: float = 1000.0) -> None:
        """Wait for a condition on what has been reported."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.statuses.changed.clear()
                await asyncio.wait_for(self.statuses.changed.wait(), seconds)

    async def until_phase(self, phase: str, name: str = "web") -> None:
        await self.until(lambda: f"uid-{name}" in self.statuses.history and self.status(name)["phase"] == phase)

    def delete(self, worker: PodWorker, grace: int | None = None) -> None:
        """What the API tells after a graceful deletion was asked for."""
        pod = worker.pod
        meta = {**pod["metadata"], "deletionTimestamp": "2026-01-02T03:05:05Z", "generation": 2}
        meta["deletionGracePeriodSeconds"] = pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
        worker.update({**pod, "metadata": meta})

    def logs(self, worker: PodWorker, name: str = "c") -> str:
        status = self.runtime.pod_status(worker.uid)
        assert status is not None
        lines, _ = self.runtime.log_buffer(status.containers[name].container_id, previous=False).lines_from(0)
        return b"".join(line.data for line in lines).decode()


class LabOver(Exception):
    """Ends the lab's tasks."""


def in_lab(story: Callable[[Lab], Awaitable[None]], root: str = "") -> None:
    """Run a story in virtual time with a fresh lab."""
    from kubecosm.testing.virtualtime import run_virtual

    async def main() -> None:
        async with open_lab(root) as lab:
            await story(lab)

    run_virtual(main())


@asynccontextmanager
async def open_lab(root: str = "") -> Any:
    try:
        async with asyncio.TaskGroup() as tasks:
            lab = Lab(tasks, root)
            tasks.create_task(lab.timers.run())
            yield lab
            lab.runtime.set_listener(None)
            lab.network.close_all()
            raise LabOver
    except* LabOver:
        pass
