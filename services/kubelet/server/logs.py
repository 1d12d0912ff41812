"""/containerLogs: from the query of a request to log options, and the refusals a kubelet words."""

from __future__ import annotations

from datetime import datetime, timedelta

from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ..cri.logs import LogOptions
from ..cri.types import PodStatus


class BadOptions(ValueError):
    """422 or 400: the message is for the client."""


def parse_options(query: list[tuple[str, str]], now: datetime) -> LogOptions:
    """LogOptions of a request; BadOptions if a value is malformed."""
    values = dict(query)
    since: datetime | None = None
    if values.get("sinceSeconds"):
        since = now - timedelta(seconds=_number(values, "sinceSeconds") or 0)
    elif values.get("sinceTime"):
        try:
            since = parse_time(values["sinceTime"])
        except ValueError as failure:
            raise BadOptions(f"invalid sinceTime: {failure}") from failure
    tail = _number(values, "tailLines")
    if tail is None and values.get("tail") not in (None, "", "all"):
        tail = _number(values, "tail")
    return LogOptions(
        follow=_flag(values, "follow"), previous=_flag(values, "previous"), timestamps=_flag(values, "timestamps"), tail_lines=tail,
        limit_bytes=_number(values, "limitBytes"), since=since, stream=values.get("stream") or "All",
    )  # fmt: skip


def _flag(values: dict[str, str], name: str) -> bool:
    return values.get(name, "").lower() in ("true", "1")


def _number(values: dict[str, str], name: str) -> int | None:
    text = values.get(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError as failure:
        raise BadOptions(f"invalid {name}: {text!r} is not a number") from failure
    if number < 0:
        raise BadOptions(f"invalid {name}: must not be negative")
    return number


def container_id_for(pod: Object, status: PodStatus | None, name: str, *, previous: bool) -> str:
    """The id of the container whose log is meant; BadOptions with the kubelet's words if there is none (validateContainerLogStatus)."""
    pod_name = pod["metadata"]["name"]
    specs = [s for key in ("initContainers", "containers", "ephemeralContainers") for s in pod["spec"].get(key) or ()]
    if all(spec["name"] != name for spec in specs):
        raise BadOptions(f'container "{name}" not found in pod "{pod_name}"')
    current = status.containers.get(name) if status is not None else None
    if previous:
        if status is None or current is None or name not in status.previous:
            raise BadOptions(f'previous terminated container "{name}" in pod "{pod_name}" not found')
        return current.container_id
    if current is None:
        reason = waiting_reason(pod, name)
        raise BadOptions(f'container "{name}" in pod "{pod_name}" is waiting to start: {reason}')
    return current.container_id


def waiting_reason(pod: Object, name: str) -> str:
    """What the pod's status says about a container that has not started."""
    reported = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in reported.get(key) or ():
            waiting = entry["state"].get("waiting")
            if entry["name"] == name and waiting:
                return str(waiting.get("message") or waiting.get("reason"))
    return "ContainerCreating"
