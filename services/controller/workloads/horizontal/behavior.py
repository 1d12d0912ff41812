"""How fast an autoscaler may change its mind: stabilization windows, scaling policies, limits. Pure, over a remembered history.

Imitates pkg/controller/podautoscaler/horizontal.go (normalizeDesiredReplicas and normalizeDesiredReplicasWithBehaviors).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kubecosm.api.resources import Object

SCALE_UP_FACTOR, SCALE_UP_MINIMUM = 2.0, 4.0
"""Without `behavior` replicas may double at once, and always grow to four."""
HISTORY_MAX = 4096
"""Recommendations and changes remembered at most: more than an hour of one a second."""


class Sample(NamedTuple):
    """Seconds of the monotonic clock, and a number of replicas: recommended, or changed by."""

    at: float
    replicas: int


@dataclass
class History:
    """What one autoscaler remembers; it is lost with the process, as in Kubernetes."""

    recommendations: list[Sample] = field(default_factory=list)
    ups: list[Sample] = field(default_factory=list)
    downs: list[Sample] = field(default_factory=list)

    def forget(self, before: float) -> None:
        """Drop what no window reaches any more."""
        for samples in (self.recommendations, self.ups, self.downs):
            samples[:] = [sample for sample in samples if sample.at >= before][-HISTORY_MAX:]


class Verdict(NamedTuple):
    """A number of replicas and why it is not another: reason and message of a condition."""

    replicas: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """The replicas an autoscaler may choose from, and those there are."""

    minimum: int
    maximum: int
    current: int


WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FAST_UP = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
TOO_FAST_DOWN = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
READY = ("ReadyForNewScale", "recommended size matches current size")
HIGHEST = ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
LOWEST = ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")


def plan_stable(wanted: int, recommendations: Iterable[Sample], window_seconds: float, now: float) -> Verdict:
    """Without `behavior`: the highest recommendation of the window."""
    stable = max([wanted, *(sample.replicas for sample in recommendations if sample.at > now - window_seconds)])
    return Verdict(stable, *(READY if stable == wanted else HIGHEST))


def plan_limited(wanted: int, bounds: Bounds) -> Verdict:
    """Without `behavior`: within the bounds, and no more than doubled."""
    limit = int(max(SCALE_UP_FACTOR * bounds.current, SCALE_UP_MINIMUM))
    highest, why = (limit, TOO_FAST_UP) if bounds.maximum > limit else (bounds.maximum, TOO_MANY)
    if wanted < bounds.minimum:
        return Verdict(bounds.minimum, *TOO_FEW)
    return Verdict(highest, *why) if wanted > highest else Verdict(wanted, *WITHIN)


def plan_stable_with_behavior(wanted: int, current: int, history: History, up: Object, down: Object, now: float) -> Verdict:
    """With `behavior`: as near to the present size as the recommendations of both windows allow."""

    def recent(rules: Object) -> list[int]:
        since = now - (rules.get("stabilizationWindowSeconds") or 0)
        return [sample.replicas for sample in history.recommendations if sample.at > since]

    lowest, highest = min([wanted, *recent(up)]), max([wanted, *recent(down)])
    stable = min(max(current, lowest), highest)
    if stable == wanted:
        return Verdict(stable, *READY)
    return Verdict(stable, *(LOWEST if wanted >= current else HIGHEST))


def plan_limited_with_behavior(wanted: int, bounds: Bounds, history: History, up: Object, down: Object, now: float) -> Verdict:
    """With `behavior`: within the bounds, and no faster than the policies allow."""
    if wanted > bounds.current:
        limit = max(_up_limit(bounds.current, history, up, now), bounds.current)
        highest, why = (limit, TOO_FAST_UP) if bounds.maximum > limit else (bounds.maximum, TOO_MANY)
        return Verdict(highest, *why) if wanted > highest else Verdict(wanted, *WITHIN)
    if wanted < bounds.current:
        limit = min(_down_limit(bounds.current, history, down, now), bounds.current)
        lowest, why = (limit, TOO_FAST_DOWN) if bounds.minimum < limit else (bounds.minimum, TOO_FEW)
        return Verdict(lowest, *why) if wanted < lowest else Verdict(wanted, *WITHIN)
    return Verdict(wanted, *WITHIN)


def _changed(samples: Iterable[Sample], period_seconds: float, now: float) -> int:
    return sum(sample.replicas for sample in samples if sample.at > now - period_seconds)


def _limits(current: int, history: History, rules: Object, sign: int, now: float) -> list[int]:
    """What each policy allows: `sign` 1 for growing, -1 for shrinking."""
    limits = []
    for policy in rules.get("policies") or ():
        period, value = policy["periodSeconds"], policy["value"]
        start = current - _changed(history.ups, period, now) + _changed(history.downs, period, now)
        if policy["type"] == "Pods":
            limits.append(start + sign * value)
        elif sign > 0:
            limits.append(math.ceil(start * (1 + value / 100)))
        else:
            limits.append(int(start * (1 - value / 100)))
    return limits


def _up_limit(current: int, history: History, rules: Object, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = _limits(current, history, rules, 1, now)
    return (min if rules.get("selectPolicy") == "Min" else max)(limits, default=current)


def _down_limit(current: int, history: History, rules: Object, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = _limits(current, history, rules, -1, now)
    return (max if rules.get("selectPolicy") == "Min" else min)(limits, default=current)


def longest_window(spec: Object, default_seconds: float) -> float:
    """How far back any window or policy of the autoscaler reaches, in seconds."""
    reaches = [default_seconds]
    for rules in (spec.get("behavior") or {}).values():
        reaches.append(rules.get("stabilizationWindowSeconds") or 0)
        reaches += [policy["periodSeconds"] for policy in rules.get("policies") or ()]
    return max(reaches)
