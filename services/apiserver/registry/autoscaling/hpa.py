"""HorizontalPodAutoscalers, stored as autoscaling/v2. Imitates pkg/apis/autoscaling validation and v2 defaults."""

from __future__ import annotations

from typing import Any

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.resources import amount
from ..formats import NEGATIVE, Errors, is_path_segment
from ..strategy import Strategy, keep_field

STABILIZATION_SECONDS_MAX = 3600
PERIOD_SECONDS_MAX = 1800
DEFAULT_UTILIZATION = 80
METRIC_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")
SELECT_POLICIES = ("Disabled", "Max", "Min")
POLICY_TYPES = ("Percent", "Pods")
_SOURCES = {"object": "Object", "external": "External", "pods": "Pods", "resource": "Resource", "containerResource": "ContainerResource"}
_SCALE_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_SCALE_DOWN: Object = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


class HorizontalPodAutoscalerStrategy(Strategy):
    """A HorizontalPodAutoscaler as users create and update it, in either version."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        spec: dict[str, Any] = obj.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if self.resource.version == "v1":
            return
        obj.setdefault("status", {})
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": DEFAULT_UTILIZATION}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        if "behavior" in spec:
            behavior = spec["behavior"]
            behavior["scaleUp"] = _merged(_SCALE_UP, behavior.get("scaleUp"))
            behavior["scaleDown"] = _merged(_SCALE_DOWN, behavior.get("scaleDown"))

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"desiredReplicas": 0, "currentMetrics": None}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], errors)
        return errors


def _merged(defaults: Object, rules: Object | None) -> Object:
    return {**defaults, **{k: v for k, v in (rules or {}).items() if v is not None}}


def _check_spec(spec: Object, errors: Errors) -> None:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    _check_reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", errors)
    for i, metric in enumerate(spec.get("metrics") or ()):
        _check_metric(metric, f"spec.metrics[{i}]", errors)
    for direction in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(direction)
        if rules is not None:
            _check_rules(rules, f"spec.behavior.{direction}", errors)


def _check_reference(reference: Object, path: str, errors: Errors) -> None:
    for field in ("kind", "name"):
        value = reference.get(field)
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            for complaint in is_path_segment(value):
                errors.append(invalid_value(f"{path}.{field}", value, complaint))


def _check_metric(metric: Object, path: str, errors: Errors) -> None:
    kind = metric.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in METRIC_TYPES:
        errors.append(not_supported(f"{path}.type", kind, METRIC_TYPES))
    present = [source for source in _SOURCES if source in metric]
    if present:
        _CHECKS[present[0]](metric[present[0]], f"{path}.{present[0]}", errors)
    expected = next((source for source, name in _SOURCES.items() if name == kind), "")
    if expected and expected not in metric:
        errors.append(required(f"{path}.{expected}", "must populate information for the given metric source"))
    if len(present) != 1:
        for source in present:
            if source != expected:
                errors.append(forbidden_field(f"{path}.{source}", "must populate the given metric source only"))


def _check_target(target: Object, path: str, errors: Errors) -> None:
    kind = target.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        errors.append(invalid_value(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for field in ("value", "averageValue"):
        if field in target and amount(target[field]).nanos <= 0:
            errors.append(invalid_value(f"{path}.{field}", target[field], "must be positive"))
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        errors.append(invalid_value(f"{path}.averageUtilization", utilization, "must be greater than 0"))


def _check_identifier(identifier: Object, path: str, errors: Errors) -> None:
    name = identifier.get("name")
    if not name:
        errors.append(required(f"{path}.name", "must specify a metric name"))
    else:
        for complaint in is_path_segment(name):
            errors.append(invalid_value(f"{path}.name", name, complaint))


def _check_resource(source: Object, path: str, errors: Errors) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    target = source.get("target") or {}
    _check_target(target, f"{path}.target", errors)
    if "averageUtilization" not in target and "averageValue" not in target:
        errors.append(required(f"{path}.target.averageUtilization", "must set either a target raw value or a target utilization"))
    if "averageUtilization" in target and "averageValue" in target:
        errors.append(forbidden_field(f"{path}.target.averageValue", "may not set both a target raw value and a target utilization"))


def _check_container_resource(source: Object, path: str, errors: Errors) -> None:
    if not source.get("container"):
        errors.append(required(f"{path}.container", "must specify a container"))
    _check_resource(source, path, errors)


def _check_pods(source: Object, path: str, errors: Errors) -> None:
    target = source.get("target") or {}
    _check_identifier(source.get("metric") or {}, f"{path}.metric", errors)
    _check_target(target, f"{path}.target", errors)
    if "averageValue" not in target or amount(target["averageValue"]).nanos <= 0:
        errors.append(required(f"{path}.target.averageValue", "must specify a positive target averageValue"))


def _check_object(source: Object, path: str, errors: Errors) -> None:
    target = source.get("target") or {}
    _check_reference(source.get("describedObject") or {}, f"{path}.describedObject", errors)
    _check_identifier(source.get("metric") or {}, f"{path}.metric", errors)
    _check_target(target, f"{path}.target", errors)
    if "value" not in target and "averageValue" not in target:
        errors.append(required(f"{path}.target.averageValue", "must set either a target value or averageValue"))


def _check_external(source: Object, path: str, errors: Errors) -> None:
    target = source.get("target") or {}
    _check_identifier(source.get("metric") or {}, f"{path}.metric", errors)
    _check_target(target, f"{path}.target", errors)
    if "value" not in target and "averageValue" not in target:
        errors.append(required(f"{path}.target.averageValue", "must set either a target value for metric or a per-pod target"))
    if "value" in target and "averageValue" in target:
        detail = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden_field(f"{path}.target.value", detail))


_CHECKS = {
    "object": _check_object,
    "external": _check_external,
    "pods": _check_pods,
    "resource": _check_resource,
    "containerResource": _check_container_resource,
}


def _check_rules(rules: Object, path: str, errors: Errors) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        errors.append(invalid_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    if window is not None and window > STABILIZATION_SECONDS_MAX:
        detail = f"must be less than or equal to {STABILIZATION_SECONDS_MAX}"
        errors.append(invalid_value(f"{path}.stabilizationWindowSeconds", window, detail))
    select = rules.get("selectPolicy")
    if select is not None and select not in SELECT_POLICIES:
        errors.append(not_supported(f"{path}.selectPolicy", select, SELECT_POLICIES))
    policies = rules.get("policies") or ()
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        where, kind, period = f"{path}.policies[{i}]", policy.get("type", ""), policy.get("periodSeconds", 0)
        if kind not in POLICY_TYPES:
            errors.append(not_supported(f"{where}.type", kind, POLICY_TYPES))
        if policy.get("value", 0) <= 0:
            errors.append(invalid_value(f"{where}.value", policy.get("value", 0), "must be greater than zero"))
        if period <= 0:
            errors.append(invalid_value(f"{where}.periodSeconds", period, "must be greater than zero"))
        if period > PERIOD_SECONDS_MAX:
            errors.append(invalid_value(f"{where}.periodSeconds", period, f"must be less than or equal to {PERIOD_SECONDS_MAX}"))
    if rules.get("tolerance") is not None and amount(rules["tolerance"]).nanos < 0:
        errors.append(invalid_value(f"{path}.tolerance", str(rules["tolerance"]), NEGATIVE))
