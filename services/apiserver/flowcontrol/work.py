"""How many seats a request takes: lists by what they must go through, writes by who watches.

Imitates apiserver/pkg/util/flowcontrol/request (list_work_estimator.go, mutating_work_estimator.go).
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from ..cache.caches import Caches
from ..http.info import PathInfo
from ..http.request import Request
from .level import Level

SEATS_MAX = 10
SEATS_PERCENT_OF_LEVEL = 0.15
"""No request is thought wider than this share of its level's nominal seats."""
OBJECTS_PER_SEAT = 100
WATCHES_PER_SEAT = 10
EVENT_SECONDS = 0.005
"""What one seat is kept busy with for the watchers of an event."""


class Work(NamedTuple):
    """Seats while it runs, and seats that stay taken for so long after the answer."""

    seats: int
    final_seats: int = 0
    linger_seconds: float = 0.0


ONE = Work(1)


def estimate(request: Request, level: Level, caches: Caches) -> Work:
    """The width of a request of a limited level."""
    verb, info = request.verb, request.info
    if not info.is_resource:
        return ONE
    if verb in ("list", "watch"):
        return _of_list(request, level, caches, info)
    if verb in ("get", "proxy", "head") or (info.subresource == "token" and info.resource == "serviceaccounts"):
        return ONE
    cache = caches.find(info.group, info.resource)
    if cache is None:
        return ONE
    return work_of_write(cache.watches.interested(info.namespace, info.name), seats_max(level))


def seats_max(level: Level) -> int:
    return max(1, min(SEATS_MAX, ceil(level.bounds.nominal * SEATS_PERCENT_OF_LEVEL)))


def work_of_write(watchers: int, widest: int) -> Work:
    """Few watchers cost nothing; many keep seats for a while after the answer."""
    if watchers < WATCHES_PER_SEAT:
        return ONE
    final = ceil(watchers / WATCHES_PER_SEAT)
    seats = min(final, widest)
    return Work(max(1, seats), seats, final * EVENT_SECONDS / seats)


def _of_list(request: Request, level: Level, caches: Caches, info: PathInfo) -> Work:
    cache = caches.find(info.group, info.resource)
    if cache is None:
        return ONE
    count = len(cache)
    if count <= OBJECTS_PER_SEAT or not sends_objects(request):
        return ONE
    limit = request.param("limit")
    wanted = int(limit) if limit.isdecimal() and int(limit) else count
    selects = bool(request.param("labelSelector") or request.param("fieldSelector"))
    objects = count if selects else min(wanted, count)
    return Work(max(1, min(ceil(objects / OBJECTS_PER_SEAT), seats_max(level))))


def sends_objects(request: Request) -> bool:
    """A list does; a watch only if it begins with the present state."""
    if request.verb == "list":
        return True
    return request.param("sendInitialEvents") == "true" or request.param("resourceVersion") in ("", "0")
