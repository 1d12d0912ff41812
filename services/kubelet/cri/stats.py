"""/stats/summary and /metrics/resource from the usage model. Pure rendering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """One container's use: CPU in nanocores and core-nanoseconds in all, memory in bytes."""

    name: str
    started_at: datetime
    cpu_nanocores: int
    cpu_core_nanoseconds: int
    memory_bytes: int
    image: str = ""


@dataclass(frozen=True, slots=True)
class PodUsage:
    namespace: str
    name: str
    uid: str
    started_at: datetime
    containers: tuple[ContainerUsage, ...]


def summary(node_name: str, pods: Iterable[PodUsage], now: datetime, started_at: datetime, memory_capacity: int) -> Object:
    """The body of /stats/summary (stats/v1alpha1.Summary)."""
    listed = [_pod(pod, now) for pod in pods]
    cpu = sum(pod["cpu"]["usageNanoCores"] for pod in listed)
    total = sum(pod["cpu"]["usageCoreNanoSeconds"] for pod in listed)
    memory = sum(pod["memory"]["workingSetBytes"] for pod in listed)
    return {
        "node": {
            "nodeName": node_name, "startTime": format_time(started_at), "cpu": _cpu(now, cpu, total),
            "memory": {**_memory(now, memory), "availableBytes": max(0, memory_capacity - memory)},
        },
        "pods": listed,
    }  # fmt: skip


def _pod(pod: PodUsage, now: datetime) -> Object:
    containers = [
        {
            "name": c.name, "startTime": format_time(c.started_at), "cpu": _cpu(now, c.cpu_nanocores, c.cpu_core_nanoseconds),
            "memory": _memory(now, c.memory_bytes),
        }
        for c in pod.containers
    ]  # fmt: skip
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": format_time(pod.started_at),
        "containers": containers,
        "cpu": _cpu(now, sum(c.cpu_nanocores for c in pod.containers), sum(c.cpu_core_nanoseconds for c in pod.containers)),
        "memory": _memory(now, sum(c.memory_bytes for c in pod.containers)),
    }


def _cpu(now: datetime, nanocores: int, total: int) -> Object:
    return {"time": format_time(now), "usageNanoCores": nanocores, "usageCoreNanoSeconds": total}


def _memory(now: datetime, size: int) -> Object:
    return {"time": format_time(now), "usageBytes": size, "workingSetBytes": size, "rssBytes": size}


def resource_metrics(pods: Iterable[PodUsage], now: datetime) -> str:
    """The body of /metrics/resource, in the Prometheus text format."""
    stamp = int(now.timestamp() * 1000)
    cpu, memory, pod_cpu, pod_memory, starts = [], [], [], [], []
    node_cpu = node_memory = 0
    for pod in pods:
        where = f'namespace="{pod.namespace}",pod="{pod.name}"'
        for container in pod.containers:
            labels = f'container="{container.name}",{where}'
            cpu.append(f"container_cpu_usage_seconds_total{{{labels}}} {container.cpu_core_nanoseconds / 1e9:.6f} {stamp}")
            memory.append(f"container_memory_working_set_bytes{{{labels}}} {container.memory_bytes} {stamp}")
            starts.append(f"container_start_time_seconds{{{labels}}} {container.started_at.timestamp():.3f}")
        total = sum(c.cpu_core_nanoseconds for c in pod.containers)
        size = sum(c.memory_bytes for c in pod.containers)
        node_cpu, node_memory = node_cpu + total, node_memory + size
        pod_cpu.append(f"pod_cpu_usage_seconds_total{{{where}}} {total / 1e9:.6f} {stamp}")
        pod_memory.append(f"pod_memory_working_set_bytes{{{where}}} {size} {stamp}")
    families = (
        ("container_cpu_usage_seconds_total", "counter", cpu), ("container_memory_working_set_bytes", "gauge", memory),
        ("container_start_time_seconds", "gauge", starts), ("pod_cpu_usage_seconds_total", "counter", pod_cpu),
        ("pod_memory_working_set_bytes", "gauge", pod_memory),
        ("node_cpu_usage_seconds_total", "counter", [f"node_cpu_usage_seconds_total {node_cpu / 1e9:.6f} {stamp}"]),
        ("node_memory_working_set_bytes", "gauge", [f"node_memory_working_set_bytes {node_memory} {stamp}"]),
        ("resource_scrape_error", "gauge", ["resource_scrape_error 0"]),
    )  # fmt: skip
    return "".join(f"# TYPE {name} {kind}\n" + "".join(f"{line}\n" for line in lines) for name, kind, lines in families)
