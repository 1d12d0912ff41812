"""Structured logs: one JSON object a line on stderr, or readable lines when stderr is a terminal.

Keys every component uses: `ts`, `level`, `event` (the message), `component`, `request_id`, and `object` for an object reference
(`object_ref(obj)`). A call below the configured level costs about a microsecond and formats nothing.
Left out: log files and rotation; the supervisor points stderr at a file.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, Literal, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from kubecosm.api.resources import Object
from kubecosm.api.times import format_micro_time
from kubecosm.runtime.clock import Clock

Format = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

QUIET_LIBRARIES = {"asyncio": logging.WARNING, "aiohttp": logging.WARNING}
"""Python loggers of libraries and the level from which their lines join ours."""


def get_logger(component: str, **context: Any) -> FilteringBoundLogger:
    """A logger whose lines carry `component` and `context`. May be made at import time: it takes the configuration at first use."""
    return cast(FilteringBoundLogger, structlog.get_logger(component=component, **context))


def object_ref(obj: Object) -> str:
    """`Pod default/web-0`: how log lines name an object, under the key `object`."""
    meta = obj.get("metadata") or {}
    namespace = meta.get("namespace")
    name = meta.get("name") or meta.get("generateName") or ""
    return f"{obj.get('kind', '')} {namespace + '/' if namespace else ''}{name}".strip()


def configure(component: str, clock: Clock, *, level: Level = "info", log_format: Format = "auto") -> None:
    """Sets up the process's logs. Called once, before the first line; library loggers (aiohttp, asyncio) join in."""
    text = sys.stderr.isatty() if log_format == "auto" else log_format == "text"

    def add_timestamp(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
        event_dict["ts"] = format_micro_time(clock.now())
        return event_dict

    def add_component(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
        event_dict.setdefault("component", component)  # the library's own loggers do not know whose process they are in
        return event_dict

    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, add_timestamp, add_component]
    processors: list[Processor]
    if text:
        processors = [*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="ts", pad_event_to=40)]
    else:
        processors = [*shared, structlog.processors.format_exc_info, _put_first, structlog.processors.JSONRenderer(serializer=_to_json)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_args: _Writer(),
        cache_logger_on_first_use=True,
    )
    _adopt_library_loggers(component)


class _Writer:
    """Writes finished lines to stderr. A log that cannot be written (full disk) is lost; the process goes on."""

    def msg(self, line: str | bytes) -> None:
        data = line.encode(errors="replace") if isinstance(line, str) else line
        with contextlib.suppress(OSError):
            sys.stderr.buffer.write(data + b"\n")
            sys.stderr.buffer.flush()

    debug = info = warning = error = critical = exception = fatal = log = msg


class _Adopt(logging.Handler):
    """Sends the lines of Python's own loggers through ours."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self.log = get_logger(component)

    def emit(self, record: logging.LogRecord) -> None:
        self.log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _adopt_library_loggers(component: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopt(component)]
    root.setLevel(logging.WARNING)
    for name, level in QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(level)


def _put_first(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
    """ts, level, component and event lead the line, so that eyes and `sort` find them."""
    first = {key: event_dict.pop(key) for key in ("ts", "level", "component", "event") if key in event_dict}
    return {**first, **event_dict}


def _to_json(event_dict: EventDict, default: Any = str, **_kwargs: Any) -> bytes:
    return orjson.dumps(event_dict, default=str)
