"""SimRuntime: the Runtime protocol over simulated containers. Owns their sandboxes, addresses and sockets.

Leaves out: image layers and sizes (a size is derived from the image's name), cgroups, pod-level namespaces.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from kubecosm.api.meta import annotations_of
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.runtime.clock import Clock

from .. import notes
from ..cri.images import ImageNameError, full_name, parse_image
from ..cri.logs import LogBuffer, LogOptions
from ..cri.runtime import ConfigOf, RuntimeListener
from ..cri.stats import PodUsage
from ..cri.streams import Pipe, ProcessStreams
from ..cri.types import ContainerConfig, ContainerKind, ContainerState, ContainerStatus, NodeInfo, PodStatus, RuntimeFailure
from ..env.environment import expand
from ..network.listeners import PodNetwork
from ..notes import annotation, parse_seconds
from ..pods.phase import is_terminal
from ..pods.spec import all_containers, is_host_network
from ..shell.process import Machine
from ..shell.programs import has_program
from ..timers import Timers
from .addresses import AddressesExhausted, AddressPool
from .behaviour import Run, decide
from .container import LogSink, SimContainer, SimPod
from .logstore import LogStore
from .machine import MachineBuilder
from .processes import ProgramRunner
from .profiles import ImageProfiles
from .pulls import pull_problem

IMAGE_BYTES_MIN = 2_000_000
IMAGE_BYTES_SPREAD = 150_000_000
ANY_USER = 1000
"""Who an image runs as of which nothing is known, where it must not be root."""


class SimRuntime:
    name = "sim"

    def __init__(
        self, *, clock: Clock, rng: random.Random, timers: Timers, tasks: asyncio.TaskGroup, profiles: ImageProfiles,
        machines: MachineBuilder, logs: LogStore,
        network: PodNetwork,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.rng = rng
        self.timers = timers
        self.tasks = tasks
        self.network = network
        self.profiles = profiles
        self._machines = machines
        self._logs = logs
        self._programs = ProgramRunner()
        self._pods: dict[str, SimPod] = {}
        self._containers: dict[str, SimContainer] = {}
        self._pools: dict[str, AddressPool] = {}
        self._images: dict[str, set[str]] = {}
        self._reserved: set[str] = set()
        self._addresses: dict[str, int] = {}
        self._listener: RuntimeListener | None = None
        self.on_portless: Callable[[SimContainer], None] | None = None
        """Told of containers that begin to serve without saying where."""

    def set_listener(self, listener: RuntimeListener | None) -> None:
        self._listener = listener

    # -- Host: what containers call ------------------------------------------------------------------------------------

    def portless(self, container: SimContainer) -> None:
        if self.on_portless is not None:
            self.on_portless(container)

    def changed(self, container: SimContainer) -> None:
        if self._listener is not None:
            self._listener.pod_changed(container.pod.uid)

    def keep_log(self, container: SimContainer) -> None:
        self._logs.save(container.pod.uid, container.name, container.status.restart_count, container.log)

    def save_logs(self) -> None:
        """The kubelet stops: keep what running containers have written."""
        for container in self._containers.values():
            if container.is_running:
                self.keep_log(container)

    def warn(self, container: SimContainer, reason: str, message: str) -> None:
        if self._listener is not None:
            self._listener.warn(container.pod.uid, container.name, reason, message)

    async def machine(self, container: SimContainer) -> Machine:
        if container.machine is None:
            container.machine = await self._machines.build(container, self._programs)
        else:
            await container.config.volumes()  # tokens may be due
        return container.machine

    async def run_program(self, container: SimContainer, argv: tuple[str, ...], stdin: Pipe | None) -> int:
        machine = await self.machine(container)
        machine.head_start = container.head_start
        environment = await container.config.environment()
        argv = tuple(expand(word, environment) for word in argv)
        machine.main_command = argv
        return await self._programs.run_main(
            container, machine, argv, environment, stdin, LogSink(container, is_stderr=False), LogSink(container, is_stderr=True)
        )

    # -- sandboxes ---------------------------------------------------------------------------------------------------

    async def run_sandbox(self, pod: Object, node: NodeInfo) -> None:
        uid = pod["metadata"]["uid"]
        sim = self._pods.get(uid)
        if sim is None:
            sim = self._pods[uid] = SimPod(pod, node, PodStatus(uid))
        status = sim.status
        if is_host_network(pod):
            status.ip = node.ip
        elif not status.ip:
            try:
                status.ip = self._pool(node).take()
            except AddressesExhausted as failure:
                raise RuntimeFailure("FailedCreatePodSandBox", f"Failed to create pod sandbox: {failure}") from failure
        self._count_address(status.ip, 1)
        status.sandbox_attempts += 1
        status.sandbox_id = _random_id(self.rng)

    def has_address(self, ip: str) -> bool:
        """Whether a pod has this address now."""
        return ip in self._addresses

    def _count_address(self, ip: str, change: int) -> None:
        """Pods of the host network share their node's address: hence a count."""
        count = self._addresses.get(ip, 0) + change
        if count > 0:
            self._addresses[ip] = count
        else:
            self._addresses.pop(ip, None)

    def _pool(self, node: NodeInfo) -> AddressPool:
        pool = self._pools.get(node.name)
        if pool is None or pool.cidr != node.pod_cidr:
            pool = self._pools[node.name] = AddressPool(node.pod_cidr)
        return pool

    async def stop_sandbox(self, uid: str) -> None:
        sim = self._pods.get(uid)
        if sim is None or not sim.status.sandbox_id:
            return
        for container in sim.containers.values():
            if container.is_running:
                container.exit(137)
        sim.status.sandbox_id = ""
        self._count_address(sim.status.ip, -1)
        if sim.status.ip and not is_host_network(sim.pod):
            self._pool(sim.node).release(sim.status.ip)
        sim.status.ip = ""

    async def remove_pod(self, uid: str) -> None:
        await self.stop_sandbox(uid)
        self._logs.forget(uid)
        sim = self._pods.pop(uid, None)
        if sim is not None:
            for container in sim.containers.values():
                self._containers.pop(container.status.container_id, None)

    # -- images ------------------------------------------------------------------------------------------------------

    def image_id(self, image: str) -> str:
        """`registry/name@sha256:…`, the same for the same reference."""
        try:
            name = parse_image(image)
        except ImageNameError:
            return ""
        digest = name.digest or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
        return f"{name.repository}@{digest}"

    def images(self, node: str) -> list[tuple[str, int]]:
        return [(image, _size(image)) for image in self._images.get(node, ())]

    def _has_image(self, node: str, image: str) -> None:
        images = self._images.setdefault(node, set())
        if image not in images:
            images.add(image)
            if self._listener is not None:
                self._listener.images_changed(node)

    def image_user(self, image: str) -> str | None:
        return self.profiles.user_of(image)

    def image_present(self, pod: Object, spec: Object, node: NodeInfo) -> bool:
        image = full_name(spec.get("image", ""))
        return image in self._images.get(node.name, ()) or self.profiles.is_preloaded(image)

    async def pull_image(self, pod: Object, spec: Object, node: NodeInfo) -> int:
        image = full_name(spec.get("image", ""))
        written = annotations_of(pod)
        if problem := pull_problem(parse_image(image), annotation(written, notes.IMAGE_PULL, spec["name"]) or ""):
            raise RuntimeFailure("ErrImagePull", problem)
        seconds = parse_seconds(annotation(written, notes.PULL_SECONDS, spec["name"]), self.rng)
        if seconds:
            await self.clock.sleep(seconds)
        self._has_image(node.name, image)
        return _size(image)

    # -- containers --------------------------------------------------------------------------------------------------

    async def create_container(self, config: ContainerConfig) -> str:
        sim = self._pods[config.pod["metadata"]["uid"]]
        sim.pod = config.pod
        name = config.spec["name"]
        status = ContainerStatus(
            container_id=f"{self.name}://{_random_id(self.rng)}", name=name, image=config.spec.get("image", ""), image_id=config.image_id,
            state=ContainerState.CREATED, created_at=self.clock.now(), restart_count=config.restart_count,
            sandbox_attempt=sim.status.sandbox_attempts,
            uid=effective_user(sim.pod, config.spec, self.image_user(config.spec.get("image", ""))),
        )  # fmt: skip
        return self._add(sim, config, status).status.container_id

    def _add(self, sim: SimPod, config: ContainerConfig, status: ContainerStatus) -> SimContainer:
        name = status.name
        profile = self.profiles.of(status.image)
        behaviour = decide(sim.pod, config.spec, config.kind, profile, has_program, self.rng)
        before = sim.containers.get(name)
        if before is not None:
            sim.status.previous[name] = before.status
            sim.previous_logs[name] = before.log
            self._containers.pop(before.status.container_id, None)
        container = SimContainer(self, sim, config, status, behaviour, profile)
        sim.containers[name] = container
        sim.status.containers[name] = status
        self._containers[status.container_id] = container
        return container

    async def start_container(self, container_id: str) -> None:
        await self._get(container_id).start()

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            await container.stop(grace_seconds)

    def _get(self, container_id: str) -> SimContainer:
        container = self._containers.get(container_id)
        if container is None:
            raise RuntimeFailure("ContainerNotFound", f'an error occurred when try to find container "{container_id}": not found')
        return container

    def reset_containers(self, uid: str) -> None:
        for container in self._pods[uid].containers.values():
            container.status.is_reset = container.kind is not ContainerKind.EPHEMERAL

    def pod_status(self, uid: str) -> PodStatus | None:
        sim = self._pods.get(uid)
        return sim.status if sim is not None else None

    def statuses(self) -> list[PodStatus]:
        """Of all pods, for metrics."""
        return [sim.status for sim in self._pods.values()]

    def update_pod(self, pod: Object) -> None:
        sim = self._pods.get(pod["metadata"]["uid"])
        if sim is None:
            return
        before, sim.pod = sim.pod, pod
        if before["metadata"].get("annotations") != pod["metadata"].get("annotations"):
            for container in sim.containers.values():
                container.check_memory()

    def memory(self, uid: str) -> dict[str, int]:
        """The bytes that each running container of the pod uses now."""
        sim = self._pods.get(uid)
        running = (one for one in sim.containers.values() if one.is_running) if sim is not None else ()
        return {one.name: one.memory() for one in running}

    def usage(self, uid: str) -> PodUsage | None:
        """What the pod's running containers use now; None if nothing runs."""
        sim = self._pods.get(uid)
        if sim is None or not sim.status.sandbox_id:
            return None
        running = [container for container in sim.containers.values() if container.is_running]
        used = tuple(container.usage() for container in running)
        if not used:
            return None
        meta = sim.pod["metadata"]
        return PodUsage(meta["namespace"], meta["name"], uid, min(c.started_at for c in used), used)

    # -- recovery ----------------------------------------------------------------------------------------------------

    def reserve(self, pod: Object, node: NodeInfo) -> None:
        ip = (pod.get("status") or {}).get("podIP")
        if ip and not is_host_network(pod) and self._pool(node).reserve(ip):
            self._reserved.add(pod["metadata"]["uid"])

    async def recover(self, pod: Object, node: NodeInfo, config_of: ConfigOf, *, rebooted: bool = False) -> None:
        meta, reported = pod["metadata"], pod.get("status") or {}
        sim = self._pods[meta["uid"]] = SimPod(pod, node, PodStatus(meta["uid"]))
        sim.status.sandbox_attempts = 1
        if not is_terminal(pod) and not rebooted:
            sim.status.sandbox_id = _random_id(self.rng)
            sim.status.ip = self._recovered_address(pod, node)
            self._count_address(sim.status.ip, 1)
        statuses = {s["name"]: s for key in STATUS_KEYS for s in reported.get(key) or ()}
        for kind, spec in all_containers(pod):
            raw = statuses.get(spec["name"])
            if raw is None or not raw.get("containerID", "").startswith(f"{self.name}://"):
                continue
            await self._recover_container(sim, config_of(pod, spec, kind), _lost(raw, self.clock.now()) if rebooted else raw)

    def _recovered_address(self, pod: Object, node: NodeInfo) -> str:
        """The address that the pod had, unless another has it by now."""
        if is_host_network(pod):
            return node.ip
        uid, ip = pod["metadata"]["uid"], (pod.get("status") or {}).get("podIP") or ""
        keeps = uid in self._reserved or (bool(ip) and self._pool(node).reserve(ip))
        self._reserved.discard(uid)
        return ip if keeps else self._pool(node).take()

    async def _recover_container(self, sim: SimPod, config: ContainerConfig, raw: Object) -> None:
        state, last = raw.get("state") or {}, raw.get("lastState") or {}
        name, restarts = raw["name"], raw.get("restartCount") or 0
        if (terminated := last.get("terminated")) is not None and "waiting" not in state:
            sim.status.previous[name] = _ended_status(raw, terminated)
            sim.previous_logs[name] = self._logs.load(sim.uid, name, restarts - 1)
        status = _ended_status(raw, state.get("terminated") or last.get("terminated") or {})
        status.sandbox_attempt = sim.status.sandbox_attempts
        self._has_image(sim.node.name, full_name(status.image))
        running = state.get("running")
        if running is not None:
            status.container_id, status.state = raw["containerID"], ContainerState.RUNNING
        container = self._add(sim, config, status)
        if running is None or not isinstance(container.behaviour.main, Run):
            container.log = self._logs.load(sim.uid, name, restarts)
        if running is not None:
            await container.start(parse_time(running["startedAt"]), resumed=True)
        else:
            container.log.close(self.clock.now())

    # -- streams -----------------------------------------------------------------------------------------------------

    def log_buffer(self, container_id: str, *, previous: bool) -> LogBuffer:
        container = self._get(container_id)
        if not previous:
            return container.log
        buffer = container.pod.previous_logs.get(container.name)
        if buffer is None:
            raise RuntimeFailure("ContainerNotFound", f'previous terminated container "{container.name}" not found')
        return buffer

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        return self.log_buffer(container_id, previous=options.previous).read(options)

    async def exec(self, container_id: str, command: list[str], streams: ProcessStreams, *, lenient: bool = False) -> int:
        container = self._get(container_id)
        if not container.is_running:
            raise RuntimeFailure("ContainerNotRunning", f"container {container.name} is not running")
        machine = await self.machine(container)
        environment = await container.config.environment()
        return await self._programs.run_exec(container, machine, command, environment, streams, lenient=lenient)

    async def attach(self, container_id: str, streams: ProcessStreams) -> int:
        container = self._get(container_id)
        if not container.is_running:
            raise RuntimeFailure("ContainerNotRunning", f"container {container.name} is not running")
        return await self._programs.attach(container, streams)

    async def dial(self, ip: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self.network.dial((ip, port))


STATUS_KEYS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def effective_user(pod: Object, spec: Object, image_user: str | None) -> int:
    """The uid of the main process: as the spec says, else as the image does."""
    context = {**(pod["spec"].get("securityContext") or {}), **(spec.get("securityContext") or {})}
    uid = context.get("runAsUser")
    if uid is not None:
        return int(uid)
    if image_user is None:
        return ANY_USER if context.get("runAsNonRoot") else 0
    name = image_user.partition(":")[0]
    return int(name) if name.isdigit() else (ANY_USER if name else 0)


def _size(image: str) -> int:
    return IMAGE_BYTES_MIN + int.from_bytes(hashlib.sha256(image.encode()).digest()[:4], "big") % IMAGE_BYTES_SPREAD


def _random_id(rng: random.Random) -> str:
    return f"{rng.getrandbits(256):064x}"


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _lost(raw: Object, now: datetime) -> Object:
    """What is known of a container after its node was off: if it ran, it did not end by itself."""
    running = (raw.get("state") or {}).get("running")
    if running is None:
        return raw
    ended = {"exitCode": 255, "reason": "Unknown", "finishedAt": format_time(now), "containerID": raw["containerID"], **running}
    return {**raw, "state": {"terminated": ended}}


def _ended_status(raw: Object, terminated: dict[str, Any]) -> ContainerStatus:
    """A container that had exited, from what the API knows of it."""
    started = _time(terminated.get("startedAt"))
    finished = _time(terminated.get("finishedAt"))
    created = started or finished or parse_time("1970-01-01T00:00:00Z")
    return ContainerStatus(
        container_id=terminated.get("containerID") or raw["containerID"], name=raw["name"], image=raw.get("image", ""),
        image_id=raw.get("imageID", ""),
        state=ContainerState.EXITED, created_at=created, restart_count=raw.get("restartCount") or 0, started_at=started,
        finished_at=finished,
        uid=((raw.get("user") or {}).get("linux") or {}).get("uid") or 0,
        exit_code=terminated.get("exitCode") or 0, reason=terminated.get("reason") or "", message=terminated.get("message") or "",
    )  # fmt: skip
