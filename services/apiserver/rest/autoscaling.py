"""HorizontalPodAutoscalers of autoscaling/v1 to and from the stored v2. What v1 has no field for travels in annotations.

Imitates pkg/apis/autoscaling/v1/conversion.go.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.names import HPA_BEHAVIOR, HPA_CONDITIONS, HPA_CURRENT_METRICS, HPA_METRICS
from kubecosm.api.resources import Object

_ANNOTATIONS = (HPA_METRICS, HPA_CURRENT_METRICS, HPA_CONDITIONS, HPA_BEHAVIOR)

_BEHAVIOR_NAMES = {
    "scaleUp": "ScaleUp", "scaleDown": "ScaleDown", "stabilizationWindowSeconds": "StabilizationWindowSeconds",
    "selectPolicy": "SelectPolicy", "policies": "Policies", "tolerance": "Tolerance", "type": "Type", "value": "Value",
    "periodSeconds": "PeriodSeconds",
}  # fmt: skip
"""The annotation holds Go's internal type, whose fields have no JSON names."""
_BEHAVIOR_NAMES_BACK = {internal: name for name, internal in _BEHAVIOR_NAMES.items()}
_VALUE_NAMES = {
    "Resource": {"averageUtilization": "targetAverageUtilization", "averageValue": "targetAverageValue"},
    "ContainerResource": {"averageUtilization": "targetAverageUtilization", "averageValue": "targetAverageValue"},
    "Pods": {"averageValue": "targetAverageValue"},
    "Object": {"value": "targetValue", "averageValue": "averageValue"},
    "External": {"value": "targetValue", "averageValue": "targetAverageValue"},
}
"""Metric type → where v1 keeps the values of v2's `target`."""
_CURRENT_NAMES = {
    "Resource": {"averageUtilization": "currentAverageUtilization", "averageValue": "currentAverageValue"},
    "ContainerResource": {"averageUtilization": "currentAverageUtilization", "averageValue": "currentAverageValue"},
    "Pods": {"averageValue": "currentAverageValue"},
    "Object": {"value": "currentValue", "averageValue": "averageValue"},
    "External": {"value": "currentValue", "averageValue": "currentAverageValue"},
}
_TARGET_TYPES = {"averageUtilization": "Utilization", "averageValue": "AverageValue", "value": "Value"}


def to_v2(obj: Object) -> Object:
    """A v1 object as it is stored. Annotations that do not parse are dropped like the others."""
    meta = dict(obj["metadata"])
    annotations = dict(meta.get("annotations") or {})
    kept = {name: value for name, value in annotations.items() if name not in _ANNOTATIONS}
    if kept:
        meta["annotations"] = kept
    else:
        meta.pop("annotations", None)
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics = [_metric_to_v2(metric, "target", _VALUE_NAMES) for metric in _parsed(annotations, HPA_METRICS, list)]
    if (percent := spec.pop("targetCPUUtilizationPercentage", None)) is not None:
        metrics.append(_cpu_metric("target", {"type": "Utilization", "averageUtilization": percent}))
    if metrics:
        spec["metrics"] = metrics
    if behavior := _renamed(_parsed(annotations, HPA_BEHAVIOR, dict), _BEHAVIOR_NAMES_BACK):
        spec["behavior"] = behavior
    return {**obj, "apiVersion": "autoscaling/v2", "metadata": meta, "spec": spec, "status": _status_to_v2(status, annotations)}


def _status_to_v2(status: Object, annotations: dict[str, str]) -> Object:
    current = [_metric_to_v2(metric, "current", _CURRENT_NAMES) for metric in _parsed(annotations, HPA_CURRENT_METRICS, list)]
    percent = status.pop("currentCPUUtilizationPercentage", None)
    if percent is not None and not any(_is_cpu(metric) for metric in current):
        current.append(_cpu_metric("current", {"averageUtilization": percent}))
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    conditions = _parsed(annotations, HPA_CONDITIONS, list)
    return {
        "desiredReplicas": 0, **status, "currentMetrics": current or None, **({"conditions": conditions} if conditions else {}),
    }  # fmt: skip


def from_v2(obj: Object) -> Object:
    """A stored object as v1 shows it."""
    meta, spec = dict(obj["metadata"]), dict(obj.get("spec") or {})
    annotations = dict(meta.get("annotations") or {})
    others: list[Object] = []
    for metric in spec.pop("metrics", None) or ():
        percent = metric["resource"].get("target", {}).get("averageUtilization") if _is_cpu(metric) else None
        if percent is None:
            others.append(_metric_to_v1(metric, "target", _VALUE_NAMES))
        else:
            spec["targetCPUUtilizationPercentage"] = percent
    behavior = spec.pop("behavior", None)
    status, current, conditions = _status_to_v1(obj.get("status") or {})
    found = ((HPA_METRICS, others), (HPA_CURRENT_METRICS, current), (HPA_CONDITIONS, conditions))
    for name, values in found:
        if values:
            annotations[name] = orjson.dumps(values).decode()
    if behavior is not None:
        annotations[HPA_BEHAVIOR] = orjson.dumps(_renamed(behavior, _BEHAVIOR_NAMES)).decode()
    if annotations:
        meta["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}


def _status_to_v1(stored: Object) -> tuple[Object, list[Object], list[Object]]:
    """(status, metrics for the annotation, conditions)."""
    status = {"currentReplicas": 0, "desiredReplicas": 0, **stored}
    metrics: list[Object] = status.pop("currentMetrics", None) or []
    for metric in metrics:
        if _is_cpu(metric) and (percent := metric["resource"].get("current", {}).get("averageUtilization")) is not None:
            status["currentCPUUtilizationPercentage"] = percent
    conditions: list[Object] = status.pop("conditions", None) or []
    return status, [_metric_to_v1(metric, "current", _CURRENT_NAMES) for metric in metrics], conditions


def _is_cpu(metric: Object) -> bool:
    return metric.get("type") == "Resource" and (metric.get("resource") or {}).get("name") == "cpu"


def _cpu_metric(field: str, value: Object) -> Object:
    return {"type": "Resource", "resource": {"name": "cpu", field: value}}


def _field_of(kind: str) -> str:
    return kind[:1].lower() + kind[1:]


def _metric_to_v1(metric: Object, field: str, names: dict[str, dict[str, str]]) -> Object:
    kind = metric.get("type", "")
    source = dict(metric.get(_field_of(kind)) or {})
    values = source.pop(field, None) or {}
    selected = source.pop("metric", None) or {}
    if kind == "Object":
        source["target"] = source.pop("describedObject", {})
    if selected:
        source["metricName"] = selected.get("name", "")
        if "selector" in selected:
            source["metricSelector" if kind == "External" else "selector"] = selected["selector"]
    source |= {names[kind][name]: value for name, value in values.items() if name in names.get(kind, {})}
    return {"type": kind, _field_of(kind): source}


def _metric_to_v2(metric: Object, field: str, names: dict[str, dict[str, str]]) -> Object:
    kind = metric.get("type", "")
    source = dict(metric.get(_field_of(kind)) or {})
    values = {name: source.pop(old) for name, old in names.get(kind, {}).items() if source.get(old) is not None}
    if kind == "Object":
        source["describedObject"] = source.pop("target", {})
    if "metricName" in source:
        selector = source.pop("metricSelector" if kind == "External" else "selector", None)
        source["metric"] = {"name": source.pop("metricName"), **({} if selector is None else {"selector": selector})}
    if field == "target":
        values["type"] = next((_TARGET_TYPES[name] for name in _TARGET_TYPES if name in values), "")
    return {"type": kind, _field_of(kind): {**source, field: values}}


def _parsed(annotations: dict[str, str], name: str, shape: type) -> Any:
    try:
        value = orjson.loads(annotations.get(name) or "null")
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, shape) else shape()


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(name, name): _renamed(part, names) for name, part in value.items() if part is not None}
    return [_renamed(part, names) for part in value] if isinstance(value, list) else value
