"""The cells of workloads and of what scales and guards them. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecosm.api.meta import controller_of
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from .texts import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    condition,
    containers_and_images,
    human_duration,
    labels_text,
    name_of,
    part,
    selector_text,
    since,
    true_false,
)

METRICS_SHOWN_MAX = 2


def _number(obj: Object, *path: str) -> int:
    return part(obj, *path) or 0


def pod_templates(obj: Object, now: datetime) -> list[Any]:
    template = obj.get("template")
    return [name_of(obj), *containers_and_images(template), labels_text(part(template or {}, "metadata", "labels"))]


def _sized(obj: Object, now: datetime) -> list[Any]:
    """The cells that ReplicaSets and ReplicationControllers share."""
    numbers = [_number(obj, "spec", "replicas"), _number(obj, "status", "replicas"), _number(obj, "status", "readyReplicas")]
    return [name_of(obj), *numbers, age(obj, now), *containers_and_images(part(obj, "spec", "template"))]


def replication_controllers(obj: Object, now: datetime) -> list[Any]:
    return [*_sized(obj, now), labels_text(part(obj, "spec", "selector"))]


def replica_sets(obj: Object, now: datetime) -> list[Any]:
    return [*_sized(obj, now), selector_text(part(obj, "spec", "selector"))]


def _ready(obj: Object) -> str:
    return f"{_number(obj, 'status', 'readyReplicas')}/{_number(obj, 'spec', 'replicas')}"


def deployments(obj: Object, now: datetime) -> list[Any]:
    numbers = [_number(obj, "status", "updatedReplicas"), _number(obj, "status", "availableReplicas")]
    template, selector = part(obj, "spec", "template"), part(obj, "spec", "selector")
    return [name_of(obj), _ready(obj), *numbers, age(obj, now), *containers_and_images(template), selector_text(selector)]


def stateful_sets(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), _ready(obj), age(obj, now), *containers_and_images(part(obj, "spec", "template"))]


_DAEMON_COUNTS = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")


def daemon_sets(obj: Object, now: datetime) -> list[Any]:
    numbers = [_number(obj, "status", name) for name in _DAEMON_COUNTS]
    template = part(obj, "spec", "template")
    nodes = labels_text(part(template or {}, "spec", "nodeSelector"))
    return [name_of(obj), *numbers, nodes, age(obj, now), *containers_and_images(template), selector_text(part(obj, "spec", "selector"))]


def controller_revisions(obj: Object, now: datetime) -> list[Any]:
    owner = controller_of(obj)
    controller = NONE
    if owner is not None:
        group = owner["apiVersion"].rpartition("/")[0]
        kind = f"{owner['kind']}.{group}" if group else owner["kind"]
        controller = f"{kind.lower()}/{owner['name']}"
    return [name_of(obj), controller, obj.get("revision", 0), age(obj, now)]


_JOB_WORDS = (
    ("Complete", "Complete"), ("Failed", "Failed"), ("", "Terminating"), ("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)  # fmt: skip
"""(condition, status word), the first that holds; a job that is being deleted comes in the middle."""


def jobs(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = spec.get("completions")
    if wanted is None:
        parallelism = spec.get("parallelism") or 0
        wanted = f"1 of {parallelism}" if parallelism > 1 else "1"
    duration = ""
    if started := status.get("startTime"):
        end = status.get("completionTime")
        duration = human_duration((parse_time(end) if end else now) - parse_time(started))
    return [
        name_of(obj), _job_status(obj), f"{status.get('succeeded', 0)}/{wanted}", duration, age(obj, now),
        *containers_and_images(spec.get("template")), selector_text(spec.get("selector")),
    ]  # fmt: skip


def _job_status(obj: Object) -> str:
    for name, word in _JOB_WORDS:
        if obj["metadata"].get("deletionTimestamp") if not name else (condition(obj, name) or {}).get("status") == "True":
            return word
    return "Running"


def cron_jobs(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    suspend = spec.get("suspend")
    last = status.get("lastScheduleTime")
    job = part(spec, "jobTemplate", "spec") or {}
    return [
        name_of(obj), spec.get("schedule", ""), spec.get("timeZone") or NONE, UNSET if suspend is None else true_false(suspend),
        len(status.get("active") or ()), since(last, now) if last else NONE, age(obj, now), *containers_and_images(job.get("template")),
        selector_text(job.get("selector")),
    ]  # fmt: skip


def pod_disruption_budgets(obj: Object, now: datetime) -> list[Any]:
    bounds = [part(obj, "spec", name) for name in ("minAvailable", "maxUnavailable")]
    allowed = _number(obj, "status", "disruptionsAllowed")
    return [name_of(obj), *("N/A" if bound is None else str(bound) for bound in bounds), allowed, age(obj, now)]


def scales(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), _number(obj, "spec", "replicas"), _number(obj, "status", "replicas"), age(obj, now)]


def horizontal_pod_autoscalers(obj: Object, now: datetime) -> list[Any]:
    """Of autoscaling/v2."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name_of(obj), f"{target.get('kind', '')}/{target.get('name', '')}",
        _metrics(spec.get("metrics") or [], status.get("currentMetrics") or []), UNSET if least is None else str(least),
        spec.get("maxReplicas", 0), status.get("currentReplicas", 0), age(obj, now),
    ]  # fmt: skip


_METRIC_FIELDS = {
    "External": "external", "Pods": "pods", "Object": "object", "Resource": "resource", "ContainerResource": "containerResource",
}  # fmt: skip


def _metrics(specs: list[Object], statuses: list[Object]) -> str:
    if not specs:
        return NONE
    shown = [_metric(spec, statuses[i] if i < len(statuses) else {}) for i, spec in enumerate(specs[:METRICS_SHOWN_MAX])]
    text = ", ".join(shown)
    return f"{text} + {len(specs) - METRICS_SHOWN_MAX} more..." if len(specs) > METRICS_SHOWN_MAX else text


def _metric(spec: Object, status: Object) -> str:
    """`current/target` of one metric."""
    field = _METRIC_FIELDS.get(spec.get("type", ""))
    if field is None:
        return "<unknown type>"
    source = spec.get(field) or {}
    target, current = source.get("target") or {}, part(status, field, "current") or {}
    average = target.get("averageValue")
    if field in ("resource", "containerResource"):
        if average is not None:
            return f"{source.get('name', '')}: {current.get('averageValue', UNKNOWN)}/{average}"
        utilization = target.get("averageUtilization")
        goal = "<auto>" if utilization is None else f"{utilization}%"
        used = current.get("averageUtilization")
        return f"{source.get('name', '')}: {UNKNOWN if used is None else f'{used}%'}/{goal}"
    if field == "pods":
        return f"{current.get('averageValue', UNKNOWN)}/{average or '0'}"
    if average is not None:
        return f"{current.get('averageValue', UNKNOWN)}/{average} (avg)"
    return f"{current.get('value', UNKNOWN)}/{target.get('value', '0')}"
