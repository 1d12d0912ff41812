"""What a PodDisruptionBudget allows, and when a disruption that did not come about is called off. Pure functions.

Imitates pkg/controller/disruption.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from kubecosm.api.intstr import scaled_value
from kubecosm.api.meta import controller_of, get_condition, is_deleting
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time

from ...common.conditions import find
from ...common.pods import is_ready, is_terminal

DELETION_TIMEOUT_SECONDS = 120.0
"""An eviction that was granted is forgotten if its pod has not begun to terminate after this."""
STALE_DISRUPTION_SECONDS = 120.0
"""After so long a pod that was to be disrupted, and is not being deleted, no longer is."""
DISRUPTION_TARGET = "DisruptionTarget"
SyncFailure = ValueError


def by_size(budget: Object) -> bool:
    """Whether the budget is reckoned by the sizes of workloads, and not by a number of pods alone."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def plan_expected(budget: Object, pods: Sequence[Object], scales: Mapping[str, tuple[str, int] | None]) -> tuple[int, int]:
    """(pods there should be, pods that must stay healthy); ValueError when a pod has a controller whose size is not known.

    `scales` tells, by pod name, the uid and size of the pod's controller. Pods without a controller are not counted by size.
    """
    spec = budget["spec"]
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    if minimum is None and maximum is None:
        return 0, 0
    if not by_size(budget):
        return len(pods), int(minimum or 0)
    sizes: dict[str, int] = {}
    for pod in pods:
        if controller_of(pod) is None:
            continue
        found = scales.get(pod["metadata"]["name"])
        if found is None:
            raise SyncFailure(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        sizes[found[0]] = found[1]
    expected = sum(sizes.values())
    if maximum is not None:
        return expected, max(expected - scaled_value(maximum, expected, round_up=True), 0)
    assert minimum is not None, "one of the two is set, or the minimum is 0"
    return expected, scaled_value(minimum, expected, round_up=True)


class Granted(NamedTuple):
    """Evictions granted whose pods still stand, the seconds until the next of them is forgotten, and pods whose turn that is."""

    standing: dict[str, str]
    next_expiry: float | None
    overdue: list[Object]


def plan_granted(budget: Object, pods: Sequence[Object], now: datetime) -> Granted:
    """What becomes of the budget's disruptedPods."""
    known = {pod["metadata"]["name"]: pod for pod in pods}
    granted = Granted({}, None, [])
    for name, stamp in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        pod = known.get(name)
        if pod is None or is_deleting(pod):
            continue
        left = (parse_time(stamp) + timedelta(seconds=DELETION_TIMEOUT_SECONDS) - now).total_seconds()
        if left <= 0:
            granted.overdue.append(pod)
            continue
        granted.standing[name] = stamp
        granted = granted._replace(next_expiry=left if granted.next_expiry is None else min(granted.next_expiry, left))
    return granted


def plan_status(
    budget: Object, pods: Sequence[Object], scales: Mapping[str, tuple[str, int] | None], granted: Collection[str], now: datetime
) -> Object:
    """The budget's status, but for its disruptedPods. ValueError as plan_expected."""
    expected, desired = plan_expected(budget, pods, scales)
    healthy = sum(is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in granted for pod in pods)
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    verdict = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    generation = budget["metadata"].get("generation", 0)
    return {
        "observedGeneration": generation, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired,
        "expectedPods": expected, "conditions": _conditions(budget, *verdict, "", generation, now),
    }  # fmt: skip


def plan_failed_status(budget: Object, message: str, now: datetime) -> Object:
    """The status when the number of pods is not known: no disruption is allowed. The spec does not count as observed."""
    old = dict.fromkeys(("currentHealthy", "desiredHealthy", "expectedPods"), 0) | (budget.get("status") or {})
    generation = old.get("observedGeneration", 0)
    return {**old, "disruptionsAllowed": 0, "conditions": _conditions(budget, "False", "SyncFailed", message, generation, now)}


def _conditions(budget: Object, status: str, reason: str, message: str, generation: int, now: datetime) -> list[Object]:
    """meta.SetStatusCondition: in the place of the one of its type; with an equal status the old transition time stays."""
    conditions = (budget.get("status") or {}).get("conditions") or []
    new: Object = {"type": "DisruptionAllowed", "status": status, **({"observedGeneration": generation} if generation else {})}
    new |= {"lastTransitionTime": format_time(now), "reason": reason, "message": message}
    old = find(conditions, "DisruptionAllowed")
    if old is None:
        return [*conditions, new]
    if old["status"] == status:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    return [new if condition is old else condition for condition in conditions]


def seconds_until_stale(pod: Object, now: datetime) -> float | None:
    """How long the pod may still be about to be disrupted, as its condition says; None if it is not, or goes already.

    A kubelet may take long to end a pod, and a pod that has ended was disrupted: their conditions stay.
    """
    condition = get_condition(pod, DISRUPTION_TARGET)
    if condition is None or condition["status"] != "True" or is_deleting(pod):
        return None
    if condition.get("reason") == "TerminationByKubelet" or is_terminal(pod):
        return None
    since = parse_time(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else now
    return (since + timedelta(seconds=STALE_DISRUPTION_SECONDS) - now).total_seconds()
