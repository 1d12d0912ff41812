"""Nodes. Imitates ValidateNode(Update), the conversion of podCIDR and pkg/registry/core/node."""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value
from kubecosm.api.resources import Object

from ..formats import Errors, check_cidr, parse_cidr
from ..gotypes import dump
from ..strategy import StatusStrategy, Strategy, keep_field
from .affinity import check_taints
from .resources import check_quantity

_ONCE = 'node updates may not change {} except from "" to valid'


class NodeStrategy(Strategy):
    """A Node as users and kubelets create and update it."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
        first, ranges = spec.get("podCIDR"), spec.get("podCIDRs")
        if first and (not ranges or ranges[0] != first):
            spec["podCIDRs"] = [first]
        elif ranges:
            spec["podCIDR"] = ranges[0]
        if "capacity" in status and "allocatable" not in status:
            status["allocatable"] = dict(status["capacity"])

    def prepare_for_create(self, obj: Object) -> None:
        obj["spec"].pop("configSource", None)

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        if spec.get("taints"):
            check_taints(spec["taints"], "metadata.taints", errors)
        _check_amounts(obj.get("status") or {}, errors)
        if spec.get("podCIDRs"):
            _check_pod_ranges(spec["podCIDRs"], "spec.podCIDRs", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        spec, before = obj["spec"], old["spec"]
        _check_amounts(obj.get("status") or {}, errors)
        _check_unique_addresses(obj.get("status") or {}, errors)
        if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
            errors.append(forbidden_field("spec.podCIDRs", _ONCE.format("podCIDR")))
        if before.get("providerID") and spec.get("providerID") != before["providerID"]:
            errors.append(forbidden_field("spec.providerID", _ONCE.format("providerID")))
        if spec.get("taints"):
            check_taints(spec["taints"], "metadata.taints", errors)
        if spec.get("externalID", "") != before.get("externalID", ""):
            errors.append(forbidden_field("spec.externalID", "may not be updated"))
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("spec.unschedulable",)


def _check_amounts(status: Object, errors: Errors) -> None:
    for field in ("capacity", "allocatable"):
        for name, value in (status.get(field) or {}).items():
            check_quantity(name, value, f"status.{field}.{name}", errors)


def _check_pod_ranges(ranges: list[str], path: str, errors: Errors) -> None:
    for i, value in enumerate(ranges):
        check_cidr(value, f"{path}[{i}]", errors)
    if len(ranges) < 2:
        return
    versions = {parsed.version for parsed in map(parse_cidr, ranges) if parsed is not None}
    if len(versions) < 2 or len(ranges) > 2:
        errors.append(invalid_value(path, ranges, "may specify no more than one CIDR for each IP family"))
    errors.extend(duplicate(f"{path}[{i}]", value) for i, value in enumerate(ranges) if value in ranges[:i])


def _check_unique_addresses(status: Object, errors: Errors) -> None:
    seen: set[tuple[str, str]] = set()
    for i, entry in enumerate(status.get("addresses") or ()):
        key = (entry.get("type", ""), entry.get("address", ""))
        if key in seen:
            errors.append(duplicate(f"status.addresses[{i}]", dump("NodeAddress", entry)))
        seen.add(key)


class NodeStatusStrategy(StatusStrategy):
    """nodes/status: the kubelet's writes."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_amounts(obj.get("status") or {}, errors)
        _check_unique_addresses(obj.get("status") or {}, errors)
        return errors
