"""Cron schedules: five fields, names, steps, `@daily` and `@every 1h30m`. Pure functions.

The grammar is that of robfig/cron's standard parser, which Kubernetes uses: a day matches both day fields if one of them is a star, else
either. A local time that a change of clocks skips does not happen; one that it repeats happens twice.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

YEARS_AHEAD_MAX = 5
"""A schedule such as 30 February never comes."""

MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
BOUNDS: tuple[tuple[int, int, dict[str, int]], ...] = ((0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, MONTHS), (0, 6, DAYS))
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|μs|ns)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


class ScheduleError(ValueError):
    """The text is no schedule."""


@dataclass(frozen=True)
class Field:
    """The values that match; `is_star` when the field said `*` or `?`."""

    values: frozenset[int]
    is_star: bool


@dataclass(frozen=True)
class Every:
    """`@every`: a fixed delay, at least a second."""

    seconds: int

    def next(self, after: datetime, zone: tzinfo) -> datetime | None:
        return after.replace(microsecond=0) + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Schedule:
    """minute, hour, day of month, month, day of week."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def next(self, after: datetime, zone: tzinfo) -> datetime | None:
        """The first moment (UTC) after `after` at which the zone's clock matches; None if there is none in the next years."""
        local = after.astimezone(zone)
        for day in self._days(local.date()):
            for moment in self._moments(day, zone):
                if moment > after:
                    return moment
        return None

    def _moments(self, day: date, zone: tzinfo) -> Iterable[datetime]:
        times = (time(hour, minute) for hour in sorted(self.hour.values) for minute in sorted(self.minute.values))
        offsets = {datetime.combine(one, time(), zone).utcoffset() for one in (day, day + timedelta(days=1))}
        if len(offsets) == 1:
            return (datetime.combine(day, one, zone).astimezone(UTC) for one in times)
        # The clocks change on this day: some times happen twice, some not at all.
        twice = ((datetime.combine(day, one, zone).replace(fold=fold).astimezone(UTC), one) for one in times for fold in (0, 1))
        return sorted({moment for moment, one in twice if moment.astimezone(zone).time() == one})

    def _days(self, first: date) -> Iterator[date]:
        day, last = first, first + timedelta(days=366 * YEARS_AHEAD_MAX)
        while day <= last:
            if day.month not in self.month.values:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
                continue
            if self._matches_day(day):
                yield day
            day += timedelta(days=1)

    def _matches_day(self, day: date) -> bool:
        in_month, in_week = day.day in self.day.values, day.isoweekday() % 7 in self.weekday.values
        return (in_month and in_week) if self.day.is_star or self.weekday.is_star else (in_month or in_week)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdigit():
        raise ScheduleError(f"failed to parse int from {text}: strconv.Atoi: parsing {text!r}: invalid syntax".replace("'", '"'))
    return int(text)


def _range(text: str, low: int, high: int, names: dict[str, int]) -> tuple[frozenset[int], bool]:
    span, slash, step_text = text.partition("/")
    first_text, dash, last_text = span.partition("-")
    is_star = span in ("*", "?")
    first, last = (low, high) if is_star else (_number(first_text, names), 0)
    if not is_star:
        last = _number(last_text, names) if dash else high if slash else first
    step = _number(step_text, {}) if slash else 1
    if first < low:
        raise ScheduleError(f"beginning of range ({first}) below minimum ({low}): {text}")
    if last > high:
        raise ScheduleError(f"end of range ({last}) above maximum ({high}): {text}")
    if first > last:
        raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")
    return frozenset(range(first, last + 1, step)), is_star and step == 1


def _field(text: str, low: int, high: int, names: dict[str, int]) -> Field:
    values: frozenset[int] = frozenset()
    has_star = False
    for part in filter(None, text.split(",")):
        found, is_star = _range(part, low, high, names)
        values |= found
        has_star |= is_star
    return Field(values, has_star)


def parse(text: str) -> Schedule | Every:
    """The schedule that a CronJob's spec.schedule stands for; ScheduleError with robfig/cron's words."""
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@every "):
        return _every(text)
    if text.startswith("@") and text not in MACROS:
        raise ScheduleError(f"unrecognized descriptor: {text}")
    fields = MACROS.get(text, text).split()
    if len(fields) != len(BOUNDS):
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: {fields}".replace("'", "").replace(",", ""))
    return Schedule(*(_field(part, low, high, names) for part, (low, high, names) in zip(fields, BOUNDS, strict=True)))


def _every(text: str) -> Every:
    duration = text.removeprefix("@every ")
    if duration != "0" and not re.fullmatch(rf"[+-]?(?:{_DURATION.pattern})+", duration):
        raise ScheduleError(f'failed to parse duration {text}: time: invalid duration "{duration}"')
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(duration))
    return Every(1 if duration.startswith("-") else max(int(seconds), 1))
