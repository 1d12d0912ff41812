"""The warm parent: one single-threaded process that has imported what components need, and forks them on request.

A component started this way is up tens of milliseconds after the request and shares the libraries' memory with its siblings. The
supervisor talks to it over one SEQPACKET socket, a JSON object a message:

    → {"op": "spawn", "id": 1, "service": "apiserver", "title": "…", "arguments": […]}  with the descriptors log, notify, lifeline
    → {"op": "signal", "pid": 123, "signal": 9}
    ← {"event": "spawned", "id": 1, "pid": 123}      ← {"event": "exited", "pid": 123, "code": 0}   (negative: killed by that signal)

It imports in small steps and answers between them, so the apiserver is forked as soon as its own modules are there. Signals go through
it because only the parent knows that a pid still means its child. Nothing outlives it: children die with it, and it with the supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from kubecosm.cluster import linux

MESSAGE_BYTES_MAX = 128 * 1024
DESCRIPTORS_PER_SPAWN = 3

COMMON_MODULES = (
    "asyncio", "ssl", "uvloop", "orjson", "structlog", "aiohttp", "aiohttp.web", "prometheus_client", "kubecosm.runtime.service",
    "kubecosm.runtime.health", "kubecosm.runtime.tls", "kubecosm.api.resources",
)  # fmt: skip
"""What every component needs, imported first."""


def main(argv: Sequence[str]) -> NoReturn:
    """`python -m kubecosm.cluster.zygote SOCKET_FD CLUSTER COMPONENT…`: how a supervisor replaces a warm parent that died."""
    serve(socket.socket(fileno=int(argv[0])), argv[1], argv[2:], supervisor_pid=os.getppid())


def serve(connection: socket.socket, cluster: str, components: Sequence[str], *, supervisor_pid: int) -> NoReturn:
    """Runs until the supervisor closes its end."""
    linux.die_with_parent(supervisor_pid)
    linux.set_title(f"kubecosm {cluster} zygote")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy must not start threads here: a fork would lose them
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.disable()
    _Zygote(connection, components).run()
    os._exit(0)


class _Zygote:
    """The loop of the warm parent: answer messages, reap children, import a little, in this order."""

    def __init__(self, connection: socket.socket, components: Sequence[str]) -> None:
        self.connection = connection
        self.to_import = deque(COMMON_MODULES)
        for component in components:
            self.to_import += [f"kubecosm.services.{component}.{module}" for module in ("config", "app")]
        self.waiting: list[tuple[dict[str, Any], list[int]]] = []
        self.children: set[int] = set()
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wakeup_write)
        self.selector.register(self.connection, selectors.EVENT_READ)
        self.selector.register(wakeup_read, selectors.EVENT_READ)
        while True:
            timeout = 0 if self.to_import else None
            for key, _events in self.selector.select(timeout):
                if key.fd == wakeup_read:
                    os.read(wakeup_read, 4096)
                    self._reap()
                elif not self._receive():
                    return
            self._fork_waiting()
            if self.to_import:
                self._import_one()
                self._fork_waiting()

    def _import_one(self) -> None:
        name = self.to_import.popleft()
        try:
            with _without_extras():
                importlib.import_module(name)
        except Exception:  # noqa: BLE001  only a head start: the component meets the same error and reports it
            return

    def _receive(self) -> bool:
        """Handles one message; False when the supervisor is gone."""
        data, descriptors, _flags, _address = socket.recv_fds(self.connection, MESSAGE_BYTES_MAX, DESCRIPTORS_PER_SPAWN)
        if not data:
            return False
        message = json.loads(data)
        if message["op"] == "spawn":
            self.waiting.append((message, descriptors))
        elif message["pid"] in self.children:
            os.kill(message["pid"], message["signal"])
        return True

    def _fork_waiting(self) -> None:
        """Forks the waiting components whose modules have been imported."""
        for request in list(self.waiting):
            if f"kubecosm.services.{request[0]['service']}.app" not in self.to_import:
                self.waiting.remove(request)
                self._fork(*request)

    def _fork(self, message: dict[str, Any], descriptors: list[int]) -> None:
        gc.freeze()  # what exists now is shared: a child's collector must not touch it
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self.connection.close()
            self.selector.close()
            for _request, others in self.waiting:
                for descriptor in others:
                    os.close(descriptor)
            os._exit(_run_component(message, descriptors, parent))
        for descriptor in descriptors:
            os.close(descriptor)
        self.children.add(pid)
        self._send({"event": "spawned", "id": message["id"], "pid": pid})

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.children.discard(pid)
            self._send({"event": "exited", "pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        self.connection.send(json.dumps(message).encode())


@contextlib.contextmanager
def _without_extras() -> Iterator[None]:
    """Spares what libraries load at import for things that no component does, a third of all import time:

    structlog loads rich for coloured tracebacks (27 ms, 5 MB); aiohttp loads the system's certificate authorities into the context of
    clients that name none (16 ms, 2 MB). Components take theirs from `runtime.tls.client_context`, which can load the system's, too.
    """
    rich_was = sys.modules.get("rich")
    environ_was = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` an ImportError
    os.environ.update(dict.fromkeys(environ_was, os.devnull))
    try:
        yield
    finally:
        del sys.modules["rich"]
        if rich_was is not None:
            sys.modules["rich"] = rich_was
        for name, value in environ_was.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_component(message: dict[str, Any], descriptors: list[int], parent: int) -> int:
    """The life of a forked component; answers its exit code."""
    log, notify, lifeline = descriptors
    linux.die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    linux.set_title(message["title"])
    linux.set_command_name(message["command_name"])
    gc.enable()
    from kubecosm.runtime import service

    arguments = [*message["arguments"], f"--notify-fd={notify}", f"--lifeline-fd={lifeline}"]
    code = service.run_by_name(message["service"], arguments, os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
