"""DaemonSets. Imitates ValidateDaemonSetSpec, SetDefaults_DaemonSet and pkg/registry/apps/daemonset."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..formats import Errors, check_at_most_100_percent, check_int_or_percent, check_non_negative
from ..gotypes import dump
from ..meta import check_label_selector
from ..strategy import StatusStrategy, bump_generation, keep_field
from ..templated import SelectingStrategy
from ..values import selector_value
from ..workloads import MISMATCH, check_counts, check_replicated_template, int_or_percent, matcher, template_labels
from .deployment import REVISION_HISTORY_LIMIT, check_collisions

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_COUNTS = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable",
)  # fmt: skip
_ALWAYS_SHOWN = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")


class DaemonSetStrategy(SelectingStrategy):
    """A DaemonSet as users create and update it. An annotation counts the changes of its template."""

    def default(self, obj: Object) -> None:
        _set_template_generation(obj, _template_generation(obj))  # conversion between versions always writes it, so its writer owns it
        spec = obj.setdefault("spec", {})
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", REVISION_HISTORY_LIMIT)
        spec.setdefault("selector", None)
        default_pod_template(spec.setdefault("template", {}))
        status = obj.setdefault("status", {})
        for field in _ALWAYS_SHOWN:
            status.setdefault(field, 0)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = dict.fromkeys(_ALWAYS_SHOWN, 0)
        obj["metadata"]["generation"] = 1
        _set_template_generation(obj, max(_template_generation(obj), 1))

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")
        bump_generation(obj, old)
        changed = obj["spec"].get("template") != old["spec"].get("template")
        _set_template_generation(obj, _template_generation(old) + changed)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], errors)
        return errors


def _template_generation(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _set_template_generation(obj: Object, generation: int) -> None:
    metadata = obj["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: str(generation)}


def _check_spec(spec: Object, errors: Errors) -> None:
    selector, template = spec.get("selector"), spec["template"]
    check_label_selector(selector, "spec.selector", errors)
    compiled = matcher(selector)
    if compiled is not None and not compiled.matches((template.get("metadata") or {}).get("labels") or {}):
        errors.append(invalid_value("spec.template.metadata.labels", template_labels(template), MISMATCH))
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid_value("spec.selector", selector_value(selector), "empty selector is invalid for daemonset"))
    check_replicated_template(template, "DaemonSet", "spec.template", errors)
    check_non_negative(spec.get("minReadySeconds", 0), "spec.minReadySeconds", errors)
    _check_update_strategy(spec["updateStrategy"], "spec.updateStrategy", errors)
    check_non_negative(spec.get("revisionHistoryLimit", 0), "spec.revisionHistoryLimit", errors)


def _check_update_strategy(strategy: Object, path: str, errors: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        errors.append(not_supported(path, dump("DaemonSetUpdateStrategy", strategy), ("RollingUpdate", "OnDelete")))
        return
    if rolling is None:
        errors.append(required(f"{path}.rollingUpdate"))
        return
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        check_int_or_percent(value, f"{path}.rollingUpdate.{field}", errors)
    for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        check_at_most_100_percent(value, f"{path}.rollingUpdate.{field}", errors)
    some_unavailable, some_surge = int_or_percent(unavailable) != 0, int_or_percent(surge) != 0
    if some_unavailable and some_surge:
        errors.append(invalid_value(f"{path}.rollingUpdate.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not some_unavailable and not some_surge:
        errors.append(required(f"{path}.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0"))


class DaemonSetStatusStrategy(StatusStrategy):
    """daemonsets/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_counts(obj.get("status") or {}, _COUNTS, errors)
        check_collisions(obj.get("status") or {}, old.get("status") or {}, errors)
        return errors
