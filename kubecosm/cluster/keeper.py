"""Keeps one component running: start, wait until it serves, start again when it ends, with back-off; pause and resume on request."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from kubecosm.cluster import journal
from kubecosm.cluster.components import ProcessSpec
from kubecosm.cluster.processes import Process, Zygote
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError

RESTART_DELAY_SECONDS_FIRST = 0.1
RESTART_DELAY_SECONDS_MAX = 5.0
LIVED_WELL_SECONDS = 1.0
"""Whoever served this long is restarted at once; sooner deaths in a row wait 0.1, 0.2, 0.4, … 5 s."""
TERMINATE_SECONDS_MAX = 1.0
RESTART_SECONDS_MAX = 8.0
"""How long `restart` waits for the component to serve again; less than its caller waits for the answer."""


class State(StrEnum):
    WAITING = "Waiting"  # for the components it needs
    STARTING = "Starting"
    RUNNING = "Running"
    PAUSED = "Paused"
    BACK_OFF = "BackOff"
    STOPPED = "Stopped"


def restart_delay(early_deaths: int) -> float:
    """Seconds to wait before the next start after so many early deaths in a row."""
    if early_deaths == 0:
        return 0.0
    return min(RESTART_DELAY_SECONDS_FIRST * 2.0 ** min(early_deaths - 1, 16), RESTART_DELAY_SECONDS_MAX)


class Keeper:
    """One component's life. `on_change` is called after each change of what `status` shows."""

    def __init__(self, spec: ProcessSpec, zygote: Zygote, clock: Clock, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.restarts = 0
        self.ports: Mapping[str, int] = {}
        self.last_error = ""
        self.serving = asyncio.Event()
        self.failed_to_start: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._zygote, self._clock, self._on_change = zygote, clock, on_change
        self._process: Process | None = None
        self._since = clock.monotonic()
        self._stopping = asyncio.Event()
        self._restarting = False

    @property
    def name(self) -> str:
        return self.spec.component

    async def keep_running(self) -> None:
        """Runs until `stop`. The first start's failure resolves `failed_to_start`; later ones are tried again."""
        early_deaths = 0
        while not self._stopping.is_set():
            served_at = await self._run_once()
            if self._stopping.is_set():
                return
            lived = self._clock.monotonic() - served_at if served_at is not None else 0.0
            early_deaths = 0 if lived >= LIVED_WELL_SECONDS or self._restarting else early_deaths + 1
            self._restarting = False
            self.restarts += 1
            if delay := restart_delay(early_deaths):
                self._change(State.BACK_OFF)
                await self._sleep(delay)

    async def _run_once(self) -> float | None:
        """One start to its end; answers when it began to serve, None if it never did."""
        self._change(State.STARTING)
        try:
            process = self._process = await self._zygote.spawn(self.spec)
        except (StartupError, OSError) as error:
            self._fail(str(error))
            return None
        if self._stopping.is_set():  # asked to stop while the process was being made
            self._zygote.signal(process, signal.SIGKILL)
        journal.write("started", process=self.name, pid=process.pid)
        notice = await process.ready
        served_at = None
        if notice is not None and notice["ready"]:
            served_at = self._clock.monotonic()
            self.ports = notice["ports"]
            self.serving.set()
            if self.state is State.STARTING:
                self._change(State.RUNNING)
        code = await process.exited
        self._process = None
        self.serving.clear()
        if not self._stopping.is_set():
            why = (notice or {}).get("error") or ("restart was asked for" if self._restarting else describe_exit(code))
            self._fail(why, started=served_at is not None)
        return served_at

    def _fail(self, why: str, *, started: bool = False) -> None:
        self.last_error = why
        journal.write("ended", level="warning", process=self.name, reason=why)
        if not started and not self.failed_to_start.done():
            self.failed_to_start.set_result(why)

    async def _sleep(self, seconds: float) -> None:
        """Waits for the back-off, or until the component shall stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def kill(self) -> None:
        """SIGKILL: the keeper starts it again."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)
        self._change(State.PAUSED)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        if self.state is State.PAUSED:
            self._change(State.RUNNING if self.serving.is_set() else State.STARTING)

    async def restart(self) -> None:
        """Ends it cleanly, within a second; the keeper starts it again. Returns when it serves, or has not for too long."""
        if self._process is None:
            return
        self._restarting = True
        await self._terminate(self._process, TERMINATE_SECONDS_MAX)
        self.serving.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTART_SECONDS_MAX):
                await self.serving.wait()

    async def stop(self, seconds_max: float) -> None:
        """Ends it for good: SIGTERM, and SIGKILL after `seconds_max`."""
        self._stopping.set()
        if self._process is not None:
            await self._terminate(self._process, seconds_max)
        self._change(State.STOPPED)

    async def _terminate(self, process: Process, seconds_max: float) -> None:
        self._zygote.signal(process, signal.SIGTERM)
        self._zygote.signal(process, signal.SIGCONT)  # a paused process hears nothing else
        done, _pending = await asyncio.wait([process.exited], timeout=seconds_max)
        if not done:
            journal.write("killed: did not end in time", level="warning", process=self.name, seconds=seconds_max)
            self._zygote.signal(process, signal.SIGKILL)
            await process.exited

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise StartupError(f"{self.name} has no process now ({self.state})")
        self._zygote.signal(self._process, number)

    def _change(self, state: State) -> None:
        self.state = state
        self._since = self._clock.monotonic()
        self._on_change()

    def status(self) -> dict[str, Any]:
        """What `kubecosm status` shows of this component; `seconds` is how long it has been in its state."""
        return {
            "name": self.name, "state": str(self.state), "pid": self._process.pid if self._process else None, "restarts": self.restarts,
            "seconds": round(self._clock.monotonic() - self._since, 3), "ports": dict(self.ports), "lastError": self.last_error,
        }  # fmt: skip


def describe_exit(code: int) -> str:
    """`exit code 1`, `killed by SIGKILL`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
