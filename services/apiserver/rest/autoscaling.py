"""HorizontalPodAutoscalers between autoscaling/v1 and v2: v1 knows a CPU target; what else there is travels in annotations.

Imitates pkg/apis/autoscaling/v1/conversion.go.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.names import HPA_BEHAVIOR, HPA_CONDITIONS, HPA_CURRENT_METRICS, HPA_METRICS
from kubecosm.api.resources import Object

V1, V2 = "autoscaling/v1", "autoscaling/v2"
_ANNOTATIONS = frozenset((HPA_METRICS, HPA_CURRENT_METRICS, HPA_CONDITIONS, HPA_BEHAVIOR))


def _is_cpu(metric: Object) -> bool:
    return metric.get("type") == "Resource" and (metric.get("resource") or {}).get("name") == "cpu"


def _loads(annotations: dict[str, str], name: str) -> Any:
    """What an annotation holds; nothing if it is not there or not JSON, as anybody may write it."""
    try:
        return orjson.loads(annotations[name])
    except (KeyError, orjson.JSONDecodeError):
        return None


def to_v2(obj: Object) -> Object:
    """v1 → v2."""
    meta, spec, status = dict(obj["metadata"]), dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = meta.get("annotations") or {}
    metrics = _loads(annotations, HPA_METRICS) or []
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        wanted = {"type": "Utilization", "averageUtilization": target}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": wanted}}, *metrics]
    if metrics:
        spec["metrics"] = metrics
    if behavior := _loads(annotations, HPA_BEHAVIOR):
        spec["behavior"] = behavior
    current = _loads(annotations, HPA_CURRENT_METRICS) or []
    utilization = status.pop("currentCPUUtilizationPercentage", None)
    if utilization is not None:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": utilization}}}, *current]
    if current:
        status["currentMetrics"] = current
    if conditions := _loads(annotations, HPA_CONDITIONS):
        status["conditions"] = conditions
    kept = {name: value for name, value in annotations.items() if name not in _ANNOTATIONS}
    if annotations:
        meta["annotations"] = kept
        if not kept:
            del meta["annotations"]
    return {**obj, "apiVersion": V2, "metadata": meta, "spec": spec, "status": status}


def from_v2(obj: Object) -> Object:
    """v2 → v1."""
    meta, spec, status = dict(obj["metadata"]), dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(meta.get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if _is_cpu(metric) and "averageUtilization" in target:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
        else:
            others.append(metric)
    kept = []
    for metric in status.pop("currentMetrics", None) or ():
        current = (metric.get("resource") or {}).get("current") or {}
        if _is_cpu(metric) and "averageUtilization" in current:
            status["currentCPUUtilizationPercentage"] = current["averageUtilization"]
        else:
            kept.append(metric)
    parts = (
        (HPA_METRICS, others), (HPA_CURRENT_METRICS, kept), (HPA_CONDITIONS, status.pop("conditions", None)),
        (HPA_BEHAVIOR, spec.pop("behavior", None)),
    )  # fmt: skip
    annotations |= {name: orjson.dumps(part).decode() for name, part in parts if part}
    if annotations:
        meta["annotations"] = annotations
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return {**obj, "apiVersion": V1, "metadata": meta, "spec": spec, "status": status}
