"""ReplicaSets. Imitates ValidateReplicaSetSpec and pkg/registry/apps/replicaset."""

from __future__ import annotations

from kubecosm.api.field import FieldError
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..formats import Errors, check_non_negative
from ..strategy import StatusStrategy, Strategy
from ..workloads import check_counts, check_not_more, check_replicated_template, check_selector, check_template_matches
from .deployment import check_selector_kept, template_warnings

_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration", "terminatingReplicas")


class ReplicaSetStrategy(Strategy):
    """A ReplicaSet as users and Deployments create and update it."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        spec.setdefault("selector", None)
        if "template" in spec:
            default_pod_template(spec["template"])
        else:
            spec["template"] = {}
            default_pod_template(spec["template"])
        obj.setdefault("status", {}).setdefault("replicas", 0)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"replicas": 0}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        check_non_negative(spec["replicas"], "spec.replicas", errors)
        check_non_negative(spec.get("minReadySeconds", 0), "spec.minReadySeconds", errors)
        compiled = check_selector(spec, "deployment", "invalid label selector", errors)
        if compiled is not None:
            check_template_matches(spec["template"], compiled, "spec.template", errors)
            check_replicated_template(spec["template"], "ReplicaSet", "spec.template", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        check_selector_kept(obj, old, errors)
        return errors

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        return template_warnings(obj)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas", 0))}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("status.replicas",)


class ReplicaSetStatusStrategy(StatusStrategy):
    """replicasets/status."""

    def default(self, obj: Object) -> None:
        super().default(obj)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_replica_status(obj.get("status") or {}, errors)
        return errors


def check_replica_status(status: Object, errors: Errors) -> None:
    """Counts of a ReplicaSet or ReplicationController."""
    check_counts(status, _COUNTS, errors)
    for field in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        check_not_more(status, field, "replicas", errors, "cannot be greater than status.replicas")
    check_not_more(status, "availableReplicas", "readyReplicas", errors, "cannot be greater than readyReplicas")
