"""How every service process starts and ends: flags, logs, event loop, signals, readiness, expected failures.

`main` is the body of `services/<name>/__main__.py`; `run` is the same for a process forked from a warm parent.
Two file descriptors tie a process to its supervisor: to `--notify-fd` it writes one JSON line when it serves (or why it cannot);
when the other end of `--lifeline-fd` closes, the supervisor is gone and the process ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson
import uvloop

from kubecosm.runtime import flags, logs
from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import EXIT_CRASH, EXIT_STARTUP_ERROR, FlagError, StartupError, find_startup_error, innermost
from kubecosm.runtime.garbage import QuietCollector

ConfigT = TypeVar("ConfigT")
ConfigT_contra = TypeVar("ConfigT_contra", contravariant=True)


@dataclass(frozen=True)
class ReadyInfo:
    """What a service tells once it serves: its ports by name (`secure`, `metrics`, `dns`, …)."""

    ports: Mapping[str, int] = field(default_factory=dict)


class Serve(Protocol[ConfigT_contra]):
    """`services/<name>/app.py: serve`. Runs until `stop` is set, calls `on_ready` once when it serves, raises StartupError."""

    def __call__(
        self, config: ConfigT_contra, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]
    ) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True)
class ProcessOptions:
    """Flags that every service process has besides its own."""

    logging_format: logs.Format = field(default="auto", metadata={"help": "JSON lines or readable text; auto: text in a terminal"})
    log_level: logs.Level = field(default="info", metadata={"help": "the lowest level that is logged"})
    notify_fd: int = field(default=-1, metadata={"help": "file descriptor for the readiness line", "hidden": True})
    lifeline_fd: int = field(default=-1, metadata={"help": "file descriptor whose closing ends the process", "hidden": True})


def main(name: str, config_type: type[ConfigT], serve: Serve[ConfigT]) -> None:
    """The whole life of a service process; ends in sys.exit (0 stopped, 1 expected failure, 70 unexpected one)."""
    sys.exit(run(name, config_type, serve, sys.argv[1:], os.environ))


def run(name: str, config_type: type[ConfigT], serve: Serve[ConfigT], argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Like `main` with explicit arguments; answers the exit code. Call it once per process, on the main thread."""
    try:
        config, options = flags.parse_all((config_type, ProcessOptions), argv, environ, program=name)
    except flags.HelpRequested as help_requested:
        _print(str(help_requested))
        return 0
    except FlagError as error:
        return _fail(name, error, Notifier(_notify_fd_of(argv)))
    clock, notifier = RealClock(), Notifier(options.notify_fd)
    logs.configure(name, clock, level=options.log_level, log_format=options.logging_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_supervised(serve, config, clock, notifier, options.lifeline_fd))
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  the border of the process: everything is told, nothing escapes
        expected = find_startup_error(error)
        if expected is not None:
            return _fail(name, expected, notifier)
        return _crash(name, error, notifier)
    return 0


def _print(text: str) -> None:
    """Writes to stdout, whose reader may have read enough (`--help | head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it ends


def run_by_name(name: str, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`run` for the service in `kubecosm.services.<name>`: what a warm parent calls in a forked child."""
    try:
        config = importlib.import_module(f"kubecosm.services.{name}.config")
        app = importlib.import_module(f"kubecosm.services.{name}.app")
    except ImportError as error:
        return _fail(name, StartupError(f"cannot load the service {name}: {error}; install kubecosm again"), Notifier(_notify_fd_of(argv)))
    return run(name, config.Config, app.serve, argv, environ)


async def _supervised(serve: Serve[ConfigT], config: ConfigT, clock: Clock, notifier: Notifier, lifeline_fd: int) -> None:
    loop = asyncio.get_running_loop()
    QuietCollector(loop).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_once, stop, number)
    if lifeline_fd >= 0:
        loop.add_reader(lifeline_fd, _end_with_supervisor, lifeline_fd)

    def on_ready(info: ReadyInfo) -> None:
        notifier.tell({"ready": True, "ports": dict(info.ports)})

    await serve(config, clock=clock, stop=stop, on_ready=on_ready)


def _stop_once(stop: asyncio.Event, number: int) -> None:
    """The first signal asks for a clean stop, the second insists."""
    if stop.is_set():
        os._exit(128 + number)
    stop.set()


def _end_with_supervisor(lifeline_fd: int) -> None:
    if not os.read(lifeline_fd, 1):
        os._exit(EXIT_STARTUP_ERROR)


class Notifier:
    """Writes one JSON line to the supervisor, once; does nothing without a supervisor or when it is gone."""

    def __init__(self, notify_fd: int) -> None:
        self._fd = notify_fd

    def tell(self, message: Mapping[str, Any]) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with contextlib.suppress(OSError):
            os.write(fd, orjson.dumps(message) + b"\n")
        with contextlib.suppress(OSError):
            os.close(fd)


def _notify_fd_of(argv: Sequence[str]) -> int:
    """The notify descriptor of a command line whose other flags could not be parsed; -1 if none."""
    text = next((argument.partition("=")[2] for argument in argv if argument.startswith("--notify-fd=")), "")
    return int(text) if text.isdigit() else -1


def _fail(name: str, error: StartupError, notifier: Notifier) -> int:
    print(f"{name}: {error.message}", file=sys.stderr, flush=True)
    notifier.tell({"ready": False, "error": error.message})
    return EXIT_STARTUP_ERROR


def _crash(name: str, error: BaseException, notifier: Notifier) -> int:
    """An error nobody foresaw: the log keeps the traceback, the supervisor gets one line."""
    cause = innermost(error)
    summary = f"{type(cause).__name__}: {cause}"
    logs.get_logger(name).error("crashed", error=summary, exc_info=error)
    notifier.tell({"ready": False, "error": f"{name} crashed ({summary}); its log has the details"})
    return EXIT_CRASH
