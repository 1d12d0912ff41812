"""What the supervisor does all day: one task a component, one a control connection, and the order of starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable
from typing import Any

from kubecosm.cluster import control, journal
from kubecosm.cluster import spec as specs
from kubecosm.cluster.components import process_table
from kubecosm.cluster.keeper import Keeper
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.processes import Zygote
from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import StartupError, startup

STOP_SECONDS_COMPONENTS = 0.35
STOP_SECONDS_APISERVER = 0.4
CONNECTIONS_MAX = 64
BACKLOG_BYTES_MAX = 256 * 1024
"""Status lines waiting for a watcher that does not read; beyond, it is cut off."""


class Supervisor:
    """The state of one running cluster."""

    def __init__(self, paths: ClusterPaths, spec: specs.ClusterSpec, zygote: Zygote, clock: Clock) -> None:
        self.paths, self.spec, self.zygote, self.clock = paths, spec, zygote, clock
        self.state = "Starting"
        self.error = ""
        self.stop = asyncio.Event()
        self.watchers: set[asyncio.StreamWriter] = set()
        self.keepers = [Keeper(process, zygote, clock, self._changed) for process in process_table(spec, paths)]
        self.operations: dict[str, Callable[[Keeper], None]] = {"kill": Keeper.kill, "pause": Keeper.pause, "resume": Keeper.resume}

    def status(self) -> dict[str, Any]:
        return {
            "ok": True, "name": self.spec.name, "state": self.state, "error": self.error, "server": self.spec.server,
            "directory": str(self.paths.root), "kubeconfig": str(self.paths.kubeconfig), "expectedNodes": self.spec.expected_nodes,
            "ephemeral": self.spec.ephemeral, "supervisorPid": os.getpid(), "zygotePid": self.zygote.pid,
            "components": [keeper.status() for keeper in self.keepers],
        }  # fmt: skip

    async def run(self) -> None:
        """Starts everything, then waits for `stop`, then stops everything."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._start_after(keeper), name=keeper.name) for keeper in self.keepers]
            tasks.append(group.create_task(self._watch_start(), name="watch the start"))
            await self.stop.wait()
            self._set_state("Failed" if self.error else "Stopping")
            await self._stop_all()
            for task in tasks:
                task.cancel()

    async def _watch_start(self) -> None:
        """Waits until every component serves; a first start that fails fails the cluster."""
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._wait_all_serving(), name="wait until all serve")
            failures: list[asyncio.Future[Any]] = [keeper.failed_to_start for keeper in self.keepers]
            await asyncio.wait([serving, *failures], return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
        failed = next((keeper for keeper in self.keepers if keeper.failed_to_start.done()), None)
        if failed is None:
            self._set_state("Running")
        else:
            named = failed.last_error.startswith(failed.name)
            self.error = failed.last_error if named else f"{failed.name}: {failed.last_error}"
            self.stop.set()

    async def _start_after(self, keeper: Keeper) -> None:
        """Keeps a component running once those it needs serve."""
        for needed in self.keepers:
            if needed.name in keeper.spec.after:
                await needed.serving.wait()
        await keeper.keep_running()

    async def _wait_all_serving(self) -> None:
        for keeper in self.keepers:
            await keeper.serving.wait()

    async def _stop_all(self) -> None:
        """The apiserver goes last, so that the others can say goodbye; all within STOP_SECONDS_*."""
        last = [keeper for keeper in self.keepers if keeper.name == "apiserver"]
        for keepers, seconds in (
            ([keeper for keeper in self.keepers if keeper not in last], STOP_SECONDS_COMPONENTS),
            (last, STOP_SECONDS_APISERVER),
        ):
            async with asyncio.TaskGroup() as group:
                for keeper in keepers:
                    group.create_task(keeper.stop(seconds), name=f"stop {keeper.name}")

    def _set_state(self, state: str) -> None:
        self.state = state
        if self.error:
            journal.write(f"cluster is {state.lower()}", level="error", error=self.error)
        else:
            journal.write(f"cluster is {state.lower()}")
        self._changed()

    def _changed(self) -> None:
        if not self.watchers:
            return
        line = control.encode(self.status())
        for writer in list(self.watchers):
            if writer.transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
                self.watchers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(line)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one control client until it leaves."""
        try:
            while line := await reader.readline():
                try:
                    answer = await self._obey(control.decode(line), writer)
                except StartupError as error:
                    answer = {"ok": False, "error": error.message}
                if answer is not None:
                    writer.write(control.encode(answer))
                    await writer.drain()
        except (ConnectionError, ValueError):  # ValueError: a line beyond the limit
            return
        except asyncio.CancelledError:
            return  # the supervisor ends; asyncio's own callback would log a cancelled connection as an error
        finally:
            self.watchers.discard(writer)
            writer.close()

    async def _obey(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        match request.get("op"):
            case "status":
                return self.status()
            case "watch":
                self.watchers.add(writer)
                return self.status()
            case "stop":
                self.stop.set()
                return self.status()
            case "restart":
                await self._keeper(request).restart()
            case "kill" | "pause" | "resume" as op:
                self.operations[op](self._keeper(request))
            case other:
                raise StartupError(f"unknown operation {other!r}")
        return self.status()

    def _keeper(self, request: dict[str, Any]) -> Keeper:
        name = request.get("component")
        for keeper in self.keepers:
            if keeper.name == name:
                return keeper
        raise StartupError(f"no component {name!r} in this cluster: it has {', '.join(keeper.name for keeper in self.keepers)}")


async def supervise(paths: ClusterPaths, zygote_socket: socket.socket, zygote_pid: int) -> int:
    """Waits for `start` on stdin, then runs the cluster; answers the exit code."""
    clock = RealClock()
    stdin = socket.socket(fileno=0)
    reader, writer = await asyncio.open_unix_connection(sock=stdin, limit=control.LINE_BYTES_MAX)
    first = await reader.readline()
    if not first:
        return 0  # the command line gave up while preparing
    foreground = bool(control.decode(first).get("foreground"))
    try:
        spec = specs.load(paths.spec)
        if spec is None:
            raise StartupError(f"{paths.spec} is missing")
        with startup(f"write {paths.lock}"):
            paths.lock.write_text(f"{os.getpid()}\n")  # for `down`, should this process ever stop answering
        _raise_file_limit()
        zygote = Zygote(spec.name, spec.components, zygote_socket, zygote_pid)
        supervisor = Supervisor(paths, spec, zygote, clock)
        return await _run(supervisor, zygote, reader, writer, foreground=foreground)
    except StartupError as error:
        writer.write(control.encode({"ok": False, "error": error.message}))
        await writer.drain()
        return 1


async def _run(
    supervisor: Supervisor, zygote: Zygote, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, foreground: bool
) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop.set)
    server = await _listen(supervisor)
    supervisor.watchers.add(writer)
    async with asyncio.TaskGroup() as group:
        starter = group.create_task(_serve_starter(supervisor, reader, writer, foreground=foreground), name="starter")
        await supervisor.run()
        starter.cancel()
    _clean_up(supervisor)
    zygote.close()
    server.close()
    return 1 if supervisor.error else 0


async def _serve_starter(
    supervisor: Supervisor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, foreground: bool
) -> None:
    """The connection of the command that started the cluster: in the foreground its end is the cluster's end."""
    await supervisor.serve_connection(reader, writer)
    if foreground:
        supervisor.stop.set()


async def _listen(supervisor: Supervisor) -> asyncio.Server:
    path = supervisor.paths.socket
    with startup(f"listen on {path}"), control.ShortPath(path) as name:
        path.unlink(missing_ok=True)
        return await asyncio.start_unix_server(supervisor.serve_connection, name, limit=control.LINE_BYTES_MAX, backlog=CONNECTIONS_MAX)


def _clean_up(supervisor: Supervisor) -> None:
    """The socket goes; an ephemeral cluster goes with everything, unless it failed: then its logs tell why."""
    with contextlib.suppress(OSError):
        supervisor.paths.socket.unlink()
    if supervisor.spec.ephemeral and not supervisor.error:
        shutil.rmtree(supervisor.paths.root, ignore_errors=True)


def _raise_file_limit() -> None:
    """As many open files as the machine allows: every pod port and watch is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
