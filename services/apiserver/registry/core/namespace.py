"""Namespaces. Imitates ValidateNamespace, SetDefaults_Namespace and pkg/registry/core/namespace."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.names import FINALIZER_KUBERNETES, LABEL_METADATA_NAME
from kubecosm.api.resources import Object

from ..formats import Errors, check, is_dns1123_label, is_qualified_name, mask_trailing_dash
from ..meta import check_kube_finalizer
from ..strategy import StatusStrategy, Strategy, keep_field


class NamespaceStrategy(Strategy):
    """A Namespace as users create and update it."""

    tracks_generation = False

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_dns1123_label(mask_trailing_dash(name) if prefix else name))

    def default(self, obj: Object) -> None:
        _label_with_name(obj)
        obj.setdefault("spec", {})
        obj.setdefault("status", {}).setdefault("phase", "Active")

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Active"}
        finalizers = obj.setdefault("spec", {}).get("finalizers") or []
        if FINALIZER_KUBERNETES not in finalizers:
            obj["spec"]["finalizers"] = [*finalizers, FINALIZER_KUBERNETES]

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj.setdefault("spec", {}), old.get("spec") or {}, "finalizers")
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        for finalizer in obj["spec"].get("finalizers") or ():
            check(is_qualified_name(finalizer), finalizer, "spec.finalizers", errors)
            check_kube_finalizer(finalizer, "spec.finalizers", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return []

    def canonicalize(self, obj: Object) -> None:
        _label_with_name(obj)  # generated names come after the defaults

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"status.phase": (obj.get("status") or {}).get("phase", ""), "name": obj["metadata"]["name"]}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("status.phase", "name")


def _label_with_name(namespace: Object) -> None:
    metadata = namespace["metadata"]
    name, labels = metadata.get("name"), metadata.get("labels") or {}
    if name and labels.get(LABEL_METADATA_NAME) != name:
        metadata["labels"] = {**labels, LABEL_METADATA_NAME: name}


class NamespaceStatusStrategy(StatusStrategy):
    """namespaces/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        phase = (obj.get("status") or {}).get("phase", "")
        if "deletionTimestamp" not in obj["metadata"]:
            if phase != "Active":
                errors.append(invalid_value("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty"))
        elif phase != "Terminating":
            errors.append(invalid_value("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
        return errors


class NamespaceFinalizeStrategy(StatusStrategy):
    """namespaces/finalize: only spec.finalizers come from the client."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        for i, finalizer in enumerate((obj.get("spec") or {}).get("finalizers") or ()):
            check(is_qualified_name(finalizer), finalizer, f"spec.finalizers[{i}]", errors)
            check_kube_finalizer(finalizer, f"spec.finalizers[{i}]", errors)
        return errors
