"""Start-up, memory at rest and idle CPU of a whole cluster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from .processes import cpu_seconds, pss_mib
from .targets import Kubecosm

RUNS = 5
SETTLE_SECONDS = 5.0
IDLE_SECONDS = 20.0


def measure(nodes: int) -> Iterator[tuple[str, dict[str, float]]]:
    """`up` from nothing to all nodes Ready (first start, keys and certificates included), then the cluster at rest."""
    times = []
    for _ in range(RUNS):
        with Kubecosm(nodes=nodes) as cluster:
            times.append(cluster.started_seconds)
    figures = {"median_s": statistics.median(times), "min_s": min(times), "max_s": max(times)}
    yield f"up, {nodes} nodes, to all Ready", {name: round(value, 2) for name, value in figures.items()}
    with Kubecosm(nodes=nodes) as cluster:
        time.sleep(SETTLE_SECONDS)
        pids = cluster.pids()
        before = cpu_seconds(pids)
        time.sleep(IDLE_SECONDS)
        used = cpu_seconds(pids) - before
        yield f"idle, {nodes} nodes", {"pss_mib": round(pss_mib(pids), 1), "cpu_percent": round(100 * used / IDLE_SECONDS, 2)}
