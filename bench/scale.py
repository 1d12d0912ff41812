"""Large clusters: 5,000 nodes and 10,000 pods on them, what they cost at rest, and whether a pod costs the same at 1,000 and at 50,000."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .processes import cpu_seconds, pss_mib
from .targets import Kubecosm, Session
from .workloads import DEPLOYMENTS, deployment, wait_ready

NODES, PODS, REPLICAS = 5000, 10_000, 1000
SETTLE_SECONDS, IDLE_SECONDS = 15.0, 30.0
STEPS = (1_000, 5_000, 10_000, 20_000, 35_000, 50_000)
CURVE_NODES = 500
WAIT_READY_SECONDS = 300.0


def measure() -> Iterator[tuple[str, dict[str, float]]]:
    yield from measure_nodes()
    yield from measure_curve()


def measure_nodes() -> Iterator[tuple[str, dict[str, float]]]:
    """Many nodes: up to all Ready, pods on them, and the cluster at rest."""
    with Kubecosm(nodes=NODES) as cluster:
        yield f"{NODES:,} nodes to all Ready", {"seconds": round(cluster.started_seconds, 2)}
        pids = cluster.pids()
        time.sleep(SETTLE_SECONDS)
        yield f"{NODES:,} nodes at rest", _at_rest(pids)
        session, components = Session(cluster.url, cluster.token), cluster.component_pids()
        before = {name: cpu_seconds([pid]) for name, pid in components.items()}
        started = time.perf_counter()
        for number in range(PODS // REPLICAS):
            session.call(DEPLOYMENTS, deployment(f"bench-{number}", REPLICAS))
        seconds = wait_ready(session, PODS) - started
        used = {f"{name}_ms_per_pod": round(1000 * (cpu_seconds([pid]) - before[name]) / PODS, 2) for name, pid in components.items()}
        yield f"{PODS:,} pods on them to all Ready", {"seconds": round(seconds, 2), "pods_per_s": round(PODS / seconds), **used}


def _at_rest(pids: list[int]) -> dict[str, float]:
    before = cpu_seconds(pids)
    time.sleep(IDLE_SECONDS)
    used = cpu_seconds(pids) - before
    return {"cpu_percent": round(100 * used / IDLE_SECONDS, 1), "pss_mib": round(pss_mib(pids), 1)}


def measure_curve() -> Iterator[tuple[str, dict[str, float]]]:
    """One cluster that is filled in steps: time and memory for each pod of a step."""
    with Kubecosm(nodes=CURVE_NODES) as cluster:
        session, pids = Session(cluster.url, cluster.token), cluster.pids()
        memory, cpu, there = pss_mib(pids), cpu_seconds(pids), 0
        for total in STEPS:
            started = time.perf_counter()
            for number in range(there // REPLICAS, total // REPLICAS):
                session.call(DEPLOYMENTS, deployment(f"bench-{number}", REPLICAS))
            seconds = wait_ready(session, total, WAIT_READY_SECONDS) - started
            now_memory, now_cpu, added = pss_mib(pids), cpu_seconds(pids), total - there
            yield f"{there:,} to {total:,} pods", {
                "pods_per_s": round(added / seconds), "cpu_ms_per_pod": round(1000 * (now_cpu - cpu) / added, 2),
                "kib_per_pod": round(1024 * (now_memory - memory) / added, 1), "pss_mib": round(now_memory, 1),
            }  # fmt: skip
            memory, cpu, there = now_memory, now_cpu, total
