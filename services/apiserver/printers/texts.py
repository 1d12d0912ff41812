"""How cells are worded: ages, lists, labels, selectors. Imitates apimachinery's duration, labels and metav1 formatting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.api.selectors import SelectorError, from_label_selector
from kubecosm.api.times import parse_time

NONE, UNKNOWN, UNSET = "<none>", "<unknown>", "<unset>"
SHOWN_MAX = 3
"""Entries of a long list that a cell shows before `+ 2 more...`."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def human_duration(span: timedelta) -> str:
    """`85s`, `3m20s`, `5h`, `2d3h`, `400d`: at most two units, coarser as it gets longer. Imitates duration.HumanDuration."""
    seconds = int(span.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    if seconds < 10 * _MINUTE:
        return _two_units(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two_units(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two_units(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two_units(seconds, _YEAR, "y", _DAY, "d")
    return f"{seconds // _YEAR}y"


def _two_units(seconds: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = seconds % big // small
    return f"{seconds // big}{big_name}{rest}{small_name}" if rest else f"{seconds // big}{big_name}"


def since(timestamp: str | None, now: datetime) -> str:
    """The time that has passed since a timestamp; `<unknown>` without one."""
    return human_duration(now.astimezone(UTC) - parse_time(timestamp)) if timestamp else UNKNOWN


def age(obj: Object, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def name_of(obj: Object) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` in order of keys, or `<none>`."""
    return ",".join([f"{key}={value}" for key, value in sorted(labels.items())]) if labels else NONE


def selector_text(selector: Object | None) -> str:
    """A metav1.LabelSelector as a selector is written, or `<none>`."""
    try:
        return str(from_label_selector(selector)) or NONE
    except SelectorError:
        return "<error>"


def containers_and_images(template: Object | None) -> tuple[str, str]:
    """Names and images of a pod template's containers, each joined by commas."""
    containers = ((template or {}).get("spec") or {}).get("containers") or ()
    return ",".join([c.get("name", "") for c in containers]), ",".join([c.get("image", "") for c in containers])


def shortened(entries: Iterable[str]) -> str:
    """The first entries of a list and how many more there are, or `<unset>`."""
    listed = list(entries)
    text = ",".join(listed[:SHOWN_MAX])
    if len(listed) > SHOWN_MAX:
        return f"{text} + {len(listed) - SHOWN_MAX} more..."
    return text or UNSET


def true_false(value: bool) -> str:
    return "True" if value else "False"


def condition(obj: Object, name: str) -> Object | None:
    """The condition of that type in the object's status."""
    conditions: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == name), None)


def part(obj: Mapping[str, Any], *path: str) -> Any:
    """The value at a path, None if any step of it is absent."""
    value: Any = obj
    for step in path:
        if not value:
            return None
        value = value.get(step)
    return value
