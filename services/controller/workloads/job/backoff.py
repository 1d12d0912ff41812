"""How long a Job waits before it replaces a failed pod: by its failures since the last success, or by those of one index. Pure functions.

Imitates pkg/controller/job/backoff_utils.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ...common.pods import created_at

BACKOFF_SECONDS_FIRST = 10.0
BACKOFF_SECONDS_MAX = 600.0
DOUBLINGS_MAX = 16
"""Beyond these the wait is at its longest anyway."""


class Record(NamedTuple):
    """The failures since the last success, and when the last of them was. It outlives the pods it was made of."""

    failures: int = 0
    last: datetime | None = None


def plan_record(record: Record, succeeded: Iterable[Object], failed: Iterable[Object]) -> Record:
    """The record after these pods ended too; a success forgets every failure that was not after it."""
    ends = [end for end in map(finished_at, failed) if end is not None]
    last_success = max((end for end in map(finished_at, succeeded) if end is not None), default=None)
    if last_success is not None:
        record, ends = Record(), [end for end in ends if end > last_success]
    return Record(record.failures + len(ends), max(ends)) if ends else record


def seconds_to_wait(record: Record, now: datetime) -> float:
    """What is left of the wait: 10 s after the first failure, doubling with each, at most 10 minutes."""
    if not record.failures or record.last is None:
        return 0.0
    wait = min(BACKOFF_SECONDS_FIRST * 2.0 ** min(record.failures - 1, DOUBLINGS_MAX), BACKOFF_SECONDS_MAX)
    return max(wait - (now - record.last).total_seconds(), 0.0)


def finished_at(pod: Object) -> datetime | None:
    """When all containers had ended; else when the pod stopped being ready, was told to go, or (nothing else is known) was made."""
    ends: list[str] = [
        ((container.get("state") or {}).get("terminated") or {}).get("finishedAt", "")
        for container in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    if ends and all(ends):
        return max(parse_time(end) for end in ends)
    ready = get_condition(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    meta = pod["metadata"]
    if meta.get("deletionTimestamp"):
        return parse_time(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    return created_at(pod)
