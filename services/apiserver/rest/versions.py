"""Resources that are served in several versions: which one is stored, and how to get from one to the other.

Most versions differ in their name alone; the others have a converter. Converters take and return fresh dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson

from kubecosm.api.resources import EVENTS, EVENTS_V1, Object, Resource, builtin

from ..cache.view import AS_STORED, View
from . import autoscaling, devices

Convert = Callable[[Object], Object]

ALIASES = {("events.k8s.io", "events"): ("", "events")}
"""(group, plural) → the one under which its objects are stored."""
STORED_VERSION = {("autoscaling", "horizontalpodautoscalers"): "v2"}
"""Where it is not the first one served."""


@dataclass(frozen=True)
class Conversion:
    """Between a served row and the stored one."""

    stored: Resource
    to_stored: Convert
    from_stored: Convert
    view: View


def _same(obj: Object) -> Object:
    return obj


def stored_rows(rows: Iterable[Resource]) -> dict[tuple[str, str], Resource]:
    """(group, plural) → the row whose version is stored, for every resource that has objects."""
    found: dict[tuple[str, str], Resource] = {}
    for row in rows:
        key = (row.group, row.plural)
        if key not in ALIASES and (key not in found or STORED_VERSION.get(key) == row.version):
            found[key] = row
    for alias, target in ALIASES.items():
        if target in found:
            found[alias] = found[target]
    return found


def conversion_between(row: Resource, stored: Resource) -> Conversion:
    if row == stored:
        return Conversion(stored, _same, _same, AS_STORED)
    special = _SPECIAL.get(row)
    if special is not None:
        to_stored, from_stored = special
    else:
        to_stored, from_stored = _renamer(stored.api_version), _renamer(row.api_version)

    def render(data: bytes) -> bytes:
        return orjson.dumps(from_stored(orjson.loads(data)))

    return Conversion(stored, to_stored, from_stored, View(row.api_version, render))


def _renamer(api_version: str) -> Convert:
    def rename(obj: Object) -> Object:
        return {**obj, "apiVersion": api_version}

    return rename


_EVENT_NAMES = {
    "regarding": "involvedObject", "note": "message", "deprecatedSource": "source", "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp", "deprecatedCount": "count", "reportingController": "reportingComponent",
}  # fmt: skip
_EVENT_NAMES_BACK = {core: new for new, core in _EVENT_NAMES.items()}


def _event_to_core(obj: Object) -> Object:
    return {**{_EVENT_NAMES.get(name, name): value for name, value in obj.items()}, "apiVersion": EVENTS.api_version}


def _event_from_core(obj: Object) -> Object:
    return {**{_EVENT_NAMES_BACK.get(name, name): value for name, value in obj.items()}, "apiVersion": EVENTS_V1.api_version}


_SPECIAL: dict[Resource, tuple[Convert, Convert]] = {
    EVENTS_V1: (_event_to_core, _event_from_core),
    builtin("autoscaling", "v1", "horizontalpodautoscalers"): (autoscaling.to_v2, autoscaling.from_v2),
    **{builtin("resource.k8s.io", "v1beta1", plural): pair for plural, pair in devices.CONVERSIONS.items()},
}
