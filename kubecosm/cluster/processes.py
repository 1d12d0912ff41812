"""The supervisor's end of the warm parent: start a component, hear when it serves and when it ends, send it signals."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecosm.cluster.components import ProcessSpec
from kubecosm.cluster.zygote import MESSAGE_BYTES_MAX
from kubecosm.runtime.errors import startup

LOG_BYTES_MAX = 16 * 1024 * 1024
NOTIFY_BYTES_MAX = 4096
KILLED = -signal.SIGKILL
COMMAND_NAMES = {
    "apiserver": "kube-apiserver", "scheduler": "kube-scheduler", "controller": "kube-controller", "kubelet": "kubelet",
    "proxy": "kube-proxy",
}  # fmt: skip
"""What `top` shows."""


@dataclass
class Process:
    """A started component. Both futures always resolve: `ready` with the component's own line (None if it ended without one)."""

    pid: int
    ready: asyncio.Future[Mapping[str, Any] | None]
    exited: asyncio.Future[int]

    @property
    def is_alive(self) -> bool:
        return not self.exited.done()


class Zygote:
    """The warm parent as the supervisor sees it. If it dies, the next `spawn` replaces it."""

    def __init__(self, cluster: str, components: Sequence[str], connection: socket.socket, pid: int) -> None:
        self._cluster, self._components, self.pid = cluster, tuple(components), pid
        self._connection = connection
        self._ids = itertools.count(1)
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._lifeline_read, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
        self._listen()

    async def spawn(self, spec: ProcessSpec) -> Process:
        """Starts a component. StartupError when its log cannot be opened; OSError when the machine has no room for a process."""
        if self._connection.fileno() < 0:
            self._replace()
        loop = asyncio.get_running_loop()
        request_id = next(self._ids)
        notify_read, notify_write = os.pipe2(os.O_CLOEXEC)
        log = open_log(spec.log)
        message = {
            "op": "spawn", "id": request_id, "service": spec.component, "arguments": spec.arguments,
            "title": f"kubecosm {self._cluster}/{spec.component}", "command_name": COMMAND_NAMES[spec.component],
        }  # fmt: skip
        spawned: asyncio.Future[int] = loop.create_future()
        self._spawning[request_id] = spawned
        try:
            socket.send_fds(self._connection, [json.dumps(message).encode()], [log, notify_write, self._lifeline_read])
        finally:
            os.close(notify_write)
            os.close(log)
        pid = await spawned
        ready: asyncio.Future[Mapping[str, Any] | None] = loop.create_future()
        loop.add_reader(notify_read, _read_notice, notify_read, ready)
        return Process(pid, ready, self._exits[pid])

    def signal(self, process: Process, number: int) -> None:
        """Sends a signal to a component if it still lives."""
        if process.is_alive and self._connection.fileno() >= 0:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.send(json.dumps({"op": "signal", "pid": process.pid, "signal": int(number)}).encode())

    def close(self) -> None:
        """Ends the warm parent and with it every component that still runs."""
        if self._connection.fileno() >= 0:
            self._forget()

    def _listen(self) -> None:
        self._connection.setblocking(False)
        asyncio.get_running_loop().add_reader(self._connection, self._receive)

    def _receive(self) -> None:
        try:
            data = self._connection.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._forget()
            return
        message = json.loads(data)
        if message["event"] == "spawned":
            self._exits[message["pid"]] = asyncio.get_running_loop().create_future()
            spawned = self._spawning.pop(message["id"])
            if not spawned.done():
                spawned.set_result(message["pid"])
        else:
            self._exits.pop(message["pid"]).set_result(message["code"])

    def _forget(self) -> None:
        """The warm parent is gone: the kernel has killed its children."""
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        for exited in self._exits.values():
            exited.set_result(KILLED)
        for spawned in self._spawning.values():
            if not spawned.done():  # done: whoever asked was cancelled
                spawned.set_exception(OSError("the warm parent process died"))
        self._exits.clear()
        self._spawning.clear()

    def _replace(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "kubecosm.cluster.zygote", str(theirs.fileno()), self._cluster, *self._components]
        self.pid = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]).pid
        theirs.close()
        self._connection = ours
        self._listen()


def open_log(path: str) -> int:
    """A descriptor that appends to a log file; a file beyond 16 MiB is first moved aside to `.1`. StartupError when impossible."""
    with startup(f"write the log {path}"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if os.fstat(descriptor).st_size <= LOG_BYTES_MAX:
            return descriptor
        os.close(descriptor)
        Path(path).replace(path + ".1")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _read_notice(notify_read: int, ready: asyncio.Future[Mapping[str, Any] | None]) -> None:
    """Takes the one line a component writes when it serves or cannot; nothing before the end means it died."""
    data = os.read(notify_read, NOTIFY_BYTES_MAX)
    asyncio.get_running_loop().remove_reader(notify_read)
    os.close(notify_read)
    if not ready.done():
        ready.set_result(json.loads(data) if data else None)
