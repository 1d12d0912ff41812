"""`date`: tells the time, in any form, of now or of what `-d` describes. Leaves out most of GNU's relative words, and setting the clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ..process import Process, Program, UsageError, split_options

DEFAULT_FORM = "%a %b %e %H:%M:%S UTC %Y"
MAIL_FORM = "%a, %d %b %Y %H:%M:%S +0000"
ISO_FORMS = {
    "": "%Y-%m-%d", "date": "%Y-%m-%d", "hours": "%Y-%m-%dT%H+00:00", "minutes": "%Y-%m-%dT%H:%M+00:00",
    "seconds": "%Y-%m-%dT%H:%M:%S+00:00", "ns": "%Y-%m-%dT%H:%M:%S,%N+00:00",
}  # fmt: skip
WORDS = {"now": 0, "today": 0, "yesterday": -1, "tomorrow": 1}
RELATIVE = re.compile(r"([+-]?\d+) ?(second|sec|minute|min|hour|day|week)s?( ago)?")
UNIT_SECONDS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86400, "week": 604800}


def described(text: str, now: datetime) -> datetime:
    """The time that `-d` describes: `@seconds`, an ISO date or time, a word, `5 minutes ago`. UsageError if it is none."""
    plain = text.strip().lower()
    try:
        if plain.startswith("@"):
            return datetime.fromtimestamp(float(plain[1:]), UTC)
        if plain in WORDS:
            return now + timedelta(days=WORDS[plain])
        if found := RELATIVE.fullmatch(plain):
            return now + timedelta(seconds=int(found[1]) * UNIT_SECONDS[found[2]] * (-1 if found[3] else 1))
        stated = datetime.fromisoformat(text.strip().upper())
    except (ValueError, OverflowError, OSError) as failure:
        raise UsageError(f"invalid date '{text}'", 1) from failure
    return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)


async def date(process: Process, args: list[str]) -> int:
    options, rest = split_options([f"--iso-8601={arg[2:]}" if arg.startswith("-I") else arg for arg in args], "uR", "dr")
    now = process.machine.clock.now()
    moment = options.get("d", options.get("--date"))
    if moment is not None:
        now = described(moment, now)
    form = MAIL_FORM if "R" in options else ISO_FORMS.get(options.get("--iso-8601", "none"), DEFAULT_FORM)
    for word in rest:
        if not word.startswith("+"):
            raise UsageError(f"invalid date '{word}'", 1)
        form = word[1:]
    text = now.strftime(form.replace("%N", f"{now.microsecond * 1000:09d}").replace("%s", str(int(now.timestamp()))))
    await process.out(text + "\n")
    return 0


PROGRAMS: dict[str, Program] = {"date": date}
