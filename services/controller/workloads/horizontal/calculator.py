"""From measured values to a number of replicas. Pure.

Imitates pkg/controller/podautoscaler/replica_calculator.go. Amounts are integers: milli-units of what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubecosm.api.meta import get_condition, is_deleting
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ...common.pods import is_ready, phase_of

CPU = "cpu"
_Ratio = Callable[[Mapping[str, "PodMetric"]], float]


REPLICAS_MAX = 2**31 - 1


class CalculationError(Exception):
    """The number of replicas cannot be told; the message is Kubernetes'."""

    def __init__(self, message: str, told: str = "") -> None:
        super().__init__(message)
        self.told = told or message
        """How the sum of all failures words it, where that differs."""


@dataclass(frozen=True, slots=True)
class PodMetric:
    """What was measured of one pod: milli-units, when, and over how many seconds."""

    value: int
    at: datetime
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The ratios around 1 that change nothing."""

    down: float
    up: float

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Warmup:
    """How long a starting pod's CPU use does not count."""

    cpu_initialization_seconds: float
    readiness_delay_seconds: float


@dataclass(frozen=True, slots=True)
class Grouped:
    """The pods behind an autoscaler by what their measurements are worth: names."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """How many replicas a metric asks for, and what it showed: percent of the requests (if asked for) and the average per pod."""

    replicas: int
    utilization: int | None
    average: int


def plan_groups(pods: Iterable[Object], metrics: Mapping[str, PodMetric], resource: str, warmup: Warmup, now: datetime) -> Grouped:
    """Sort pods: those that count, those not ready yet, those without a measurement, those that end."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_deleting(pod) or phase_of(pod) == "Failed":
            ignored.add(name)
        elif phase_of(pod) == "Pending":
            unready.add(name)
        elif name not in metrics:
            missing.add(name)
        elif resource == CPU and _is_warming_up(pod, metrics[name], warmup, now):
            unready.add(name)
        else:
            ready += 1
    return Grouped(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_warming_up(pod: Object, metric: PodMetric, warmup: Warmup, now: datetime) -> bool:
    """Whether the CPU use was measured before the pod did its proper work."""
    condition, started = get_condition(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    if condition is None or not started:
        return True
    start = parse_time(started)
    turned = parse_time(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else start
    is_unready = condition["status"] == "False"
    if start + timedelta(seconds=warmup.cpu_initialization_seconds) > now:
        return is_unready or metric.at < turned + timedelta(seconds=metric.window_seconds)
    return is_unready and start + timedelta(seconds=warmup.readiness_delay_seconds) > turned


def plan_requests(pods: Iterable[Object], container: str, resource: str) -> dict[str, int]:
    """What each pod requests of a resource (of one container, if named), in milli-units. CalculationError if one requests nothing."""
    return {pod["metadata"]["name"]: _requested(pod, container, resource) for pod in pods}


def _requested(pod: Object, container: str, resource: str) -> int:
    name, spec = pod["metadata"]["name"], pod["spec"]
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    counted = [one for one in (*spec["containers"], *sidecars) if container in ("", one["name"])]
    requests = {one["name"]: ((one.get("resources") or {}).get("requests") or {}).get(resource) for one in counted}
    whole = (spec.get("resources") or {}).get("requests") or {}
    if whole and not container:
        known = [whole[resource]] if resource in whole else [request for request in requests.values() if request is not None]
        if not known:
            raise CalculationError(f"missing pod-level request for {resource} in Pod {name}")
        return sum(Quantity.of(request).milli_value() for request in known)
    if container and not counted:
        raise CalculationError(f"container {container} not found in Pod {name}")
    total = 0
    for one, request in requests.items():
        if request is None:
            raise CalculationError(f"missing request for {resource} in container {one} of Pod {name}")
        total += Quantity.of(request).milli_value()
    return total


def _utilization(metrics: Mapping[str, PodMetric], requests: Mapping[str, int], target: int) -> tuple[float, int, int]:
    """(ratio to the target, percent of the requests, average per pod). CalculationError if nothing is requested."""
    counted = [name for name in metrics if name in requests]
    used, requested = sum(metrics[name].value for name in counted), sum(requests[name] for name in counted)
    if not requested:
        raise CalculationError("no metrics returned matched known pods")
    percent = used * 100 // requested
    return percent / target, percent, used // len(counted)


def _average(metrics: Mapping[str, PodMetric], target: int) -> tuple[float, int]:
    """(ratio to the target, average per pod)."""
    average = sum(metric.value for metric in metrics.values()) // len(metrics)
    return average / target, average


def _with_values(metrics: Mapping[str, PodMetric], values: Mapping[str, int], now: datetime) -> dict[str, PodMetric]:
    return {**metrics, **{name: PodMetric(value, now, 0.0) for name, value in values.items()}}


def counting(metrics: Mapping[str, PodMetric], groups: Grouped) -> dict[str, PodMetric]:
    """Without the pods whose measurements do not count. CalculationError if none is left."""
    found = {name: metric for name, metric in metrics.items() if name not in groups.ignored and name not in groups.unready}
    if not found:
        raise CalculationError("did not receive metrics for targeted pods (pods might be unready)")
    return found


def plan_by_utilization(
    current: int, metrics: Mapping[str, PodMetric], groups: Grouped, requests: Mapping[str, int], target: int,
    tolerance: Tolerance, now: datetime,
) -> Proposal:  # fmt: skip
    """Replicas for a target in percent of what pods request."""
    counted = counting(metrics, groups)
    ratio, percent, average = _utilization(counted, requests, target)
    missing = {name: requests[name] * max(100, target) // 100 for name in groups.missing}

    def again(assumed: Mapping[str, PodMetric]) -> float:
        return _utilization(assumed, requests, target)[0]

    replicas = _settle(current, ratio, counted, groups, tolerance, again, missing, now)
    return Proposal(replicas, percent, average)


def plan_by_average(
    current: int, metrics: Mapping[str, PodMetric], groups: Grouped, target: int, tolerance: Tolerance, now: datetime
) -> Proposal:
    """Replicas for a target value per pod, in milli-units."""
    counted = counting(metrics, groups)
    ratio, average = _average(counted, target)

    def again(assumed: Mapping[str, PodMetric]) -> float:
        return _average(assumed, target)[0]

    replicas = _settle(current, ratio, counted, groups, tolerance, again, dict.fromkeys(groups.missing, target), now)
    return Proposal(replicas, None, average)


def _settle(
    current: int, ratio: float, metrics: Mapping[str, PodMetric], groups: Grouped, tolerance: Tolerance,
    again: _Ratio, missing_when_down: Mapping[str, int], now: datetime,
) -> int:  # fmt: skip
    """The replicas for a ratio; pods that are not known are assumed to speak against the change, which may dampen but not reverse it."""
    counts_unready = bool(groups.unready) and ratio > 1.0
    if not counts_unready and not groups.missing:
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    assumed = dict(metrics)
    if groups.missing and ratio < 1.0:
        assumed = _with_values(assumed, missing_when_down, now)
    elif groups.missing and ratio > 1.0:
        assumed = _with_values(assumed, dict.fromkeys(groups.missing, 0), now)
    if counts_unready:
        assumed = _with_values(assumed, dict.fromkeys(groups.unready, 0), now)
    new = again(assumed)
    if tolerance.covers(new) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    replicas = math.ceil(new * len(assumed))
    if (new < 1.0 and replicas > current) or (new > 1.0 and replicas < current):
        return current
    return replicas


def plan_by_value(current: int, pods: Sequence[Object], usage: int, target: int, tolerance: Tolerance) -> int:
    """Replicas for the value of one metric of another object or of the outside world, from the ready ones of the pods."""
    ratio = usage / target
    if current == 0:
        return math.ceil(ratio)
    if tolerance.covers(ratio):
        return current
    if not pods:
        raise CalculationError("unable to calculate ready pods: no pods returned by selector while calculating replica count")
    ready = sum(phase_of(pod) == "Running" and is_ready(pod) for pod in pods)
    return min(math.ceil(ratio * ready), REPLICAS_MAX)


def plan_by_share(replicas: int, usage: int, target: int, tolerance: Tolerance) -> tuple[int, int]:
    """(replicas, average per replica) for a metric whose value is shared by all replicas of the status."""
    wanted = replicas
    if replicas == 0 or not tolerance.covers(usage / (target * replicas)):
        wanted = min(math.ceil(usage / target), REPLICAS_MAX)
    return wanted, math.ceil(usage / replicas) if replicas else 0
