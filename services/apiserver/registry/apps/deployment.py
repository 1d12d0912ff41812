"""Deployments. Imitates pkg/apis/apps/validation, SetDefaults_Deployment and pkg/registry/apps/deployment."""

from __future__ import annotations

from typing import Any

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..formats import (
    Errors,
    check_at_most_100_percent,
    check_int_or_percent,
    check_non_negative,
)
from ..gotypes import dump
from ..strategy import StatusStrategy, bump_generation, keep_field
from ..templated import SelectingStrategy
from ..workloads import (
    check_counts,
    check_not_more,
    check_replicated_template,
    check_selector,
    check_template_matches,
    int_or_percent,
)

REVISION_HISTORY_LIMIT = 10
PROGRESS_DEADLINE_SECONDS = 600
_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


class DeploymentStrategy(SelectingStrategy):
    """A Deployment as users create and update it."""

    names_pods = True

    def default(self, obj: Object) -> None:
        spec: dict[str, Any] = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        spec.setdefault("selector", None)
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", REVISION_HISTORY_LIMIT)
        spec.setdefault("progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS)
        default_pod_template(spec.setdefault("template", {}))
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")
        bump_generation(obj, old)
        before = old["metadata"].get("generation", 0)
        annotations, old_annotations = obj["metadata"].get("annotations") or {}, old["metadata"].get("annotations") or {}
        if annotations != old_annotations:
            obj["metadata"]["generation"] = before + 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], errors)
        return errors


def _check_spec(spec: Object, errors: Errors) -> None:
    check_non_negative(spec["replicas"], "spec.replicas", errors)
    compiled = check_selector(spec, "deployment", "invalid label selector", errors)
    if compiled is not None:
        check_template_matches(spec["template"], compiled, "spec.template", errors)
        check_replicated_template(spec["template"], "ReplicaSet", "spec.template", errors)
    _check_strategy(spec["strategy"], "spec.strategy", errors)
    ready = spec.get("minReadySeconds", 0)
    check_non_negative(ready, "spec.minReadySeconds", errors)
    check_non_negative(spec.get("revisionHistoryLimit", 0), "spec.revisionHistoryLimit", errors)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        check_non_negative(deadline, "spec.progressDeadlineSeconds", errors)
        if deadline <= ready:
            errors.append(invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))


def _check_strategy(strategy: Object, path: str, errors: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            errors.append(forbidden_field(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"))
    elif kind == "RollingUpdate":
        if rolling is None:
            errors.append(required(f"{path}.rollingUpdate", "this should be defaulted and never be nil"))
        else:
            _check_rolling_update(rolling, f"{path}.rollingUpdate", errors)
    else:
        errors.append(not_supported(path, dump("DeploymentStrategy", strategy), ("Recreate", "RollingUpdate")))


def _check_rolling_update(rolling: Object, path: str, errors: Errors) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    check_int_or_percent(unavailable, f"{path}.maxUnavailable", errors)
    check_int_or_percent(surge, f"{path}.maxSurge", errors)
    if int_or_percent(unavailable) == 0 and int_or_percent(surge) == 0:
        errors.append(invalid_value(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    check_at_most_100_percent(unavailable, f"{path}.maxUnavailable", errors)


class DeploymentStatusStrategy(StatusStrategy):
    """deployments/status."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_update(obj, old)
        keep_field(obj["metadata"], old["metadata"], "labels")

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        status = obj.get("status") or {}
        check_counts(status, ("observedGeneration", *_COUNTS, "terminatingReplicas"), errors)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas"):
            check_not_more(status, field, "replicas", errors, "cannot be greater than status.replicas")
        check_not_more(status, "availableReplicas", "readyReplicas", errors, "cannot be greater than readyReplicas")
        check_collisions(status, old.get("status") or {}, errors)
        return errors


def check_collisions(status: Object, old: Object, errors: Errors) -> None:
    """collisionCount only grows."""
    count, before = status.get("collisionCount"), old.get("collisionCount")
    if count is not None:
        check_non_negative(count, "status.collisionCount", errors)
    if before is not None and (count is None or count < before):
        errors.append(invalid_value("status.collisionCount", count, "cannot be decremented"))
