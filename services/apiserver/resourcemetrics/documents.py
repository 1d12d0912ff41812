"""NodeMetrics and PodMetrics out of kubelets' summaries. Pure; shapes and printed columns are metrics-server's."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.quantity import BINARY_SI, Quantity
from kubecosm.api.resources import Object, Resource

from .rows import NODE_METRICS

WINDOW = "10s"
"""What a kubelet's rate of CPU use is taken over."""
KIBI = 1024


def usage_of(stats: Object) -> Object:
    """ResourceList of a node's or container's `cpu` and `memory` in a summary."""
    memory = (stats.get("memory") or {}).get("workingSetBytes", 0)
    cpu = Quantity((stats.get("cpu") or {}).get("usageNanoCores", 0))
    return {"cpu": str(cpu), "memory": str(Quantity.from_value(memory // KIBI * KIBI, BINARY_SI))}


def node_metrics(node: Object, summary: Object) -> Object:
    stats = summary["node"]
    return {**_head("NodeMetrics", node, stats), "usage": usage_of(stats)}


def pod_metrics(pod: Object, stats: Object) -> Object:
    containers = [{"name": one["name"], "usage": usage_of(one)} for one in stats.get("containers") or ()]
    return {**_head("PodMetrics", pod, stats), "containers": containers}


def _head(kind: str, subject: Object, stats: Object) -> Object:
    meta, at = subject["metadata"], (stats.get("cpu") or {}).get("time") or stats.get("startTime")
    metadata: Object = {"name": meta["name"], "creationTimestamp": at}
    for field in ("namespace", "labels"):
        if meta.get(field):
            metadata[field] = meta[field]
    return {"kind": kind, "apiVersion": NODE_METRICS.api_version, "metadata": metadata, "timestamp": at, "window": WINDOW}


def list_document(row: Resource, items: Sequence[Object]) -> Object:
    bare = [{name: value for name, value in item.items() if name not in ("kind", "apiVersion")} for item in items]
    return {"kind": f"{row.kind}List", "apiVersion": row.api_version, "metadata": {}, "items": bare}


def table_document(row: Resource, items: Sequence[Object], version: str) -> Object:
    """A Table: name, use of CPU and memory, window."""
    names = ("cpu", "memory")
    columns = [_column("Name", "name", "Name of the resource"), *(_column(name, "", f"{name} usage") for name in names)]
    rows = []
    for item in items:
        usages = [item["usage"]] if row == NODE_METRICS else [container["usage"] for container in item["containers"]]
        cells = [str(_sum([usage[name] for usage in usages])) for name in names]
        metadata = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": item["metadata"]}
        rows.append({"cells": [item["metadata"]["name"], *cells, item["window"]], "object": metadata})
    columns.append(_column("Window", "", "Time window that the usage was measured over"))
    return {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": {}, "columnDefinitions": columns, "rows": rows}


def _sum(amounts: Sequence[str]) -> Quantity:
    total = Quantity(0)
    for amount in amounts:
        total += Quantity.of(amount)
    return total


def _column(name: str, form: str, description: str) -> Object:
    return {"name": name, "type": "string", "format": form, "description": description, "priority": 0}
