"""How many pods a second the scheduling algorithm decides, by node count: no API server, no HTTP, everything else as in production.

Each pod is compiled, queued, decided, assumed and confirmed.

    python bench/scheduler_perf.py [--nodes 100,1000,5000] [--pods 2000] [--existing 0] [--workload …]

The workloads follow upstream's scheduler_perf. Prints a table; `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.scheduler.framework.defaults import ProfileConfig
from kubecosm.services.scheduler.handlers import EventHandlers
from kubecosm.services.scheduler.metrics import SchedulerMetrics
from kubecosm.services.scheduler.scheduler import Scheduler

ZONES = 10
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


class NoApi:
    """Takes everything, does nothing."""

    async def bind(self, *_: Any) -> None: ...

    async def patch_status(self, *_: Any) -> None: ...

    async def delete_pod(self, *_: Any) -> None: ...

    async def patch_claim(self, *_: Any) -> None: ...

    async def patch_volume(self, *_: Any) -> None: ...

    def event(self, *_: Any, **__: Any) -> None: ...


def make_node(index: int) -> Object:
    name = f"node-{index:05d}"
    return {
        "metadata": {"name": name, "labels": {HOSTNAME: name, ZONE: f"zone-{index % ZONES}"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def make_pod(name: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}, "generation": 1},
        "spec": {
            "schedulerName": "default-scheduler", "priority": 0,
            "containers": [{"name": "c", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}],
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            **spec,
        },
        "status": {"phase": "Pending"},
    }  # fmt: skip


def term(key: str) -> Object:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}}


def spread(key: str, when: str) -> Object:
    return {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}}


REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
WORKLOADS: dict[str, Callable[[str], Object]] = {
    "basic": make_pod,
    "node affinity": lambda name: make_pod(name, affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone-1", "zone-2"]}]}]}}}),
    "pod affinity": lambda name: make_pod(name, affinity={"podAffinity": {REQUIRED: [term(ZONE)]}}),
    "pod anti-affinity": lambda name: make_pod(name, affinity={"podAntiAffinity": {REQUIRED: [term(HOSTNAME)]}}),
    "preferred pod affinity": lambda name: make_pod(
        name, affinity={"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term(HOSTNAME)}]}}),
    "preferred pod anti-affinity": lambda name: make_pod(
        name, affinity={"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term(HOSTNAME)}]}}),
    "topology spreading": lambda name: make_pod(
        name, topologySpreadConstraints=[spread(ZONE, "DoNotSchedule"), spread(HOSTNAME, "ScheduleAnyway")]),
    "default spreading": make_pod,
    "unschedulable": lambda name: make_pod(name, nodeSelector={"no": "such"}),
    "basic beside 20k waiting": make_pod,
    "preemption": lambda name: make_pod(name, priority=1000),
}  # fmt: skip


def measure(workload: str, node_count: int, pod_count: int, existing: int = 0) -> dict[str, Any]:
    """Pods decided per second after a warm-up, and the slowest decisions; `existing` pods run on the nodes before."""
    scheduler = Scheduler((ProfileConfig(),), NoApi(), SchedulerMetrics(Metrics()), clock=RealClock(), rng=random.Random(1))  # type: ignore[arg-type]
    scheduler.spawn = lambda name, work: work.close()  # type: ignore[method-assign]
    handlers = EventHandlers(scheduler)
    for index in range(node_count):
        handlers.node_added(make_node(index))
    if workload == "default spreading":
        service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}
        scheduler.handle.workloads.set_service(service)
    if workload == "basic beside 20k waiting":
        for index in range(20_000):
            pod = make_pod(f"stuck-{index}", nodeSelector={"no": "such"})
            handlers.pod_added(pod)
            queued = scheduler.queue.pop()
            assert queued is not None
            scheduler.schedule_one(queued)
    if workload == "preemption":
        fill_nodes(handlers, node_count)
    for index in range(existing):
        handlers.pod_added(make_pod(f"existing-{index}", nodeName=f"node-{index % node_count:05d}"))
    build = WORKLOADS[workload]
    for index in range(min(50, pod_count)):
        decide(scheduler, handlers, build(f"warm-{index}"))
    gc.collect()
    gc.freeze()
    pods = [build(f"pod-{index}") for index in range(pod_count)]
    times = []
    started = time.perf_counter()
    for pod in pods:
        before = time.perf_counter()
        decide(scheduler, handlers, pod)
        times.append(time.perf_counter() - before)
    elapsed = time.perf_counter() - started
    times.sort()
    return {
        "workload": workload, "nodes": node_count, "existing": existing, "pods": pod_count, "podsPerSecond": round(pod_count / elapsed),
        "p50Microseconds": round(times[len(times) // 2] * 1e6), "p99Microseconds": round(times[len(times) * 99 // 100] * 1e6),
    }  # fmt: skip


def fill_nodes(handlers: EventHandlers, node_count: int) -> None:
    """Four low-priority pods take all the cpu of each node."""
    for index in range(node_count):
        for slot in range(4):
            pod = make_pod(f"low-{index}-{slot}", nodeName=f"node-{index:05d}", priority=slot)
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1"
            handlers.pod_added(pod)


def decide(scheduler: Scheduler, handlers: EventHandlers, pod: Object) -> None:
    handlers.pod_added(pod)
    queued = scheduler.queue.pop()
    assert queued is not None
    binding = scheduler.schedule_one(queued)
    if binding is None:
        handlers.pod_deleted(pod)
        return
    binding.close()
    bound = {**pod, "spec": {**pod["spec"], "nodeName": queued.info.node_name}}
    handlers.pod_updated(pod, bound)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="100,1000,5000")
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--existing", default="0", help="pods that run before, as a list: the curve over the size of the cluster")
    parser.add_argument("--workload", default=",".join(WORKLOADS))
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    results = []
    if unknown := set(options.workload.split(",")) - set(WORKLOADS):
        parser.error(f"unknown workload {sorted(unknown)[0]!r}; there are: {', '.join(WORKLOADS)}")
    print(f"{'workload':<30}{'nodes':>8}{'existing':>10}{'pods':>8}{'pods/s':>10}{'p50 µs':>10}{'p99 µs':>10}")
    for workload in options.workload.split(","):
        for nodes, existing in itertools.product(map(int, options.nodes.split(",")), map(int, options.existing.split(","))):
            result = measure(workload, nodes, options.pods, existing)
            results.append(result)
            figures = "".join(f"{result[name]:>10}" for name in ("podsPerSecond", "p50Microseconds", "p99Microseconds"))
            print(f"{workload:<30}{nodes:>8}{existing:>10}{options.pods:>8}{figures}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
