"""When a pod counts as failed, what the pod failure policy says of it, and how long to wait before the next try. Pure functions.

Imitates pkg/controller/job/{pod_failure_policy,backoff_utils}.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from kubecosm.api.meta import get_condition, is_deleting
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ...common.pods import created_at, is_terminal, phase_of

BACKOFF_SECONDS_FIRST = 10.0
BACKOFF_SECONDS_MAX = 600.0


class Action(StrEnum):
    """What the pod failure policy may say."""

    FAIL_JOB = "FailJob"
    FAIL_INDEX = "FailIndex"
    IGNORE = "Ignore"
    COUNT = "Count"


class Verdict(NamedTuple):
    """The action of the matching rule, and the message that tells of it (for FailJob)."""

    action: Action
    message: str = ""


def replaces_only_failed(job: Object) -> bool:
    """A terminating pod must end before another takes its place."""
    policy: str | None = job["spec"].get("podReplacementPolicy")
    return policy == "Failed"


def is_failed(job: Object, pod: Object) -> bool:
    """Failed, or on its way out: such a pod may never get to tell its phase."""
    if phase_of(pod) == "Failed":
        return True
    return not replaces_only_failed(job) and is_deleting(pod) and phase_of(pod) != "Succeeded"


def _exit_code_matches(rule: Object, status: Object) -> bool:
    terminated = (status.get("state") or {}).get("terminated")
    if terminated is None or terminated.get("exitCode", 0) == 0:
        return False
    if rule.get("containerName") and rule["containerName"] != status["name"]:
        return False
    return bool((terminated["exitCode"] in rule["values"]) == (rule["operator"] == "In"))


def judge(job: Object, pod: Object) -> Verdict:
    """What the first matching rule of spec.podFailurePolicy says of a failed pod; COUNT if none matches."""
    status, meta = pod.get("status") or {}, pod["metadata"]
    name = f"{meta['namespace']}/{meta['name']}"
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action = Action(rule["action"])
        if exit_codes := rule.get("onExitCodes"):
            for container in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
                if _exit_code_matches(exit_codes, container):
                    code = container["state"]["terminated"]["exitCode"]
                    told = f"Container {container['name']} for pod {name} failed with exit code {code}"
                    return Verdict(action, f"{told} matching {action} rule at index {number}")
        for wanted in rule.get("onPodConditions") or ():
            condition = get_condition(pod, wanted["type"])
            if condition is not None and condition["status"] == (wanted.get("status") or "True"):
                return Verdict(action, f"Pod {name} has condition {wanted['type']} matching {action} rule at index {number}")
    return Verdict(Action.COUNT)


def finished_at(pod: Object) -> datetime | None:
    """When the last container ended; else when the pod stopped being ready, or was to go."""
    status = pod.get("status") or {}
    ends = [
        ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for container in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    ]
    known = [parse_time(end) for end in ends if end]
    if known:
        return max(known)
    ready = get_condition(pod, "Ready")
    if ready is not None and is_terminal(pod) and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    deleted = pod["metadata"].get("deletionTimestamp")
    return parse_time(deleted) if deleted else created_at(pod)


def seconds_to_wait(job: Object, pods: Iterable[Object], now: datetime) -> float:
    """What is left of the back-off after the failures since the last success; 0 when there is nothing to wait for.

    It is computed from the pods that are still there, so it survives a restart of the controller.
    """
    ended: list[tuple[datetime, bool]] = []
    for pod in pods:
        moment = finished_at(pod) if is_failed(job, pod) or phase_of(pod) == "Succeeded" else None
        if moment is not None:
            ended.append((moment, phase_of(pod) != "Succeeded"))
    last_success = max((moment for moment, failed in ended if not failed), default=None)
    failures = [moment for moment, failed in ended if failed and (last_success is None or moment > last_success)]
    if not failures:
        return 0.0
    return wait_after(len(failures), max(failures), now)


def wait_after(failures: int, last: datetime, now: datetime) -> float:
    """10 s after the first failure, doubling with each, at most 10 minutes."""
    wait = min(BACKOFF_SECONDS_FIRST * 2.0 ** min(failures - 1, 16), BACKOFF_SECONDS_MAX)
    return max(wait - (now - last).total_seconds(), 0.0)


def exceeds_restarts(job: Object, pods: Sequence[Object]) -> bool:
    """With restartPolicy OnFailure containers restart in place: their restarts count against backoffLimit."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in pods:
        if phase_of(pod) in ("Running", "Pending"):
            status = pod.get("status") or {}
            containers = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
            total += sum(container.get("restartCount", 0) for container in containers)
    limit = job["spec"].get("backoffLimit", 6)
    return total > 0 if limit == 0 else total >= limit
