"""What ReplicaSets and ReplicationControllers have in common, and Deployments and DaemonSets with them: a selector and a template.

Imitates pkg/registry/{apps/replicaset,core/replicationcontroller}.
"""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.resources import Object

from .core.pod_warnings import pod_warnings
from .formats import FIELD_IMMUTABLE, Errors, is_dns1123_label
from .strategy import StatusStrategy, Strategy
from .values import selector_value
from .workloads import check_counts, check_not_more

GENERATED = "x"
"""Stands for the part of a name that the server makes up."""
POD_NAMES, POD_HOSTNAME = "Pod names and hostnames", "the Pod's hostname"
_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration", "terminatingReplicas")


class TemplatedStrategy(Strategy):
    """A kind with spec.template."""

    names_pods = False
    """Its name is the beginning of its pods' names, and may be more than a DNS label."""

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Of a spec that has not changed nobody is warned again."""
        if old is not None and obj["spec"] == old["spec"]:
            return []
        told = name_warnings(obj, POD_NAMES) if self.names_pods and old is None else []
        return told + template_warnings(obj)


class SelectingStrategy(TemplatedStrategy):
    """A kind whose selector may not change."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        check_selector_kept(obj, old, errors)
        return errors


class ReplicatedStrategy(TemplatedStrategy):
    """A kind that keeps so many pods of a template, and shows how many there are."""

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"replicas": 0}
        obj["metadata"]["generation"] = 1

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas", 0))}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("status.replicas",)


class ReplicatedStatusStrategy(StatusStrategy):
    """Its status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        status = obj.get("status") or {}
        check_counts(status, _COUNTS, errors)
        for field in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
            check_not_more(status, field, "replicas", errors, "cannot be greater than status.replicas")
        check_not_more(status, "availableReplicas", "readyReplicas", errors, "cannot be greater than readyReplicas")
        return errors


def name_warnings(obj: Object, use: str) -> list[str]:
    """A warning of a name that is no DNS label although it is used for `use`; one that is to be generated is judged by its prefix."""
    meta = obj["metadata"]
    complaints = is_dns1123_label(meta.get("name") or meta.get("generateName", "") + GENERATED)
    if not complaints:
        return []
    text = f"this is used in {use}, which can result in surprising behavior; a DNS label is recommended: [{' '.join(complaints)}]"
    return [f"metadata.name: {text}"]


def template_warnings(obj: Object) -> list[str]:
    """Warnings about spec.template."""
    template = obj["spec"].get("template") or {}
    return pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, "spec.template.spec", "spec.template.metadata")


def check_selector_kept(obj: Object, old: Object, errors: Errors) -> None:
    """A selector may not change."""
    selector = obj["spec"].get("selector")
    if selector != old["spec"].get("selector"):
        errors.append(invalid_value("spec.selector", selector_value(selector), FIELD_IMMUTABLE))
