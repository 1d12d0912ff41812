"""ReplicationControllers. Imitates ValidateReplicationControllerSpec, SetDefaults_ReplicationController and the registry's strategy."""

from __future__ import annotations

from kubecosm.api import selectors
from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_non_negative
from ..templated import ReplicatedStrategy
from ..workloads import MISMATCH, check_replicated_template, template_labels
from .pod_defaults import default_pod_template


class ReplicationControllerStrategy(ReplicatedStrategy):
    """A ReplicationController as users create and update it."""

    names_pods = True

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
