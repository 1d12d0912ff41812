"""A controller manager that dies before or after any of its writes: never a duplicate, never an orphan, never a standstill.

In virtual time, so that hundreds of deaths take seconds: a seed says at which write each life of the manager ends, and whether that write
still takes effect. test_killed_process.py does the same to real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kubecosm.api.meta import controller_of, get_condition, is_deleting
from kubecosm.api.names import ANNOTATION_CRONJOB_SCHEDULED_TIMESTAMP, ANNOTATION_JOB_COMPLETION_INDEX
from kubecosm.api.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    JOBS,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    Object,
    Resource,
)  # fmt: skip
from kubecosm.client.http import ApiClient
from kubecosm.client.runner import run_controllers
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.table import TABLE, load
from kubecosm.services.controller.workloads.daemonset.placement import target_node

from .fake_api import FakeApi
from .harness import VIRTUAL, ended, node, pod_template, run, running, wait_for
from .test_daemonset import PinningKubelet

SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 60))]
LIVES = 25
WRITES_PER_LIFE_MAX = 30
LIFE_SECONDS_MAX = 20.0
DEAD_SECONDS_MAX = 10.0
WRITES = ("create", "update", "patch", "delete", "delete_collection")
NAMES = (
    "deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller",
    "cronjob-controller", "endpointslice-controller", "garbage-collector-controller", "pod-garbage-collector-controller",
    "ttl-after-finished-controller", "disruption-controller", "node-lifecycle-controller",
)  # fmt: skip


class SelectingApi(FakeApi):
    """Gives Jobs a selector, as a real API server does."""

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None, **options: Any) -> Object:
        if resource == JOBS:
            spec, mine = obj["spec"], {"job-name": obj["metadata"]["name"]}
            template = spec["template"]
            labels = {**template["metadata"]["labels"], **mine}
            template = {**template, "metadata": {**template["metadata"], "labels": labels}}
            obj = {**obj, "spec": {**spec, "selector": {"matchLabels": mine}, "template": template}}
        return await super().create(resource, obj, namespace, **options)


class MortalApi:
    """The FakeApi for one life of the manager: at the chosen write it dies, and from then on nothing it does takes effect."""

    def __init__(self, api: FakeApi, writes: int, *, takes_effect: bool) -> None:
        self._api, self._writes, self._takes_effect = api, writes, takes_effect
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._api, name)
        if name not in (*WRITES, "get", "list"):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            if self.died.is_set():
                raise asyncio.CancelledError
            if name in WRITES:
                self._writes -= 1
                if self._writes <= 0:
                    self.died.set()
                    if self._takes_effect:
                        await method(*arguments, **options)
                    raise asyncio.CancelledError
            return await method(*arguments, **options)

        return call


async def live(api: FakeApi, mortal: Any, seed: int) -> None:
    """One life of the manager, with nothing in its memory."""
    modules = [load(row, Config()) for row in TABLE if row.name in NAMES]
    await run_controllers(modules, cast(ApiClient, mortal), api.clock, random.Random(seed))


@asynccontextmanager
async def immortal(api: FakeApi) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(live(api, api, 0))
        yield
        life.cancel()


async def die_again_and_again(api: FakeApi, r: random.Random, lives: int, *, churning: bool) -> None:
    for number in range(lives):
        mortal = MortalApi(api, r.randint(1, WRITES_PER_LIFE_MAX), takes_effect=r.random() < 0.5)
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(live(api, mortal, number))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIFE_SECONDS_MAX):
                    await mortal.died.wait()
            mortal.died.set()
            life.cancel()
        await VIRTUAL.sleep(r.uniform(0, DEAD_SECONDS_MAX))
        if churning and r.random() < 0.5:
            churn(api, r)


def workload(app: str, **spec: Any) -> Object:
    labels = {"app": app}
    return {
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod_template("v1", app=app), **spec},
    }


def once(app: str) -> Object:
    template = pod_template("v1", app=app)
    template["spec"]["restartPolicy"] = "Never"
    return template


async def create_all(api: FakeApi) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    await api.create(DEPLOYMENTS, workload("web", replicas=6, strategy=rolling, progressDeadlineSeconds=600, revisionHistoryLimit=10))
    ports = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    await api.create(SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": ports})
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    await api.create(STATEFULSETS, workload("set", replicas=3, serviceName="set", updateStrategy=partition))
    await api.create(DAEMONSETS, workload("daemon", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}))
    many = {"template": once("many"), "completions": 20, "parallelism": 4, "backoffLimit": 6}
    await api.create(JOBS, {"metadata": {"name": "many", "namespace": "default"}, "spec": {**many, "completionMode": "NonIndexed"}})
    indexed = {**many, "template": once("indexed"), "completions": 8, "completionMode": "Indexed"}
    await api.create(JOBS, {"metadata": {"name": "indexed", "namespace": "default"}, "spec": indexed})
    jobs = {"spec": {**many, "template": once("tick"), "completions": 1, "completionMode": "NonIndexed"}}
    cron = {
        "schedule": "* * * * *", "jobTemplate": jobs, "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 1000,
        "failedJobsHistoryLimit": 1,
    }  # fmt: skip
    await api.create(CRONJOBS, {"metadata": {"name": "tick", "namespace": "default"}, "spec": cron})


def churn(api: FakeApi, r: random.Random) -> None:
    """What users do meanwhile: scale, roll, delete a pod."""
    kind = r.choice((DEPLOYMENTS, STATEFULSETS, DAEMONSETS, PODS))
    if kind == PODS:
        victims = [pod for pod in api.all(PODS) if pod["metadata"]["labels"]["app"] in ("web", "set", "daemon") and not is_deleting(pod)]
        if victims:
            victim = r.choice(victims)
            meta = {**victim["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 30}
            api.put(PODS, {**victim, "metadata": meta})
        return
    (found,) = api.all(kind)
    spec = {**found["spec"], "template": pod_template(f"v{r.randint(1, 4)}", app=found["metadata"]["name"])}
    if kind != DAEMONSETS and r.random() < 0.5:
        spec = {**found["spec"], "replicas": r.randint(1, 6)}
    if spec != found["spec"]:
        api.put(kind, {**found, "metadata": {**found["metadata"], "generation": found["metadata"]["generation"] + 1}, "spec": spec})


def is_active(pod: Object) -> bool:
    return not is_deleting(pod) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


class Witness:
    """Replays all that happened to pods, and complains about what must never be."""

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}
        self.created: Counter[str] = Counter()
        self.by_index: Counter[str] = Counter()
        self.complaints: list[str] = []

    def replay(self, api: FakeApi) -> None:
        replicas: dict[str, int] = {}
        for _, resource, event in api.history:
            meta = event.object["metadata"]
            if resource == REPLICASETS:
                replicas[meta["uid"]] = max(event.object["spec"].get("replicas", 0), replicas.get(meta["uid"], 0))
            if resource != PODS:
                continue
            if event.type == "DELETED":
                self.pods.pop(meta["uid"], None)
                continue
            is_new = meta["uid"] not in self.pods
            self.pods[meta["uid"]] = event.object
            if is_new:
                self._check_new(event.object, replicas)

    def _check_new(self, pod: Object, replicas: dict[str, int]) -> None:
        owner, app = controller_of(pod), pod["metadata"]["labels"]["app"]
        if owner is None:
            self.complaints.append(f"{pod['metadata']['name']} has no controller")
            return
        self.created[app] += 1
        active = [one for one in self.pods.values() if is_active(one) and (controller_of(one) or {}).get("uid") == owner["uid"]]
        if owner["kind"] == "ReplicaSet" and len(active) > replicas[owner["uid"]]:
            self.complaints.append(f"{len(active)} pods of a ReplicaSet that never wanted more than {replicas[owner['uid']]}")
        if owner["kind"] == "Job" and len(active) > 4:
            self.complaints.append(f"{len(active)} pods of {owner['name']} at once")
        if owner["kind"] == "DaemonSet" and len(active) != len({target_node(one) for one in active}):
            self.complaints.append("two daemons on one node")
        if app == "indexed":
            self.by_index[pod["metadata"]["annotations"][ANNOTATION_JOB_COMPLETION_INDEX]] += 1


def image_of(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def is_settled(api: FakeApi) -> bool:
    (web,), (stateful,), (daemon,) = api.all(DEPLOYMENTS), api.all(STATEFULSETS), api.all(DAEMONSETS)
    standing = Counter(pod["metadata"]["labels"]["app"] for pod in api.all(PODS) if is_active(pod))
    images: dict[str, set[str]] = {"web": set(), "set": set(), "daemon": set()}
    for pod in filter(is_active, api.all(PODS)):
        images.setdefault(pod["metadata"]["labels"]["app"], set()).add(image_of(pod))
    return (
        standing["web"] == web["spec"]["replicas"] == (web["status"].get("availableReplicas") or 0)
        and standing["set"] == stateful["spec"]["replicas"] == (stateful["status"].get("availableReplicas") or 0)
        and standing["daemon"] == 3 == daemon["status"].get("numberAvailable")
        and all(images[one["metadata"]["name"]] == {image_of(one["spec"]["template"])} for one in (web, stateful, daemon))
        and all(get_condition(job, "Complete") for job in api.all(JOBS) if job["metadata"]["name"] in ("many", "indexed"))
        and sum(len(one["endpoints"] or ()) for one in api.all(ENDPOINTSLICES)) == standing["web"]
        and not any(is_deleting(pod) for pod in api.all(PODS))
    )  # fmt: skip


def check_jobs(api: FakeApi, seen: Witness) -> None:
    jobs = {job["metadata"]["name"]: job["status"] for job in api.all(JOBS)}
    assert (seen.created["many"], jobs["many"]["succeeded"]) == (20, 20), "each completion once"
    assert seen.by_index == Counter({str(index): 1 for index in range(8)}), "each index once"
    assert jobs["indexed"]["completedIndexes"] == "0-7"
    ticks = [job["metadata"] for job in api.all(JOBS) if job["metadata"]["name"].startswith("tick-")]
    times = [meta["annotations"][ANNOTATION_CRONJOB_SCHEDULED_TIMESTAMP] for meta in ticks]
    assert times
    assert len(times) == len(set(times)), "each tick once"
    assert seen.created["tick"] == len(times)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_manager_that_dies_at_any_write_makes_nothing_twice_and_leaves_nothing_behind(seed: int) -> None:
    async def test(api: FakeApi) -> None:
        r = random.Random(seed)
        api = SelectingApi(api.clock, seed)
        kubelet = PinningKubelet(api)
        kubelet.starts = lambda pod: ended("Succeeded") if controller_of(pod)["kind"] == "Job" else running(api)  # type: ignore[index]
        for name in ("node-0", "b", "c"):
            api.put(NODES, node(name))
        async with kubelet.at_work():
            await create_all(api)
            await die_again_and_again(api, r, LIVES, churning=True)
            async with immortal(api):
                await wait_for(lambda: is_settled(api), f"seed {seed}: a standstill")
                (cron,) = api.all(CRONJOBS)
                api.put(CRONJOBS, {**cron, "spec": {**cron["spec"], "suspend": True}})
                await wait_for(lambda: all(get_condition(job, "Complete") for job in api.all(JOBS)), "the last ticks have ended")
                seen = Witness()
                seen.replay(api)
                assert not seen.complaints, seen.complaints
                check_jobs(api, seen)
            await remove_all(api, r)

    run(test)


async def remove_all(api: FakeApi, r: random.Random) -> None:
    """Delete everything, die some more, and see that nothing is left."""
    for resource in (DEPLOYMENTS, STATEFULSETS, DAEMONSETS, CRONJOBS, JOBS, SERVICES):
        for one in api.all(resource):
            options = {"propagationPolicy": r.choice(("Background", "Foreground"))}
            await api.delete(resource, one["metadata"]["name"], "default", options=options)
    await die_again_and_again(api, r, 5, churning=False)
    async with immortal(api):
        left = (PODS, REPLICASETS, JOBS, DEPLOYMENTS, STATEFULSETS, DAEMONSETS, CRONJOBS, ENDPOINTSLICES)
        await wait_for(lambda: not any(api.all(resource) for resource in left), "orphans are left")
