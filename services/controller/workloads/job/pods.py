"""The pods a Job starts: index, tracking finalizer, failure counts. Pure functions."""

from __future__ import annotations

from kubecosm.api.names import (
    ANNOTATION_JOB_COMPLETION_INDEX,
    ANNOTATION_JOB_INDEX_FAILURE_COUNT,
    ANNOTATION_JOB_INDEX_IGNORED_FAILURE_COUNT,
    FINALIZER_JOB_TRACKING,
)
from kubecosm.api.resources import JOBS, Object

from ...common.templates import pod_from_template
from .indexes import is_indexed
from .plan import NewPod

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
PREFIX_LENGTH_MAX = 63 - 5
"""What the API server leaves of generateName before its five random characters; the index must not be lost."""


def _with_index_variable(container: Object) -> Object:
    if any(variable["name"] == INDEX_VARIABLE for variable in container.get("env") or ()):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{ANNOTATION_JOB_COMPLETION_INDEX}']"}}
    return {**container, "env": [*(container.get("env") or ()), {"name": INDEX_VARIABLE, "valueFrom": source}]}


def new_pod(job: Object, wanted: NewPod) -> Object:
    """The pod to create, tracked by finalizer; an indexed one knows its index by label, annotation, environment and host name."""
    pod = pod_from_template(job["spec"]["template"], job, JOBS)
    meta, spec, name = pod["metadata"], pod["spec"], job["metadata"]["name"]
    if FINALIZER_JOB_TRACKING not in meta["finalizers"]:
        meta["finalizers"].append(FINALIZER_JOB_TRACKING)
    if not is_indexed(job):
        return pod
    suffix = f"-{wanted.index}-"
    meta["generateName"] = name[: PREFIX_LENGTH_MAX - len(suffix)] + suffix
    meta["annotations"][ANNOTATION_JOB_COMPLETION_INDEX] = str(wanted.index)
    meta["labels"][ANNOTATION_JOB_COMPLETION_INDEX] = str(wanted.index)
    if job["spec"].get("backoffLimitPerIndex") is not None:
        meta["annotations"][ANNOTATION_JOB_INDEX_FAILURE_COUNT] = str(wanted.failures)
        if wanted.ignored_failures:
            meta["annotations"][ANNOTATION_JOB_INDEX_IGNORED_FAILURE_COUNT] = str(wanted.ignored_failures)
    spec["hostname"] = f"{name}-{wanted.index}"
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [_with_index_variable(container) for container in spec[field]]
    return pod
