"""Predicates on pods: active, ready, available; and which pod a scale-down deletes first.

Imitates k8s.io/kubernetes/pkg/api/v1/pod/util.go and pkg/controller/controller_utils.go (ActivePodsWithRanks).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cmp_to_key

from kubecosm.api.meta import annotations_of, get_condition, is_controlled_by, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_POD_DELETION_COST
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}
"""How far a pod has come: a scale-down begins with those that have come least far."""


def phase_of(pod: Object) -> str:
    """`Pending` for a pod that has no status yet."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def node_of(pod: Object) -> str:
    """The node's name, or an empty string while the pod is unscheduled."""
    return (pod.get("spec") or {}).get("nodeName") or ""


def is_terminal(pod: Object) -> bool:
    """The pod ran to its end, well or badly."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither ended nor on its way out."""
    return not is_deleting(pod) and not is_terminal(pod)


def is_terminating(pod: Object) -> bool:
    """Marked for deletion but not ended yet: what status.terminatingReplicas counts."""
    return is_deleting(pod) and not is_terminal(pod)


def ready_condition(pod: Object) -> Object | None:
    return get_condition(pod, "Ready")


def is_ready(pod: Object) -> bool:
    condition = get_condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def ready_since(pod: Object) -> datetime | None:
    """When the pod last became ready; None if it is not ready or the time is unknown."""
    condition = get_condition(pod, "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return parse_time(condition["lastTransitionTime"])


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    """Ready for at least `min_ready_seconds`."""
    if not is_ready(pod):
        return False
    if min_ready_seconds == 0:
        return True
    since = ready_since(pod)
    return since is not None and since + timedelta(seconds=min_ready_seconds) <= now


def seconds_until_available(pods: Iterable[Object], min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the next ready but not yet available pod becomes available; None if time alone changes nothing."""
    if min_ready_seconds <= 0:
        return None
    waits = [(since - now).total_seconds() + min_ready_seconds for since in (ready_since(pod) for pod in pods) if since is not None]
    waits = [wait for wait in waits if wait > 0]
    return min(waits) if waits else None


def deletion_cost(pod: Object) -> int:
    """The pod-deletion-cost annotation; 0 where it is absent or not an int32 in canonical form."""
    text = annotations_of(pod).get(ANNOTATION_POD_DELETION_COST)
    if not text:
        return 0
    try:
        cost = int(text)
    except ValueError:
        return 0
    return cost if str(cost) == text and -(2**31) <= cost < 2**31 else 0


def restarts(pod: Object) -> tuple[int, int]:
    """Largest restart count of the containers and of the restartable init containers (sidecars)."""
    status = pod.get("status") or {}
    sidecars = {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    regular = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or ()), default=0)
    sidecar = max((c.get("restartCount", 0) for c in status.get("initContainerStatuses") or () if c["name"] in sidecars), default=0)
    return regular, sidecar


def created_at(obj: Object) -> datetime | None:
    stamp = obj["metadata"].get("creationTimestamp")
    return parse_time(stamp) if stamp else None


def _log_rank(moment: datetime, now: datetime) -> int:
    nanoseconds = (now - moment).total_seconds() * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds > 0 else -1


def _compare_ages(a: datetime | None, b: datetime | None, pod_a: Object, pod_b: Object, now: datetime) -> int:
    """Younger first on a logarithmic scale, so that scale-down is spread at random over pods of like age."""
    if a is None or b is None:
        return (a is not None) - (b is not None)
    difference = _log_rank(a, now) - _log_rank(b, now)
    if difference:
        return difference
    return -1 if uid_of(pod_a) < uid_of(pod_b) else 1


def _compare_for_deletion(a: Object, b: Object, rank: Counter[str], now: datetime) -> int:
    for first, second in (
        (bool(node_of(a)), bool(node_of(b))),
        (PHASE_RANK.get(phase_of(a), 0), PHASE_RANK.get(phase_of(b), 0)),
        (is_ready(a), is_ready(b)),
        (deletion_cost(a), deletion_cost(b)),
        (-rank[node_of(a)], -rank[node_of(b)]),
    ):
        if first != second:
            return -1 if first < second else 1
    if is_ready(a) and is_ready(b) and (ready_since(a) != ready_since(b)):
        return _compare_ages(ready_since(a), ready_since(b), a, b, now)
    for count_a, count_b in zip(restarts(a), restarts(b), strict=True):
        if count_a != count_b:
            return -1 if count_a > count_b else 1
    if created_at(a) != created_at(b):
        return _compare_ages(created_at(a), created_at(b), a, b, now)
    return 0


def rank_for_deletion(pods: Sequence[Object], related: Iterable[Object], now: datetime) -> list[Object]:
    """Pods in the order a scale-down deletes them.

    Unassigned before assigned; Pending before Unknown before Running; not ready before ready; lower deletion cost; on the nodes with
    most `related` active pods; ready for a shorter time; more restarts; younger.
    """
    rank = Counter(node_of(pod) for pod in related if is_active(pod))

    def compare(a: Object, b: Object) -> int:
        return _compare_for_deletion(a, b, rank, now)

    return sorted(pods, key=cmp_to_key(compare))


def select_controlled(pods: Iterable[Object], owner: Object) -> list[Object]:
    return [pod for pod in pods if is_controlled_by(pod, owner)]


INDEX_NODE = "node"
"""Pods by the node they are bound to."""


def node_names(pod: Object) -> tuple[str, ...]:
    """The index function behind INDEX_NODE."""
    name = node_of(pod)
    return (name,) if name else ()
