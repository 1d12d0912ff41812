"""/metrics/cadvisor: what dashboards for Kubernetes' nodes ask for, under cAdvisor's names and labels. Pure rendering of the usage model.

Container figures carry `container` and `image`; those of a whole pod have both empty, and its sandbox's are left out, so that sums over
`container!=""` are right as they are on a real node. Left out: file systems, networks, pressure, throttling, limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from .stats import ContainerUsage, PodUsage

MEMORY_FAMILIES = ("container_memory_rss", "container_memory_usage_bytes", "container_memory_working_set_bytes")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node has: cores and bytes."""

    cores: int
    memory_bytes: int


def cadvisor_metrics(pods: Iterable[PodUsage], machine: Machine, now: datetime) -> str:
    """The body, in the Prometheus text format."""
    families: dict[str, list[str]] = {}
    stamp = int(now.timestamp() * 1000)
    for pod in pods:
        cpu = sum(container.cpu_core_nanoseconds for container in pod.containers)
        memory = sum(container.memory_bytes for container in pod.containers)
        for labels, spent, size, started in (*_containers(pod), (_labels(pod, None), cpu, memory, pod.started_at)):
            families.setdefault("container_cpu_usage_seconds_total", []).append(f'{{cpu="total",{labels}}} {spent / 1e9:.6f} {stamp}')
            families.setdefault("container_last_seen", []).append(f"{{{labels}}} {now.timestamp():.0f} {stamp}")
            families.setdefault("container_start_time_seconds", []).append(f"{{{labels}}} {started.timestamp():.3f} {stamp}")
            for name in MEMORY_FAMILIES:
                families.setdefault(name, []).append(f"{{{labels}}} {size} {stamp}")
    families["machine_cpu_cores"] = [f" {machine.cores}"]
    families["machine_memory_bytes"] = [f" {machine.memory_bytes}"]
    return "".join(
        f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n" + "".join(f"{name}{sample}\n" for sample in samples)
        for name, samples in sorted(families.items())
    )


def _containers(pod: PodUsage) -> Iterator[tuple[str, int, int, datetime]]:
    for container in pod.containers:
        yield _labels(pod, container), container.cpu_core_nanoseconds, container.memory_bytes, container.started_at


def _labels(pod: PodUsage, container: ContainerUsage | None) -> str:
    """Without the outer braces. `id` is the cgroup's path."""
    name, image = (container.name, container.image) if container else ("", "")
    cgroup = f"/kubepods/pod{pod.uid}" + (f"/{name}" if name else "")
    known = {"container": name, "id": cgroup, "image": image, "name": name, "namespace": pod.namespace, "pod": pod.name}
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in known.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
