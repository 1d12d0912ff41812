"""ReplicaSets. Imitates ValidateReplicaSetSpec and pkg/registry/apps/replicaset."""

from __future__ import annotations

from kubecosm.api.field import FieldError
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..formats import Errors, check_non_negative
from ..templated import ReplicatedStrategy, SelectingStrategy
from ..workloads import check_replicated_template, check_selector, check_template_matches


class ReplicaSetStrategy(SelectingStrategy, ReplicatedStrategy):
    """A ReplicaSet as users and Deployments create and update it."""

    names_pods = True

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
