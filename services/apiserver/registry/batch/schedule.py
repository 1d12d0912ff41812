"""Cron expressions: the complaints of the parser that Kubernetes uses (robfig/cron ParseStandard), without computing any times."""

from __future__ import annotations

import re

_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
"""Least and greatest value of minute, hour, day of month, month, day of week."""
_MONTHS = {name: i for i, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}
_DAYS = {name: i for i, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_NAMES: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
_DESCRIPTORS = frozenset(("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"))
_DURATION = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*")


class ScheduleError(ValueError):
    """The expression is malformed; the message is the parser's."""


def schedule_complaint(text: str) -> str:
    """What is wrong with a cron expression; empty if nothing."""
    try:
        _parse(text)
    except ScheduleError as error:
        return str(error)
    return ""


def _parse(text: str) -> None:
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if text.startswith("@"):
        _parse_descriptor(text)
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, (low, high), names in zip(fields, _FIELDS, _NAMES, strict=True):
        for part in field.split(","):
            if part:
                _parse_range(part, low, high, names)


def _parse_descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if text.startswith("@every "):
        duration = text.removeprefix("@every ")
        if duration != "0" and not _DURATION.fullmatch(duration):
            raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{duration}"')
        return
    raise ScheduleError(f"unrecognized descriptor: {text}")


def _parse_range(text: str, low: int, high: int, names: dict[str, int]) -> None:
    parts = text.split("/")
    bounds = parts[0].split("-")
    if bounds[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(bounds[0], names)
        if len(bounds) > 2:
            raise ScheduleError(f"too many hyphens: {text}")
        end = _number(bounds[1], names) if len(bounds) == 2 else start
    step = 1
    if len(parts) == 2:
        step = _number(parts[1], {})
        if len(bounds) == 1 and bounds[0] not in ("*", "?"):
            end = high
    elif len(parts) > 2:
        raise ScheduleError(f"too many slashes: {text}")
    if start < low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ScheduleError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise ScheduleError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
