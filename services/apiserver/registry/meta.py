"""Validation of object metadata, labels, annotations, owners, finalizers and label selectors.

Imitates apimachinery's api/validation/objectmeta.go and meta/v1/validation. Each function appends to the list it is handed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from kubecosm.api.resources import Object

from .formats import (
    FIELD_IMMUTABLE,
    NEGATIVE,
    Errors,
    is_dns1123_label,
    is_label_value,
    is_qualified_name,
)


class NameCheck(Protocol):
    """`Strategy.validate_name`."""

    def __call__(self, name: str, *, prefix: bool) -> Sequence[str]: ...


ANNOTATIONS_BYTES_MAX = 256 * 1024
FIELD_MANAGER_BYTES_MAX = 128
SUBRESOURCE_BYTES_MAX = 256
_STANDARD_FINALIZERS = frozenset(("kubernetes", "orphan", "foregroundDeletion"))


def check_meta(meta: Object, *, namespaced: bool, name_check: NameCheck, errors: Errors, path: str = "metadata") -> None:
    """Metadata of a new object (ValidateObjectMeta of pkg/apis/core: finalizers must be standard or qualified)."""
    check_generic_meta(meta, namespaced=namespaced, name_check=name_check, errors=errors, path=path)
    if "finalizers" in meta:
        check_kube_finalizers(meta["finalizers"], f"{path}.finalizers", errors)


def check_generic_meta(meta: Object, *, namespaced: bool, name_check: NameCheck, errors: Errors, path: str = "metadata") -> None:
    """Metadata of a new object of any kind (apimachinery's ValidateObjectMetaAccessor)."""
    generate_name = meta.get("generateName")
    if generate_name:
        for complaint in name_check(generate_name, prefix=True):
            errors.append(invalid_value(f"{path}.generateName", generate_name, complaint))
    name = meta.get("name")
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        for complaint in name_check(name, prefix=False):
            errors.append(invalid_value(f"{path}.name", name, complaint))
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required(f"{path}.namespace"))
        else:
            for complaint in is_dns1123_label(namespace):
                errors.append(invalid_value(f"{path}.namespace", namespace, complaint))
    elif namespace:
        errors.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    if meta.get("generation", 0) < 0:
        errors.append(invalid_value(f"{path}.generation", meta["generation"], NEGATIVE))
    _check_common(meta, path, errors)
    if "finalizers" in meta:
        check_finalizers(meta["finalizers"], f"{path}.finalizers", errors)


def _check_common(meta: Object, path: str, errors: Errors) -> None:
    if "labels" in meta:
        check_labels(meta["labels"], f"{path}.labels", errors)
    if "annotations" in meta:
        check_annotations(meta["annotations"], f"{path}.annotations", errors)
    if "ownerReferences" in meta:
        check_owner_references(meta["ownerReferences"], f"{path}.ownerReferences", errors)
    if "managedFields" in meta:
        check_managed_fields(meta["managedFields"], f"{path}.managedFields", errors)


def check_meta_update(meta: Object, old: Object, errors: Errors, path: str = "metadata") -> None:
    """Metadata of a changed object (ValidateObjectMetaUpdate of pkg/apis/core)."""
    check_generic_meta_update(meta, old, errors, path)
    if "finalizers" in meta:
        check_kube_finalizers(meta["finalizers"], f"{path}.finalizers", errors)


_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def check_generic_meta_update(meta: Object, old: Object, errors: Errors, path: str = "metadata") -> None:
    """apimachinery's ValidateObjectMetaAccessorUpdate."""
    if old.get("deletionTimestamp"):
        extra = sorted(set(meta.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            listed = ", ".join(f'"{name}"' for name in extra)
            detail = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
            errors.append(forbidden_field(f"{path}.finalizers", detail))
    if not meta.get("resourceVersion"):
        errors.append(invalid_value(f"{path}.resourceVersion", "", "must be specified for an update"))
    if meta.get("generation", 0) < old.get("generation", 0):
        errors.append(invalid_value(f"{path}.generation", meta.get("generation", 0), "must not be decremented"))
    for name in _IMMUTABLE:
        if meta.get(name) != old.get(name):
            default = None if name.startswith("deletion") or name == "creationTimestamp" else ""
            errors.append(invalid_value(f"{path}.{name}", meta.get(name, default), FIELD_IMMUTABLE))
    _check_common(meta, path, errors)


def check_labels(labels: Mapping[str, str], path: str, errors: Errors) -> None:
    for key, value in labels.items():
        for complaint in is_qualified_name(key):
            errors.append(invalid_value(path, key, complaint))
        for complaint in is_label_value(value):
            errors.append(invalid_value(path, value, complaint))


def check_label_name(name: str, path: str, errors: Errors) -> None:
    for complaint in is_qualified_name(name):
        errors.append(invalid_value(path, name, complaint))


def check_annotations(annotations: Mapping[str, str], path: str, errors: Errors) -> None:
    size = 0
    for key, value in annotations.items():
        for complaint in is_qualified_name(key.lower()):
            errors.append(invalid_value(path, key, complaint))
        size += len(key) + len(value)
    if size * 4 > ANNOTATIONS_BYTES_MAX:  # a character is at most four bytes: count those only when it may matter
        size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
        if size > ANNOTATIONS_BYTES_MAX:
            errors.append(too_long(path, ANNOTATIONS_BYTES_MAX))


def check_owner_references(references: Sequence[Object], path: str, errors: Errors) -> None:
    controller = ""
    for reference in references:
        _check_owner_reference(reference, path, errors)
        if reference.get("controller"):
            current = f"{reference.get('kind', '')}/{reference.get('name', '')}"
            if controller:
                detail = f'Only one reference can have Controller set to true. Found "true" in references for {controller} and {current}'
                errors.append(invalid_value(path, list(references), detail))
            else:
                controller = current


def _check_owner_reference(reference: Object, path: str, errors: Errors) -> None:
    api_version = reference.get("apiVersion", "")
    if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
        errors.append(invalid_value(f"{path}.apiVersion", api_version, "version must not be empty"))
    for name in ("kind", "name", "uid"):
        if not reference.get(name):
            errors.append(invalid_value(f"{path}.{name}", "", "must not be empty"))
    if api_version == "v1" and reference.get("kind") == "Event":
        errors.append(invalid_value(path, reference, "/v1, Kind=Event is disallowed from being an owner"))


def check_finalizers(finalizers: Sequence[str], path: str, errors: Errors) -> None:
    for finalizer in finalizers:
        for complaint in is_qualified_name(finalizer):
            errors.append(invalid_value(path, finalizer, complaint))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.append(invalid_value(path, list(finalizers), "finalizer orphan and foregroundDeletion cannot be both set"))


def check_kube_finalizer(finalizer: str, path: str, errors: Errors) -> None:
    """A finalizer without a domain must be one of Kubernetes' own."""
    if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
        errors.append(invalid_value(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified"))


def check_kube_finalizers(finalizers: Sequence[str], path: str, errors: Errors) -> None:
    for i, finalizer in enumerate(finalizers):
        check_kube_finalizer(finalizer, f"{path}[{i}]", errors)


def check_managed_fields(entries: Sequence[Object], path: str, errors: Errors) -> None:
    for i, entry in enumerate(entries):
        if entry.get("operation") not in ("Apply", "Update"):
            errors.append(invalid_value(f"{path}[{i}].operation", entry.get("operation", ""), "must be `Apply` or `Update`"))
        if entry.get("fieldsType", "FieldsV1") not in ("", "FieldsV1"):
            errors.append(invalid_value(f"{path}[{i}].fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        check_field_manager(entry.get("manager", ""), f"{path}[{i}].manager", errors)
        if len(entry.get("subresource", "")) > SUBRESOURCE_BYTES_MAX:
            errors.append(too_long(f"{path}[{i}].subresource", SUBRESOURCE_BYTES_MAX))


def check_field_manager(manager: str, path: str, errors: Errors) -> None:
    """A field manager's name: printable and short."""
    if len(manager.encode()) > FIELD_MANAGER_BYTES_MAX:
        errors.append(too_long(path, FIELD_MANAGER_BYTES_MAX))
    if not manager.isprintable():
        position = 0
        for char in manager:
            if not char.isprintable():
                errors.append(invalid_value(path, manager, f"invalid character U+{ord(char):04X} (at position {position})"))
            position += len(char.encode())


def check_label_selector(selector: Mapping[str, Any] | None, path: str, errors: Errors, *, allow_invalid_values: bool = False) -> None:
    """A metav1.LabelSelector; values of matchExpressions are checked too unless allowed to be wrong."""
    if not selector:
        return
    if "matchLabels" in selector:
        check_labels(selector["matchLabels"], f"{path}.matchLabels", errors)
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        _check_requirement(requirement, f"{path}.matchExpressions[{i}]", errors, allow_invalid_values)


NOT_AN_OPERATOR = "not a valid selector operator"


def check_set_operator(requirement: Object, path: str, errors: Errors) -> bool:
    """Whether the operator asks for sets of values; if so, it must have such values."""
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        return True
    if operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(forbidden_field(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        return True
    return False


def _check_requirement(requirement: Object, path: str, errors: Errors, allow_invalid_values: bool) -> None:
    if not check_set_operator(requirement, path, errors):
        errors.append(invalid_value(f"{path}.operator", requirement.get("operator", ""), NOT_AN_OPERATOR))
    check_requirement_names(requirement, path, errors, allow_invalid_values)


def check_requirement_names(requirement: Object, path: str, errors: Errors, allow_invalid_values: bool) -> None:
    """The label of a requirement and its values."""
    check_label_name(requirement.get("key", ""), f"{path}.key", errors)
    if not allow_invalid_values:
        for i, value in enumerate(requirement.get("values") or ()):
            for complaint in is_label_value(value):
                errors.append(invalid_value(f"{path}.values[{i}]", value, complaint))


_CONDITION_STATUSES = ("False", "True", "Unknown")


def check_conditions(conditions: Sequence[Object], path: str, errors: Errors) -> None:
    """A list of metav1.Condition."""
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind = condition.get("type", "")
        if kind in seen:
            errors.append(duplicate(f"{path}[{i}].type", kind))
        seen.add(kind)
        check_label_name(kind, f"{path}[{i}].type", errors)
        if condition.get("status", "") not in _CONDITION_STATUSES:
            errors.append(not_supported(f"{path}[{i}].status", condition.get("status", ""), _CONDITION_STATUSES))
        if not condition.get("lastTransitionTime"):
            errors.append(required(f"{path}[{i}].lastTransitionTime", "must be set"))
        if not condition.get("reason"):
            errors.append(required(f"{path}[{i}].reason", "must be set"))
