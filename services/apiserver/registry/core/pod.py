"""Pods: their strategies for create, update, status, ephemeral containers and resize. Imitates pkg/registry/core/pod/strategy.go."""

from __future__ import annotations

import orjson

from kubecosm.api.field import FieldError, forbidden_field
from kubecosm.api.names import ANNOTATION_CONFIG_MIRROR
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema import prune

from ..gotypes import difference
from ..meta import check_meta_update
from ..strategy import StatusStrategy, Strategy, bump_generation, keep_field
from .affinity import PREFERRED_TERMS, REQUIRED_TERMS
from .containers import check_image_whitespace
from .pod_defaults import default_pod
from .pod_spec import check_pod_annotations, check_pod_spec
from .pod_update import check_annotation_updates, check_spec_update, check_status_update
from .qos import compute_qos
from .security import check_profiles_match_annotations
from .templates import KnownSpecs

_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase",
    "status.podIP", "status.nominatedNodeName",
)  # fmt: skip
_GATED_CONDITION = {
    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}  # fmt: skip
_DISABLED_FIELDS = ("schedulingGroup",)
"""Fields behind feature gates that are off by default: dropped unless the stored pod has them."""


class PodStrategy(Strategy):
    """A Pod as users create and update it."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource)
        self._known = KnownSpecs()

    def default(self, obj: Object) -> None:
        default_pod(obj)

    def prepare_for_create(self, obj: Object) -> None:
        spec = obj["spec"]
        obj["status"] = {"phase": "Pending", "qosClass": compute_qos(spec)}
        obj["metadata"]["generation"] = 1
        for field in _DISABLED_FIELDS:
            spec.pop(field, None)
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [dict(_GATED_CONDITION)]
        if "affinity" in spec or "topologySpreadConstraints" in spec:
            _merge_label_keys(spec, obj["metadata"].get("labels") or {})

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")
        bump_generation(obj, old)

    def validate(self, obj: Object) -> list[FieldError]:
        spec, annotations = obj["spec"], obj["metadata"].get("annotations")
        key = KnownSpecs.key(spec)
        if not annotations and self._known.holds(key, spec):
            return []
        errors: list[FieldError] = []
        _check_pod(obj, errors)
        if spec.get("ephemeralContainers"):
            errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            errors.append(forbidden_field("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
        if not annotations and not errors:
            self._known.add(key, is_pruned=_is_pruned(obj))
        if annotations:
            check_profiles_match_annotations(annotations, spec, "spec", errors)
        return errors

    def prune(self, obj: Object) -> None:
        spec = obj["spec"]
        prune(obj, {"spec": spec} if self._known.is_pruned(spec) else None)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        _check_pod(obj, errors, old)
        _check_annotations_update(obj, old, errors)
        check_spec_update(obj["spec"], old["spec"], errors)
        return errors

    def grace_period_seconds(self, obj: Object, requested: int | None) -> int | None:
        spec = obj["spec"]
        seconds = spec.get("terminationGracePeriodSeconds", 0) if requested is None else requested
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            return 0
        return 1 if seconds < 0 else int(seconds)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        pod_ip = status.get("podIP") or next((entry.get("ip", "") for entry in status.get("podIPs") or ()), "")
        return {
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.restartPolicy": spec.get("restartPolicy", ""),
            "spec.schedulerName": spec.get("schedulerName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase", ""),
            "status.podIP": pod_ip,
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def selectable_field_names(self) -> tuple[str, ...]:
        return _FIELDS

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Only when it is created: updates of pods are many, and seldom a user's own."""
        from ..templated import POD_HOSTNAME, name_warnings
        from .pod_warnings import pod_warnings

        if old is not None:
            return []
        return name_warnings(obj, POD_HOSTNAME) + pod_warnings(obj["spec"], obj["metadata"], "spec", "metadata")


def _is_pruned(pod: Object) -> bool:
    text = orjson.dumps(pod["spec"])
    copy = {"apiVersion": "v1", "kind": "Pod", "spec": orjson.loads(text)}
    prune(copy)
    return orjson.dumps(copy["spec"]) == text


def _check_pod(pod: Object, errors: list[FieldError], old: Object | None = None) -> None:
    """validatePodMetadataAndSpec, without the metadata that the store checks."""
    spec, metadata = pod["spec"], pod["metadata"]
    annotations = metadata.get("annotations")
    if annotations:
        check_pod_annotations(annotations, spec, "metadata.annotations", errors)
    check_pod_spec(spec, "spec", errors, pod_name=metadata.get("name", ""), is_pod=True, allow_invalid_values=old is not None)
    if not spec.get("serviceAccountName"):
        _forbid_tokens(spec, errors)
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            check_image_whitespace(container, f"spec.{field}[{i}]", errors)


def _forbid_tokens(spec: Object, errors: list[FieldError]) -> None:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if "serviceAccountToken" in source:
                where = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                errors.append(forbidden_field(where, "must not be specified when serviceAccountName is not set"))


def _check_annotations_update(pod: Object, old: Object, errors: list[FieldError]) -> None:
    annotations, before = pod["metadata"].get("annotations") or {}, old["metadata"].get("annotations") or {}
    if annotations or before:
        check_annotation_updates(annotations, before, "metadata.annotations", errors)
        check_pod_annotations(annotations, pod["spec"], "metadata.annotations", errors)


def _merge_label_keys(spec: Object, labels: dict[str, str]) -> None:
    """matchLabelKeys and mismatchLabelKeys become expressions of their selector when the pod is created."""
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = [*(rules.get(REQUIRED_TERMS) or ()), *(w.get("podAffinityTerm") or {} for w in rules.get(PREFERRED_TERMS) or ())]
        for term in terms:
            _extend_selector(term, "matchLabelKeys", "In", labels)
            _extend_selector(term, "mismatchLabelKeys", "NotIn", labels)
    for constraint in spec.get("topologySpreadConstraints") or ():
        _extend_selector(constraint, "matchLabelKeys", "In", labels)


def _extend_selector(term: Object, field: str, operator: str, labels: dict[str, str]) -> None:
    selector = term.get("labelSelector")
    added = [{"key": key, "operator": operator, "values": [labels[key]]} for key in term.get(field) or () if key in labels]
    if added and selector is not None:
        term["labelSelector"] = {**selector, "matchExpressions": [*(selector.get("matchExpressions") or ()), *added]}


class PodStatusStrategy(StatusStrategy):
    """pods/status: the kubelet's and the scheduler's writes."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_update(obj, old)
        keep_field(obj["metadata"], old["metadata"], "ownerReferences")  # old kubelets corrupt them
        status, before = obj.setdefault("status", {}), old.get("status") or {}
        if not status.get("qosClass") and before.get("qosClass"):
            status["qosClass"] = before["qosClass"]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        _check_annotations_update(obj, old, errors)
        check_status_update(obj, old, errors)
        return errors


class PodEphemeralContainersStrategy(StatusStrategy):
    """pods/ephemeralcontainers: may only add to spec.ephemeralContainers."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        wanted = (obj.get("spec") or {}).get("ephemeralContainers")
        metadata = {**old["metadata"], "resourceVersion": obj["metadata"].get("resourceVersion", ""), **_managed(obj)}
        spec = {name: value for name, value in old["spec"].items() if name != "ephemeralContainers"}
        if wanted is not None:
            spec["ephemeralContainers"] = wanted
        obj.update({**old, "spec": spec, "metadata": metadata})
        bump_generation(obj, old)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        if ANNOTATION_CONFIG_MIRROR in (old["metadata"].get("annotations") or {}):
            return [forbidden_field("", "static pods do not support ephemeral containers")]
        errors: list[FieldError] = []
        _check_pod(obj, errors, old)
        new = {c.get("name"): c for c in obj["spec"].get("ephemeralContainers") or ()}
        for container in old["spec"].get("ephemeralContainers") or ():
            name = container.get("name", "")
            if name not in new:
                detail = f'existing ephemeral containers "{name}" may not be removed\n'
                errors.append(forbidden_field("spec.ephemeralContainers", detail))
            elif new[name] != container:
                changes = difference("EphemeralContainer", container, new[name])
                detail = f'existing ephemeral containers "{name}" may not be changed\n{changes}'
                errors.append(forbidden_field("spec.ephemeralContainers", detail))
        return errors


def _managed(obj: Object) -> Object:
    fields = obj["metadata"].get("managedFields")
    return {} if fields is None else {"managedFields": fields}


_RESIZABLE = ("cpu", "memory")


class PodResizeStrategy(StatusStrategy):
    """pods/resize: may only change cpu and memory of containers and sidecars, and their resize policy."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        metadata = {**old["metadata"], "resourceVersion": obj["metadata"].get("resourceVersion", ""), **_managed(obj)}
        spec = {**old["spec"]}
        for field in ("containers", "initContainers"):
            wanted = {c.get("name"): c for c in (obj.get("spec") or {}).get(field) or ()}
            if spec.get(field):
                spec[field] = [_resized(container, wanted.get(container.get("name"))) for container in spec[field]]
        obj.update({**old, "spec": spec, "metadata": metadata})
        bump_generation(obj, old)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        check_meta_update(obj["metadata"], old["metadata"], errors)
        _check_pod(obj, errors, old)
        if ANNOTATION_CONFIG_MIRROR in (old["metadata"].get("annotations") or {}):
            return [forbidden_field("", "static pods cannot be resized")]
        if (old["spec"].get("os") or {}).get("name") == "windows":
            return [forbidden_field("", "windows pods cannot be resized")]
        before = (old.get("status") or {}).get("qosClass") or compute_qos(old["spec"])
        if compute_qos(obj["spec"]) != before:
            errors.append(FieldError("FieldValueInvalid", "spec", "Pod QOS Class may not change as a result of resizing", before))
        for field in ("initContainers", "containers"):
            for i, (new, was) in enumerate(zip(obj["spec"].get(field) or (), old["spec"].get(field) or (), strict=True)):
                if field == "containers" or new.get("restartPolicy") == "Always":
                    _check_resize(new, was, f"spec.{field}[{i}].resources", errors)
                elif new.get("resources") != was.get("resources"):
                    errors.append(forbidden_field("spec", "resources for non-sidecar init containers are immutable"))
        return errors


def _resized(container: Object, wanted: Object | None) -> Object:
    if wanted is None:
        return container
    copy = {**container, "resources": wanted.get("resources") or {}}
    if "resizePolicy" in wanted:
        copy["resizePolicy"] = wanted["resizePolicy"]
    return copy


def _check_resize(new: Object, old: Object, path: str, errors: list[FieldError]) -> None:
    resources, before = new.get("resources") or {}, old.get("resources") or {}
    for field in ("requests", "limits"):
        now, was = resources.get(field) or {}, before.get(field) or {}
        if was.keys() - now.keys():
            errors.append(forbidden_field(f"{path}.{field}", f"resource {field} cannot be removed"))
        if any(now.get(name) != was.get(name) for name in now.keys() | was.keys() if name not in _RESIZABLE):
            errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
