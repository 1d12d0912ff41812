"""When the change happened that endpoints are written for: what the trigger-time annotation tells, to measure how long it takes.

Imitates k8s.io/endpointslice/util's TriggerTimeTracker.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubecosm.api.meta import Key, get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time


class TriggerTimes:
    """Remembers for each Service what was known at its last sync."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, datetime]] = {}

    def changed(self, key: Key, service: Object, pods: Iterable[Object]) -> datetime | None:
        """The oldest change since the last sync; the creation of a Service that is new here; None if nothing changed."""
        created = parse_time(service["metadata"]["creationTimestamp"]) if service["metadata"].get("creationTimestamp") else None
        moments = {} if created is None else {"": created}
        for pod in pods:
            ready = get_condition(pod, "Ready") or {}
            if ready.get("lastTransitionTime"):
                moments[pod["metadata"]["name"]] = parse_time(ready["lastTransitionTime"])
        before = self._known.get(key)
        self._known[key] = moments
        if before is None:
            return created
        return min((moment for name, moment in moments.items() if name not in before or moment > before[name]), default=None)

    def forget(self, key: Key) -> None:
        """The Service is gone."""
        self._known.pop(key, None)
