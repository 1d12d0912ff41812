"""The supervisor's own log: the same JSON lines as the components', without their libraries (the supervisor stays small)."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from kubecosm.api.times import format_micro_time
from kubecosm.runtime.clock import RealClock

_CLOCK = RealClock()


def write(event: str, *, level: str = "info", **keys: Any) -> None:
    """One line on stderr."""
    line = {"ts": format_micro_time(_CLOCK.now()), "level": level, "component": "supervisor", "event": event, **keys}
    with contextlib.suppress(OSError):  # a full disk silences the log, it must not end the cluster
        print(json.dumps(line), file=sys.stderr, flush=True)
