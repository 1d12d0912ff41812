"""ReplicationControllers. Imitates ValidateReplicationControllerSpec, SetDefaults_ReplicationController and the registry's strategy."""

from __future__ import annotations

from kubecosm.api import selectors
from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..apps.deployment import template_warnings
from ..apps.replicaset import check_replica_status
from ..formats import Errors, check_non_negative
from ..strategy import StatusStrategy, Strategy
from ..workloads import MISMATCH, check_replicated_template, template_labels
from .pod_defaults import default_pod_template


class ReplicationControllerStrategy(Strategy):
    """A ReplicationController as users create and update it."""

    orphans_dependents = True

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        template = spec.get("template")
        labels = ((template or {}).get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not obj["metadata"].get("labels"):
                obj["metadata"]["labels"] = dict(labels)
        spec.setdefault("replicas", 1)
        if template is not None:
            default_pod_template(template)
        obj.setdefault("status", {}).setdefault("replicas", 0)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"replicas": 0}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        selector, template = spec.get("selector") or {}, spec.get("template")
        check_non_negative(spec.get("minReadySeconds", 0), "spec.minReadySeconds", errors)
        if not selector:
            errors.append(required("spec.selector"))
        check_non_negative(spec["replicas"], "spec.replicas", errors)
        if template is None:
            errors.append(required("spec.template"))
            return errors
        labels = (template.get("metadata") or {}).get("labels") or {}
        if selector and not selectors.from_labels(selector).matches(labels):
            errors.append(invalid_value("spec.template.metadata.labels", template_labels(template), MISMATCH))
        check_replicated_template(template, "ReplicationController", "spec.template", errors)
        return errors

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        return template_warnings(obj)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas", 0))}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("status.replicas",)


class ReplicationControllerStatusStrategy(StatusStrategy):
    """replicationcontrollers/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_replica_status(obj.get("status") or {}, errors)
        return errors
