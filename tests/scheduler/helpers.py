"""Building blocks of the scheduler's tests: objects, a fake API, a scheduler that runs without informers."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kubecosm.api.errors import Conflict
from kubecosm.api.resources import Object
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.scheduler.framework.defaults import ProfileConfig
from kubecosm.services.scheduler.handlers import EventHandlers
from kubecosm.services.scheduler.metrics import SchedulerMetrics
from kubecosm.services.scheduler.scheduler import Scheduler
from kubecosm.services.scheduler.state.podinfo import PodInfo

START = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3


class ManualClock:
    """A clock that moves when told; nobody may sleep on it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps in this test")


class FakeApi:
    """Records what the scheduler does to the API."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.patches: list[tuple[str, Object]] = []
        self.deleted: list[str] = []
        self.claim_patches: list[tuple[str, Object]] = []
        self.volume_patches: list[tuple[str, Object]] = []
        self.events: list[tuple[str, str, str, str]] = []
        self.bind_failure: Exception | None = None
        self.delete_failures: dict[str, Exception] = {}
        self.resource_claims: dict[str, Object] = {}

    async def bind(self, pod: PodInfo, node_name: str) -> None:
        if self.bind_failure is not None:
            raise self.bind_failure
        self.bound[pod.key] = node_name

    async def patch_status(self, pod: PodInfo, patch: Object) -> None:
        self.patches.append((pod.key, patch))

    async def delete_pod(self, pod: PodInfo) -> None:
        if pod.key in self.delete_failures:
            raise self.delete_failures[pod.key]
        self.deleted.append(pod.key)

    async def patch_claim(self, namespace: str, name: str, patch: Object) -> None:
        self.claim_patches.append((f"{namespace}/{name}", patch))

    async def patch_volume(self, name: str, patch: Object) -> None:
        self.volume_patches.append((name, patch))

    async def patch_resource_claim(self, namespace: str, name: str, patch: Object, subresource: str) -> Object:
        """As the API server does: a stale version is refused; the claim afterwards is what informers hear."""
        key = f"{namespace}/{name}"
        claim = copy.deepcopy(self.resource_claims[key])
        if patch["metadata"]["resourceVersion"] != claim["metadata"].get("resourceVersion", ""):
            raise Conflict(f"resourceclaims {name!r}: the object has been modified")
        merge_into(claim, patch if subresource else {"metadata": patch["metadata"]})
        claim["metadata"]["resourceVersion"] = str(int(claim["metadata"].get("resourceVersion") or 0) + 1)
        self.resource_claims[key] = claim
        return claim

    async def create_resource_claim(self, claim: Object) -> Object:
        name = f"{claim['metadata']['generateName']}{len(self.resource_claims)}"
        meta = {**claim["metadata"], "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        created = self.resource_claims[f"{meta['namespace']}/{name}"] = {**copy.deepcopy(claim), "metadata": meta}
        return created

    async def delete_resource_claim(self, namespace: str, name: str, uid: str) -> None:
        assert self.resource_claims.pop(f"{namespace}/{name}")["metadata"]["uid"] == uid

    def event(
        self, regarding: PodInfo, type: str, reason: str, action: str, note: str, *, related: PodInfo | None = None, once: bool = False
    ) -> None:
        self.events.append((regarding.key, type, reason, note))


def merge_into(target: Object, patch: Object) -> None:
    """A JSON merge patch."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            merge_into(target.setdefault(name, {}), value)
        else:
            target[name] = value


def node(
    name: str, *, cpu: str = "4", memory: str = "16Gi", pods: str = "110", labels: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (), unschedulable: bool = False, images: Sequence[Object] = (),
    extended: Mapping[str, str] | None = None,
) -> Object:  # fmt: skip
    """A Node; its hostname label is its name."""
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "100Gi", **(extended or {})}
    spec: Object = {"taints": [dict(taint) for taint in taints]} if taints else {}
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1", "kind": "Node", "spec": spec,
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}], "images": list(images)},
    }  # fmt: skip


def pod(
    name: str, *, namespace: str = "default", cpu: str = "", memory: str = "", labels: Mapping[str, str] | None = None,
    node_name: str = "", priority: int = 0, ports: Sequence[Object] = (), requests: Mapping[str, str] | None = None, start: str = "",
    owner: Object | None = None, status: Object | None = None, image: str = "pause", **spec: Any,
) -> Object:  # fmt: skip
    """A Pod with one container; other keywords go into its spec."""
    wanted = {**({"cpu": cpu} if cpu else {}), **({"memory": memory} if memory else {}), **(requests or {})}
    container: Object = {"name": "c", "image": image, "resources": {"requests": wanted} if wanted else {}}
    if ports:
        container["ports"] = list(ports)
    meta: Object = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "labels": dict(labels or {}), "generation": 1}
    if owner:
        meta["ownerReferences"] = [owner]
    body: Object = {"containers": [container], "schedulerName": "default-scheduler", "priority": priority, **spec}
    if node_name:
        body["nodeName"] = node_name
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body,
        "status": {"phase": "Pending", **({"startTime": start} if start else {}), **(status or {})},
    }  # fmt: skip


class Cluster:
    """A scheduler fed by hand, one attempt at a time."""

    def __init__(
        self, *nodes: Object, seed: int = 1, profiles: Sequence[ProfileConfig] = (ProfileConfig(),), clock: Any = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.api = FakeApi()
        self.metrics = Metrics()
        self.scheduler = Scheduler(
            profiles, self.api, SchedulerMetrics(self.metrics), clock=self.clock, rng=random.Random(seed)
        )
        self.handlers = EventHandlers(self.scheduler)
        self.work: list[tuple[str, Coroutine[Any, Any, None]]] = []
        self.scheduler.spawn = lambda name, work: self.work.append((name, work))  # type: ignore[method-assign]
        for item in nodes:
            self.handlers.node_added(item)

    def add(self, *pods: Object) -> None:
        for item in pods:
            self.handlers.pod_added(item)

    def schedule_next(self) -> str:
        """One attempt for the next pod: the node it was bound to, or empty."""
        queued = self.scheduler.queue.pop()
        assert queued is not None, "no pod is ready"
        binding = self.scheduler.schedule_one(queued)
        if binding is not None:
            run_now(binding)
        self.run_background()
        node_name = self.api.bound.get(queued.info.key, "")
        if node_name:
            self.confirm(queued.info.pod, node_name)
        return node_name

    def begin_binding(self) -> Coroutine[Any, Any, None]:
        """A node is found for the next pod; the binding cycle remains to be run."""
        queued = self.scheduler.queue.pop()
        assert queued is not None, "no pod is ready"
        binding = self.scheduler.schedule_one(queued)
        assert binding is not None, "no node is found"
        return binding

    def schedule(self, *pods: Object) -> list[str]:
        """Add pods and try each once."""
        self.add(*pods)
        return [self.schedule_next() for _ in pods]

    def schedule_all(self) -> None:
        while len(self.scheduler.queue.active) or len(self.scheduler.queue.backoff):
            self.schedule_next()

    def confirm(self, old: Object, node_name: str) -> None:
        """What the informer says after a binding."""
        new = copy.deepcopy(old)
        new["spec"]["nodeName"] = node_name
        self.handlers.pod_updated(old, new)

    def run_background(self) -> None:
        while self.work:
            run_now(self.work.pop(0)[1])

    def message(self, key: str) -> str:
        """The last FailedScheduling message of a pod."""
        return next(note for regarding, _, reason, note in reversed(self.api.events) if regarding == key and reason == "FailedScheduling")


def run_now(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on a loop of its own."""
    asyncio.run(work)
