"""/metrics/resources: what every pod requests and is limited to, as kube-scheduler tells it (pkg/scheduler/metrics/resources).

Worked out when somebody asks, in slices, so that a large cluster's answer does not hold up scheduling. Pods that have ended are not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client.utils import floatToGoString

from kubecosm.api.resources import Object

from .state.requests import CPU, EPHEMERAL_STORAGE, MEMORY, Requests, spec_total

PATH = "/metrics/resources"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PODS_AT_ONCE = 200
"""Some 4 ms."""

HELP = (
    "Resource{} workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for "
    "resources along with the unit for the resource if any."
)
KINDS = (
    ("limits", "kube_pod_resource_limit", HELP.format("s limit for")),
    ("requests", "kube_pod_resource_request", HELP.format("s requested by")),
)
"""Field of a container's resources, metric, help."""
UNITS = {CPU: "cores", MEMORY: "bytes", EPHEMERAL_STORAGE: "bytes", "storage": "bytes"}


async def render(pods: Iterable[Object]) -> bytes:
    """The metrics of these pods in Prometheus' text format."""
    known = list(pods)
    lines: list[str] = []
    for field, metric, text in KINDS:
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} gauge"]
        for start in range(0, len(known), PODS_AT_ONCE):
            for pod in known[start : start + PODS_AT_ONCE]:
                lines += samples(pod, metric, spec_total(pod, field))
            await asyncio.sleep(0)
    return ("\n".join(lines) + "\n").encode()


def samples(pod: Object, metric: str, total: Requests) -> Iterator[str]:
    """One line per resource of a pod; what is zero is left out."""
    meta, spec = pod["metadata"], pod["spec"]
    priority = spec.get("priority")
    where = (
        f'namespace="{meta.get("namespace", "")}",node="{spec.get("nodeName") or ""}",pod="{meta["name"]}",'
        f'priority="{"" if priority is None else priority}"'
    )
    for resource, value in total.items():
        if value:
            figure = floatToGoString(value / 1000 if resource == CPU else value)  # type: ignore[no-untyped-call]
            labels = f'{where},resource="{resource}",scheduler="{spec.get("schedulerName") or ""}",unit="{unit_of(resource)}"'
            yield f"{metric}{{{labels}}} {figure}"


def unit_of(resource: str) -> str:
    """What a resource is counted in; empty for extended resources."""
    if resource.startswith("hugepages-"):
        return "bytes"
    return UNITS.get(resource) or ("integer" if resource.startswith("attachable-volumes-") else "")
