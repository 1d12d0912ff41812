"""PersistentVolumeClaims. Imitates ValidatePersistentVolumeClaim(Update) and pkg/registry/core/persistentvolumeclaim."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.names import ANNOTATION_STORAGE_CLASS_BETA
from kubecosm.api.resources import Object

from ..formats import Errors, check_immutable, is_qualified_name
from ..gotypes import difference
from ..strategy import StatusStrategy, Strategy, keep_field
from .claim_spec import check_claim_spec
from .pod_defaults import default_claim_spec
from .resources import amount, check_basic_quantity, check_quantity, is_native

RESIZE_STATUSES = (
    "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible",
)  # fmt: skip
_SPEC_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def default_claim(claim: Object) -> None:
    """SetDefaults_PersistentVolumeClaim; also for the claims that StatefulSets and pods make."""
    default_claim_spec(claim.setdefault("spec", {}))
    status = claim.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"


class ClaimStrategy(Strategy):
    """A PersistentVolumeClaim as users create and update it."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        default_claim(obj)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending"}
        _normalize_data_sources(obj["spec"])

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")
        _normalize_data_sources(obj["spec"])

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_claim_spec(obj["spec"], "spec", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        had_group = any("apiGroup" in (old["spec"].get(f) or {}) for f in ("dataSource", "dataSourceRef"))
        check_claim_spec(obj["spec"], "spec", errors, allow_invalid_selector=True, allow_invalid_group=had_group)
        _check_update(obj, old, errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"name": obj["metadata"]["name"]}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("name",)


def _normalize_data_sources(spec: Object) -> None:
    """dataSource and dataSourceRef mirror each other unless the reference crosses namespaces."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


def _requests(claim: Object) -> dict[str, str]:
    return (claim["spec"].get("resources") or {}).get("requests") or {}


def _check_update(claim: Object, old: Object, errors: Errors) -> None:
    spec, old_spec = dict(claim["spec"]), dict(old["spec"])
    if not old_spec.get("volumeName"):
        old_spec.pop("volumeName", None)
        if spec.get("volumeName"):
            old_spec["volumeName"] = spec["volumeName"]
    _match_class(claim, old, spec, old_spec, errors)
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    if bound and "requests" in (spec.get("resources") or {}):
        storage = _requests(old).get("storage")
        requests = {**spec["resources"]["requests"]}
        if storage is not None:
            requests["storage"] = storage
        spec["resources"] = {**spec["resources"], "requests": requests}
    if bound and "volumeAttributesClassName" in spec:
        keep_field(spec, old_spec, "volumeAttributesClassName")
    if spec != old_spec:
        errors.append(forbidden_field("spec", f"{_SPEC_IMMUTABLE}\n{difference('ClaimSpec', old_spec, spec)}"))
    new_size, old_size = _requests(claim).get("storage", "0"), _requests(old).get("storage", "0")
    capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
    if amount(new_size) < amount(old_size) and amount(new_size) <= amount(capacity):
        errors.append(forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity"))
    check_immutable(claim["spec"].get("volumeMode"), old["spec"].get("volumeMode"), "volumeMode", errors)
    before, now = old["spec"].get("volumeAttributesClassName"), claim["spec"].get("volumeAttributesClassName")
    if before is not None and now is None:
        errors.append(forbidden_field("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden"))
    elif before and now == "":
        errors.append(forbidden_field("spec.volumeAttributesClassName", "update from non-nil value to an empty string is forbidden"))


def _match_class(claim: Object, old: Object, spec: Object, old_spec: Object, errors: Errors) -> None:
    """A claim may move from the beta annotation, or from no class, to spec.storageClassName."""
    annotation = (claim["metadata"].get("annotations") or {}).get(ANNOTATION_STORAGE_CLASS_BETA)
    old_annotation = (old["metadata"].get("annotations") or {}).get(ANNOTATION_STORAGE_CLASS_BETA)
    name, old_name = spec.get("storageClassName"), old_spec.get("storageClassName")
    if old_annotation is not None and old_name is None and name == old_annotation and annotation in (None, old_annotation):
        spec.pop("storageClassName", None)
        return
    if annotation != old_annotation:
        where = f"metadata.annotations.{ANNOTATION_STORAGE_CLASS_BETA}"
        errors.append(invalid_value(where, annotation or "", "field is immutable"))
    if name is not None and old_name is None and old_annotation in (None, name):
        spec.pop("storageClassName", None)


class ClaimStatusStrategy(StatusStrategy):
    """persistentvolumeclaims/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        if not obj["spec"].get("accessModes"):
            errors.append(required("Spec.accessModes"))
        status = obj.get("status") or {}
        for name, value in (status.get("capacity") or {}).items():
            check_basic_quantity(value, f"status.capacity[{name}]", errors)
        for name, state in (status.get("allocatedResourceStatuses") or {}).items():
            _check_resource_key(name, "status.allocatedResourceStatus", errors)
            if state not in RESIZE_STATUSES:
                errors.append(not_supported("status.allocatedResourceStatus", name, sorted(RESIZE_STATUSES)))
        for name, value in (status.get("allocatedResources") or {}).items():
            _check_resource_key(name, "status.allocatedResources", errors)
            check_quantity("storage", value, f"status.allocatedResources[{name}]", errors)
        return errors


def _check_resource_key(name: str, path: str, errors: Errors) -> None:
    complaints = is_qualified_name(name)
    for complaint in complaints:
        errors.append(invalid_value(path, name, complaint))
    if not complaints and is_native(name) and name != "storage":
        errors.append(not_supported(path, name, ("storage",)))
