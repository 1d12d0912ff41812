"""LimitRanges. Imitates ValidateLimitRange and SetDefaults_LimitRangeItem."""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, required
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from ..formats import Errors, is_qualified_name
from ..strategy import Strategy
from .pod_defaults import round_up_quantity
from .resources import LIMIT_TYPES, allows_overcommit, amount, container_resource_complaints, resource_name_complaints

_LISTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


class LimitRangeStrategy(Strategy):
    """A LimitRange."""

    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        for item in obj.setdefault("spec", {}).setdefault("limits", None) or ():
            for field in _LISTS:
                if field in item:
                    item[field] = {name: round_up_quantity(value) for name, value in item[field].items()}
            if item.get("type") == "Container":
                limits = {**(item.get("max") or {}), **(item.get("default") or {})}
                requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
                if limits:
                    item["default"] = limits
                if requests:
                    item["defaultRequest"] = requests

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        types: set[str] = set()
        for i, item in enumerate(obj["spec"].get("limits") or ()):
            path, kind = f"spec.limits[{i}]", item.get("type", "")
            _check_type(kind, f"{path}.type", errors)
            if kind in types:
                errors.append(duplicate(f"{path}.type", kind))
            types.add(kind)
            _check_names(item, kind, path, errors)
            for name in sorted({name for field in _LISTS for name in item.get(field) or ()}):
                _check_relations(name, item, path, errors)
        return errors


def _check_type(kind: str, path: str, errors: Errors) -> None:
    complaints = is_qualified_name(kind)
    for complaint in complaints:
        errors.append(invalid_value(path, kind, complaint))
    if not complaints and "/" not in kind and kind not in LIMIT_TYPES:
        errors.append(invalid_value(path, kind, "must be a standard limit type or fully qualified"))


def _check_names(item: Object, kind: str, path: str, errors: Errors) -> None:
    complaints_of = container_resource_complaints if kind in ("Pod", "Container") else resource_name_complaints

    def check(field: str) -> None:
        for name in item.get(field) or ():
            for complaint in complaints_of(name):
                errors.append(invalid_value(f"{path}.{field}[{name}]", name, complaint))

    check("max")
    check("min")
    for field in ("default", "defaultRequest"):
        if kind != "Pod":
            check(field)
        elif item.get(field):
            errors.append(forbidden_field(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
    if kind == "PersistentVolumeClaim" and "storage" not in (item.get("min") or {}) and "storage" not in (item.get("max") or {}):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", detail))
    check("maxLimitRequestRatio")


def _check_relations(name: str, item: Object, path: str, errors: Errors) -> None:
    """min <= defaultRequest <= default <= max, and the ratio."""
    texts = {field: (item.get(field) or {}).get(name) for field in _LISTS}
    if item.get("type") == "Pod":
        texts["default"] = texts["defaultRequest"] = None
    least, most, limit, request, ratio = (texts[f] for f in ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio"))

    def above(low: str | None, high: str | None) -> bool:
        return low is not None and high is not None and amount(low) > amount(high)

    def complain(field: str, shown: str | None, detail: str) -> None:
        errors.append(invalid_value(f"{path}.{field}[{name}]", shown, detail))

    if above(least, most):
        complain("min", least, f"min value {least} is greater than max value {most}")
    if above(least, request):
        complain("defaultRequest", request, f"min value {least} is greater than default request value {request}")
    if above(request, most):
        complain("defaultRequest", request, f"default request value {request} is greater than max value {most}")
    if above(request, limit):
        complain("defaultRequest", request, f"default request value {request} is greater than default limit value {limit}")
    if above(least, limit):
        complain("default", least, f"min value {least} is greater than default value {limit}")
    if above(limit, most):
        complain("default", most, f"default value {limit} is greater than max value {most}")
    if ratio is not None:
        _check_ratio(ratio, least, most, f"{path}.maxLimitRequestRatio[{name}]", errors)
    if limit is not None and request is not None and not allows_overcommit(name) and amount(limit) != amount(request):
        complain("defaultRequest", request, f"default value {limit} must equal to defaultRequest value {request} in {name}")


def _check_ratio(ratio: str, least: str | None, most: str | None, path: str, errors: Errors) -> None:
    if amount(ratio) < Quantity.from_value(1):
        errors.append(invalid_value(path, ratio, f"ratio {ratio} is less than 1"))
    if least is not None and most is not None and amount(least).nanos:
        limit = amount(most).nanos / amount(least).nanos
        if amount(ratio).nanos / 10**9 > limit:
            errors.append(invalid_value(path, ratio, f"ratio {ratio} is greater than max/min = {limit:f}"))
