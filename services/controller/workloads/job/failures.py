"""When a pod counts as failed, and what the pod failure policy says of it. Pure functions.

Imitates pkg/controller/job/pod_failure_policy.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from kubecosm.api.meta import get_condition, is_deleting
from kubecosm.api.resources import Object

from ...common.pods import phase_of


class Action(StrEnum):
    """What the pod failure policy may say."""

    FAIL_JOB = "FailJob"
    FAIL_INDEX = "FailIndex"
    IGNORE = "Ignore"
    COUNT = "Count"


class Verdict(NamedTuple):
    """The action of the matching rule, and the message that tells of it (for FailJob); COUNT without a message if none matched."""

    action: Action
    message: str = ""

    @property
    def matched(self) -> bool:
        return bool(self.message)


def replaces_only_failed(job: Object) -> bool:
    """A terminating pod must end before another takes its place; always so where a policy wants to see how pods end."""
    return job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy") is not None


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
