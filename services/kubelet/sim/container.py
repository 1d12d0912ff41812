"""One simulated pod and its containers: state, and the life of a main process (start, end, stop)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from kubecosm.api.meta import annotations_of, is_deleting
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..cri.logs import LogBuffer
from ..cri.stats import ContainerUsage
from ..cri.streams import Pipe
from ..cri.types import ContainerConfig, ContainerKind, ContainerState, ContainerStatus, NodeInfo, PodStatus, RuntimeFailure
from ..network.applications import AGNHOST_HEALTHY_SECONDS, AGNHOST_ILL
from ..network.documents import Documents, is_within
from ..network.endpoint import Endpoint, Identity
from ..network.listeners import Address, PodNetwork, PortRefused
from ..notes import IGNORE_TERM, annotation
from ..pods.spec import is_host_network
from ..shell.process import CODE_KILLED, CODE_TERMINATED, Machine
from ..timers import Timer, Timers
from .behaviour import Behaviour, Exit, Run, Serve, behaviour_lookup, probed_ports
from .profiles import ImageProfile
from .usage import cpu_nanocores, exceeds_limit, memory_bytes

TERMINATION_MESSAGE_BYTES_MAX = 4096
FALLBACK_LOG_BYTES_MAX = 2048
FALLBACK_LOG_LINES_MAX = 80
CODE_CANNOT_START = 128
GROWTH_SECONDS = 1.0
"""How long a process takes to use up what it is said to use."""
DRAIN_SHARE_MAX = 0.8
"""Of its grace period: a server that drains ends by itself before it is killed."""


@dataclass(slots=True)
class SimPod:
    """A pod's sandbox. `status` is what the kubelet reads; it is changed in place."""

    pod: Object
    node: NodeInfo
    status: PodStatus
    containers: dict[str, SimContainer] = field(default_factory=dict)
    previous_logs: dict[str, LogBuffer] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return self.status.uid


class Host(Protocol):
    """What containers need of their runtime."""

    clock: Clock
    rng: random.Random
    timers: Timers
    network: PodNetwork
    tasks: asyncio.TaskGroup

    async def machine(self, container: SimContainer) -> Machine: ...

    async def run_program(self, container: SimContainer, argv: tuple[str, ...], stdin: Pipe | None) -> int: ...

    def changed(self, container: SimContainer) -> None: ...

    def keep_log(self, container: SimContainer) -> None: ...

    def warn(self, container: SimContainer, reason: str, message: str) -> None: ...

    def portless(self, container: SimContainer) -> None: ...


class LogSink:
    """A program's stdout or stderr when it goes to the container's log."""

    def __init__(self, container: SimContainer, *, is_stderr: bool) -> None:
        self._container = container
        self._is_stderr = is_stderr

    async def write(self, data: bytes) -> None:
        self._container.output(data, is_stderr=self._is_stderr)


class SimContainer:
    """A container from creation to exit. Only the runtime and the container itself change it."""

    __slots__ = (
        "_endpoints", "_exited", "_grace_seconds",
        "_last_usage", "_task", "_timers", "attached", "behaviour", "config", "head_start", "host",
        "kind", "log",
        "machine", "pod", "profile", "spec",
        "status", "stdin", "stopping",
    )  # fmt: skip

    def __init__(
        self, host: Host, pod: SimPod, config: ContainerConfig, status: ContainerStatus, behaviour: Behaviour, profile: ImageProfile
    ) -> None:
        self.host = host
        self.profile = profile
        self.pod = pod
        self.config = config
        self.spec = config.spec
        self.kind: ContainerKind = config.kind
        self.status = status
        self.behaviour = behaviour
        self.log = LogBuffer()
        self.machine: Machine | None = None
        self.head_start = 0.0
        self.stopping = False
        self.stdin: Pipe | None = Pipe() if config.spec.get("stdin") else None
        self.attached: set[Callable[[bytes, bool], None]] = set()
        self._grace_seconds = math.inf
        self._timers: list[Timer] = []
        self._endpoints: list[tuple[Address, bool, Endpoint]] = []
        self._task: asyncio.Task[None] | None = None
        self._exited: asyncio.Event | None = None
        self._last_usage: tuple[datetime, int, int] | None = None

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def is_running(self) -> bool:
        return self.status.state is ContainerState.RUNNING

    def endpoints(self) -> list[Endpoint]:
        return [endpoint for _, _, endpoint in self._endpoints]

    def output(self, data: bytes, *, is_stderr: bool = False) -> None:
        """What the main process writes: to the log and to those attached."""
        self.log.write(data, self.host.clock.now(), is_stderr=is_stderr)
        for receiver in list(self.attached):
            receiver(data, is_stderr)

    def log_line(self, line: str) -> None:
        self.output(f"{line}\n".encode())

    def usage(self) -> ContainerUsage:
        """What it uses now; the rate of requests is that since the last look."""
        now = self.host.clock.now()
        started = self.status.started_at or now
        requests = sum(endpoint.requests for endpoint in self.endpoints())
        last_at, last_requests, spent = self._last_usage or (started, 0, 0)
        seconds = max(0.001, (now - last_at).total_seconds())
        note = behaviour_lookup(lambda: self.pod.pod, self.name)
        rate = cpu_nanocores(self.spec, note, (requests - last_requests) / seconds)
        spent += int(rate * seconds)
        self._last_usage = (now, requests, spent)
        return ContainerUsage(self.name, started, rate, spent, self.memory(), self.spec.get("image", ""))

    def memory(self) -> int:
        """The bytes that it uses now."""
        return memory_bytes(self.spec, behaviour_lookup(lambda: self.pod.pod, self.name))

    def check_memory(self) -> None:
        """A container that uses more than its limit is killed once it has come so far."""
        if self.is_running and exceeds_limit(self._granted(), behaviour_lookup(lambda: self.pod.pod, self.name)):
            self._timers.append(self.host.timers.call_later(GROWTH_SECONDS, lambda: self.exit(CODE_KILLED, "OOMKilled")))

    def _granted(self) -> Object:
        """Its spec with the resources that it has now."""
        return next((spec for spec in self.pod.pod["spec"].get(self.kind.value) or () if spec["name"] == self.name), self.spec)

    # -- start -------------------------------------------------------------------------------------------------------

    async def start(self, started_at: datetime | None = None, *, resumed: bool = False) -> None:
        """Begin the main process; `started_at` in the past resumes one that ran before the kubelet restarted (with its log, if kept)."""
        now = self.host.clock.now()
        self.status.started_at = started_at or now
        self.status.state = ContainerState.RUNNING
        self.head_start = max(0.0, (now - self.status.started_at).total_seconds())
        behaviour = self.behaviour
        if not resumed or self.log.is_empty:
            for line in behaviour.log:
                self.log_line(line)
        if behaviour.ends is not None:
            self._end_after(behaviour.ends)
        if annotations_of(self.pod.pod):
            self.check_memory()
        match behaviour.main:
            case Serve() as serving:
                await self._serve(serving)
            case Run(argv):
                self._task = self.host.tasks.create_task(self._run(argv), name=f"container-{self.name}")
            case Exit() as end:
                self._end_after(end)

    def _end_after(self, end: Exit) -> None:
        delay = max(0.0, end.seconds - self.head_start)
        self._timers.append(self.host.timers.call_later(delay, lambda: self.exit(end.code, end.reason)))

    async def _serve(self, serving: Serve) -> None:
        delay = self.behaviour.startup_seconds - self.head_start
        if delay > 0:
            self._timers.append(self.host.timers.call_later(delay, lambda: self._open_later(serving)))
        else:
            await self.open_ports(serving.application, serving.ports)

    def _open_later(self, serving: Serve) -> None:
        self.host.tasks.create_task(self.open_ports(serving.application, serving.ports), name=f"ports-{self.name}")

    async def open_ports(self, application: str, ports: tuple[int, ...] = ()) -> None:
        """Answer on every declared port (and on host ports), or on `ports` if the container declares none; and where it is probed."""
        if not application or not self.is_running:
            return
        identity: Identity | None = None
        memory: dict[str, object] = {}
        documents = await self._documents()
        if application == "agnhost" and "liveness" in (self.spec.get("args") or ()):
            self._timers.append(self.host.timers.call_later(AGNHOST_HEALTHY_SECONDS, lambda: memory.update({AGNHOST_ILL: True})))
        for declared in [*(self.spec.get("ports") or self._own_ports(ports)), *self._probed_ports(ports)]:
            protocol = declared.get("protocol") or "TCP"
            if protocol == "SCTP":
                continue
            if identity is None:
                identity = self._identity()
            ip, port = self.pod.status.ip, int(declared["containerPort"])
            lookup = behaviour_lookup(lambda: self.pod.pod, self.name)
            endpoint = Endpoint(identity, port, application, lookup, self.log_line, documents, memory)
            await self._open((ip, port), endpoint, udp=protocol == "UDP")
            if declared.get("hostPort") and not is_host_network(self.pod.pod):
                await self._open((self.pod.node.ip, int(declared["hostPort"])), endpoint, udp=protocol == "UDP")

        if not ports and not self.spec.get("ports"):
            self.host.portless(self)

    async def open_more(self, port: int) -> None:
        """Answer on this port, too, unless a container of the pod does."""
        serving, address = self.behaviour.main, (self.pod.status.ip, port)
        if isinstance(serving, Serve) and self.is_running and not self.stopping and self.host.network.lookup(*address) is None:
            lookup = behaviour_lookup(lambda: self.pod.pod, self.name)
            await self._open(address, Endpoint(self._identity(), port, serving.application, lookup, self.log_line), udp=False)

    async def _documents(self) -> Documents:
        """What the image's web server shows. The file system is made first if a volume may hold some of it."""
        root = self.profile.document_root
        if root and any(is_within(root, mount["mountPath"]) for mount in self.spec.get("volumeMounts") or ()):
            await self.host.machine(self)
        return Documents(root, lambda: None if self.machine is None else self.machine.fs)

    def _own_ports(self, ports: tuple[int, ...]) -> list[Object]:
        """The image's ports that no other container of the pod has."""
        return [{"containerPort": port} for port in ports if self.host.network.lookup(self.pod.status.ip, port) is None]

    def _probed_ports(self, known: tuple[int, ...]) -> list[Object]:
        """Ports that its probes and hooks name and it does not declare: an image of which no port is known listens there, too."""
        declared = {port["containerPort"] for port in self.spec.get("ports") or ()}
        return [] if known else self._own_ports(tuple(sorted(probed_ports(self.pod.pod, self.spec) - declared)))

    async def _open(self, address: Address, endpoint: Endpoint, *, udp: bool) -> None:
        self._endpoints.append((address, udp, endpoint))
        try:
            await self.host.network.open(address, endpoint, udp=udp)
        except PortRefused as failure:
            self.host.warn(self, "FailedToBindPort", str(failure))
        if not self.is_running:
            self.host.network.close(address, udp=udp)

    def _identity(self) -> Identity:
        meta = self.pod.pod["metadata"]
        return Identity(meta["name"], meta["namespace"], self.pod.node.name, self.pod.status.ip, self.name, self.spec.get("image", ""))

    async def _run(self, argv: tuple[str, ...]) -> None:
        """The main process is a toolbox program."""
        try:
            code = await self.host.run_program(self, argv, self.stdin)
        except asyncio.CancelledError:
            if self.is_running:
                self.exit(CODE_TERMINATED if self.stopping else CODE_KILLED)
            return
        except RuntimeFailure as failure:
            self.output(f"{failure.message}\n".encode(), is_stderr=True)
            self._task = None
            self.exit(CODE_CANNOT_START, "StartError")
            return
        self._task = None
        self.exit(code)

    # -- end ---------------------------------------------------------------------------------------------------------

    def exit(self, code: int, reason: str = "") -> None:
        """The main process has ended. Idempotent."""
        if not self.is_running:
            return
        now = self.host.clock.now()
        status = self.status
        status.state = ContainerState.EXITED
        status.finished_at = now
        status.exit_code = code
        status.reason = reason or ("Completed" if code == 0 else "Error")
        self.log.close(now)
        status.message = self._termination_message(code)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for address, udp, endpoint in self._endpoints:
            self.host.network.close(address, udp=udp)
            if code == CODE_KILLED:
                endpoint.kill()
            else:
                endpoint.close()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.stdin is not None:
            self.stdin.close()
        if not is_deleting(self.pod.pod):
            self.host.keep_log(self)
        self.attached.clear()
        if self._exited is not None:
            self._exited.set()
        self.host.changed(self)

    def _termination_message(self, code: int) -> str:
        path = self.spec.get("terminationMessagePath") or "/dev/termination-log"
        if self.machine is not None:
            with contextlib.suppress(OSError):
                written = self.machine.fs.read(path)
                if written:
                    return written[-TERMINATION_MESSAGE_BYTES_MAX:].decode(errors="replace")
        if code != 0 and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines, _ = self.log.lines_from(0)
            text = b"".join(line.data for line in lines[-FALLBACK_LOG_LINES_MAX:])
            return text[-FALLBACK_LOG_BYTES_MAX:].decode(errors="replace")
        return ""

    async def wait_exited(self) -> None:
        if self.is_running:
            if self._exited is None:
                self._exited = asyncio.Event()
            await self._exited.wait()

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, the time to end, SIGKILL."""
        if self.status.state is ContainerState.CREATED:
            self.status.state = ContainerState.EXITED
            self.status.finished_at = self.host.clock.now()
            self.status.exit_code, self.status.reason = CODE_KILLED, "ContainerCannotRun"
            return
        if not self.is_running:
            return
        if grace_seconds <= 0:
            self.exit(CODE_KILLED)
            return
        self._timers.append(self.host.timers.call_later(grace_seconds, lambda: self.exit(CODE_KILLED)))
        self._grace_seconds = grace_seconds
        self.signal("TERM")
        await self.wait_exited()

    def signal(self, name: str) -> None:
        """Deliver a signal to the main process: `TERM`, `INT`, `QUIT`, `HUP` or `KILL`."""
        if not self.is_running:
            return
        if name == "KILL":
            self.exit(CODE_KILLED)
        elif self.machine is not None and name in self.machine.ignored_signals:
            return
        elif name in ("TERM", "INT", "QUIT") and annotation(annotations_of(self.pod.pod), IGNORE_TERM, self.name) != "true":
            self._terminate()

    def _terminate(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        if self._endpoints and self.behaviour.drain_seconds > 0:
            for _, _, endpoint in self._endpoints:
                endpoint.drain()
            seconds = min(self.behaviour.drain_seconds, self._grace_seconds * DRAIN_SHARE_MAX)
            self._timers.append(self.host.timers.call_later(seconds, lambda: self.exit(0)))
        elif self._task is not None:
            self._task.cancel()
        else:
            self.exit(0 if isinstance(self.behaviour.main, Serve) else CODE_TERMINATED)
