"""Jobs. Imitates SetDefaults_Job, ValidateJob(Update) and pkg/registry/batch/job."""

from __future__ import annotations

from typing import Any

from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.meta import is_condition_true
from kubecosm.api.names import (
    LABEL_JOB_CONTROLLER_UID,
    LABEL_JOB_CONTROLLER_UID_LEGACY,
    LABEL_JOB_NAME,
    LABEL_JOB_NAME_LEGACY,
)
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..formats import FIELD_IMMUTABLE, INT32_MAX, Errors, check_immutable, is_dns1123_label
from ..gotypes import dump
from ..meta import check_label_selector
from ..strategy import StatusStrategy
from ..templated import TemplatedStrategy
from ..values import selector_value, sorted_map
from ..workloads import MISMATCH, matcher
from .job_spec import check_job_spec, size_warnings
from .job_status import check_job_status

BACKOFF_LIMIT = 6


class JobStrategy(TemplatedStrategy):
    """A Job as users and CronJobs create and update it."""

    names_pods = True

    orphans_dependents = True

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        told = super().warnings(obj, old)
        return told if old is not None and obj["spec"] == old["spec"] else size_warnings(obj["spec"], "spec") + told

    def default(self, obj: Object) -> None:
        spec: dict[str, Any] = obj.setdefault("spec", {})
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", INT32_MAX if "backoffLimitPerIndex" in spec else BACKOFF_LIMIT)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        spec.setdefault("manualSelector", False)
        spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
        for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
            for pattern in rule.get("onPodConditions") or ():
                if not pattern.get("status"):
                    pattern["status"] = "True"
        default_pod_template(spec.setdefault("template", {}))
        _inherit_labels(obj)
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        obj["metadata"]["generation"] = 1
        if not obj["spec"].get("manualSelector"):
            _generate_selector(obj)
            _inherit_labels(obj)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_generated_selector(obj, errors)
        _check_spec(obj["spec"], errors)
        _check_pod_names(obj, errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        _check_spec(obj["spec"], errors)  # Kubernetes checks it twice on updates, and says so twice
        _check_update(obj, old, errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"status.successful": str((obj.get("status") or {}).get("succeeded", 0))}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("status.successful",)


def _template_labels(job: Object) -> dict[str, str] | None:
    labels: dict[str, str] | None = (job["spec"]["template"].get("metadata") or {}).get("labels")
    return labels


def _inherit_labels(job: Object) -> None:
    labels = _template_labels(job)
    if labels and not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(labels)


def _generate_selector(job: Object) -> None:
    """Pods are told by the Job's uid; user-set labels of these names stay, and are refused if they differ."""
    metadata = job["metadata"]
    template = job["spec"]["template"].setdefault("metadata", {})
    labels = dict(template.get("labels") or {})
    labels.setdefault(LABEL_JOB_NAME_LEGACY, metadata.get("name", ""))
    labels.setdefault(LABEL_JOB_NAME, metadata.get("name", ""))
    labels.setdefault(LABEL_JOB_CONTROLLER_UID_LEGACY, metadata["uid"])
    labels.setdefault(LABEL_JOB_CONTROLLER_UID, metadata["uid"])
    inherited = metadata.get("labels") == template.get("labels")
    template["labels"] = labels
    if inherited and metadata.get("labels"):
        metadata["labels"] = dict(labels)  # they are one map in Kubernetes
    selector = dict(job["spec"].get("selector") or {})
    selector["matchLabels"] = {LABEL_JOB_CONTROLLER_UID: metadata["uid"], **(selector.get("matchLabels") or {})}
    job["spec"]["selector"] = selector


def _check_generated_selector(job: Object, errors: Errors) -> None:
    spec, metadata = job["spec"], job["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    labels = _template_labels(job) or {}
    expected = {
        LABEL_JOB_CONTROLLER_UID_LEGACY: metadata.get("uid", ""), LABEL_JOB_NAME_LEGACY: metadata.get("name", ""),
        LABEL_JOB_CONTROLLER_UID: metadata.get("uid", ""), LABEL_JOB_NAME: metadata.get("name", ""),
    }  # fmt: skip
    for key, value in expected.items():
        path = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            errors.append(required(path, f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid_value(path, sorted_map(labels), f"must be '{value}'"))
    compiled = matcher(spec["selector"])
    if compiled is not None and not compiled.matches(expected):
        errors.append(invalid_value("spec.selector", selector_value(spec["selector"]), "`selector` not auto-generated"))


def _check_spec(spec: Object, errors: Errors) -> None:
    check_job_spec(spec, "spec", errors)
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        check_label_selector(selector, "spec.selector", errors)
    labels = (spec["template"].get("metadata") or {}).get("labels")
    compiled = matcher(selector)
    if compiled is not None and not compiled.matches(labels or {}):
        errors.append(invalid_value("spec.template.metadata.labels", sorted_map(labels), MISMATCH))


def _check_pod_names(job: Object, errors: Errors) -> None:
    spec, name = job["spec"], job["metadata"].get("name", "")
    completions = spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and completions > 0:
        hostname = f"{name}-{completions - 1}"
        if is_dns1123_label(hostname):
            errors.append(invalid_value("metadata.name", name, f"will not able to create pod with invalid DNS label: {hostname}"))


_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")


def _check_update(job: Object, old: Object, errors: Errors) -> None:
    spec, before = job["spec"], old["spec"]
    _check_completions(spec, before, errors)
    if spec.get("selector") != before.get("selector"):
        errors.append(invalid_value("spec.selector", selector_value(spec.get("selector")), FIELD_IMMUTABLE))
    if _fixed_template(job, old) != before["template"]:
        errors.append(invalid_value("spec.template", dump("PodTemplateSpec", spec["template"]), FIELD_IMMUTABLE))
    for field in _IMMUTABLE:
        check_immutable(spec.get(field), before.get(field), f"spec.{field}", errors)


def _check_completions(spec: Object, old: Object, errors: Errors) -> None:
    now, before = spec.get("completions"), old.get("completions")
    if now == before:
        return
    if spec.get("completionMode") != "Indexed":
        errors.append(invalid_value("spec.completions", now, FIELD_IMMUTABLE))
    elif now is not None and now != spec.get("parallelism"):
        errors.append(invalid_value("spec.completions", now, "can only be modified in tandem with spec.parallelism"))


_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")
_DIRECTIVE_METADATA = ("labels", "annotations")


def _may_change_template(old: Object) -> bool:
    """Suspended and not started, or suspended again and without active pods."""
    status = old.get("status") or {}
    rests = is_condition_true(old, "Suspended") and not status.get("active")
    return bool(old["spec"].get("suspend")) and (rests or not status.get("startTime"))


def _fixed_template(job: Object, old: Object) -> Object:
    """The new template with what may change put back: scheduling directives and resources of a Job that rests."""
    template, before = job["spec"]["template"], old["spec"]["template"]
    if not _may_change_template(old) or template == before:
        return dict(template)
    spec, metadata = dict(template["spec"]), dict(template.get("metadata") or {})
    for holder, fields, source in (
        (spec, _DIRECTIVES, before["spec"]), (metadata, _DIRECTIVE_METADATA, before.get("metadata") or {}),
    ):  # fmt: skip
        for field in fields:
            _put_back(holder, source, field)
    for field in ("initContainers", "containers"):
        containers, earlier = spec.get(field) or (), before["spec"].get(field) or ()
        if containers and len(containers) == len(earlier):
            spec[field] = [dict(container) for container in containers]
            for container, source in zip(spec[field], earlier, strict=True):
                _put_back(container, source, "resources")
    affinity = {k: v for k, v in (spec.get("affinity") or {}).items() if k != "nodeAffinity"}
    old_affinity = before["spec"].get("affinity")
    if old_affinity is not None and "nodeAffinity" in old_affinity:
        affinity["nodeAffinity"] = old_affinity["nodeAffinity"]
    if affinity or old_affinity is not None:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)
    return {**template, "spec": spec, "metadata": metadata}


def _put_back(holder: Object, source: Object, field: str) -> None:
    holder.pop(field, None)
    if field in source:
        holder[field] = source[field]


class JobStatusStrategy(StatusStrategy):
    """jobs/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return check_job_status(obj, old)
