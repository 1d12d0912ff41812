"""Which taints a pod tolerates. Imitates k8s.io/component-helpers/scheduling/corev1."""

from __future__ import annotations

from collections.abc import Iterable

from .nodes import NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE, Taint
from .podinfo import Toleration


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether any toleration matches the taint; one without key matches any key, one without effect any effect."""
    for key, operator, value, effect in tolerations:
        if effect and effect != taint.effect:
            continue
        if key and key != taint.key:
            continue
        if operator == "Exists" or (operator == "Equal" and value == taint.value):
            return True
    return False


def untolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> Taint | None:
    """The first taint that keeps the pod away (NoSchedule or NoExecute), None if there is none."""
    chosen = tuple(tolerations)
    for taint in taints:
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not tolerates(chosen, taint):
            return taint
    return None


def count_unpreferred(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> int:
    """How many PreferNoSchedule taints the pod does not tolerate."""
    chosen = tuple(t for t in tolerations if t.effect in ("", PREFER_NO_SCHEDULE))
    return sum(taint.effect == PREFER_NO_SCHEDULE and not tolerates(chosen, taint) for taint in taints)
