"""Schedules the probes of running containers and keeps their verdicts.

A probe costs nothing but a timer until it is due; then one short task runs the check. Results wake the pod's worker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..cri.types import ContainerKind, ContainerState, ContainerStatus
from ..pods.actions import ProbeResults
from ..pods.spec import probed_host
from ..timers import Timer, Timers
from .checks import CheckResult, Target, check_grpc, check_http, check_tcp, resolve_port
from .state import ProbeKind, ProbeSettings, ProbeState

EXEC_OUTPUT_BYTES_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class ProbeSubject:
    """One container under probe: the pod as it is now, the container's spec, its kind and id."""

    pod: Callable[[], Object]
    spec: Object
    kind: ContainerKind
    status: ContainerStatus
    ip: str


ExecCheck = Callable[[str, list[str], float], Awaitable[CheckResult]]
"""(container id, command, timeout seconds) → result."""
OnChange = Callable[[str], None]
OnFailure = Callable[[ProbeSubject, str, str], None]
"""(subject, reason and message of a Warning event)."""
Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(slots=True)
class _Probe:
    subject: ProbeSubject
    spec: Object
    state: ProbeState
    timer: Timer | None = None
    is_running: bool = False
    is_stopped: bool = False
    successes: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ProbeCount:
    """How often one probe of a living container has succeeded and failed."""

    namespace: str
    pod: str
    uid: str
    container: str
    kind: ProbeKind
    successes: int
    failures: int


@dataclass(slots=True)
class _PodProbes:
    uid: str
    by_container: dict[str, dict[ProbeKind, _Probe]] = field(default_factory=dict)
    results: ProbeResults = field(default_factory=lambda: ProbeResults({}, {}, {}))


NO_RESULTS = ProbeResults()


class ProbeManager:
    """`results(uid)` is what counts now; `watch` and `forget` are called as containers come and go."""

    def __init__(
        self,
        *,
        clock: Clock,
        timers: Timers,
        tasks: asyncio.TaskGroup,
        rng: random.Random,
        dial: Dial,
        exec_check: ExecCheck,
        on_change: OnChange,
        on_failure: OnFailure,
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._tasks = tasks
        self._rng = rng
        self._dial = dial
        self._exec_check = exec_check
        self._on_change = on_change
        self._on_failure = on_failure
        self._pods: dict[str, _PodProbes] = {}

    def results(self, uid: str) -> ProbeResults:
        probes = self._pods.get(uid)
        return probes.results if probes is not None else NO_RESULTS

    def watch(self, subject: ProbeSubject, *, resumed: bool = False) -> None:
        """A container has started: probe it from now on. Idempotent by container id.

        `resumed`: it ran before the kubelet restarted and was ready then; it stays so until a probe says otherwise.
        """
        kinds = [kind for kind in ProbeKind if subject.spec.get(kind.field)]
        if not kinds:
            return
        uid = subject.pod()["metadata"]["uid"]
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._pods[uid] = _PodProbes(uid)
        container_id = subject.status.container_id
        if container_id in pod.by_container:
            return
        probes = pod.by_container[container_id] = {}
        for kind in kinds:
            spec = subject.spec[kind.field]
            state = ProbeState(kind, ProbeSettings.of(spec))
            if resumed:
                state.result = True
                state.on_hold = kind is ProbeKind.STARTUP
            probes[kind] = _Probe(subject, spec, state)
            self._publish(pod, container_id, state)
        self._start_due(pod, container_id)

    def forget(self, uid: str) -> None:
        """The pod has ended: stop everything."""
        pod = self._pods.pop(uid, None)
        if pod is not None:
            for container_id in list(pod.by_container):
                self._drop(pod, container_id)

    def forget_container(self, uid: str, container_id: str) -> None:
        pod = self._pods.get(uid)
        if pod is not None:
            self._drop(pod, container_id)

    def stop_restarting(self, uid: str) -> None:
        """The pod terminates: liveness and startup no longer matter, readiness does."""
        pod = self._pods.get(uid)
        if pod is not None:
            for probes in pod.by_container.values():
                for kind in (ProbeKind.LIVENESS, ProbeKind.STARTUP):
                    if (probe := probes.get(kind)) is not None:
                        self._halt(probe)

    def _drop(self, pod: _PodProbes, container_id: str) -> None:
        for kind, probe in pod.by_container.pop(container_id, {}).items():
            self._halt(probe)
            _results_of(pod, kind).pop(container_id, None)

    @staticmethod
    def _halt(probe: _Probe) -> None:
        probe.is_stopped = True
        if probe.timer is not None:
            probe.timer.cancel()

    def _publish(self, pod: _PodProbes, container_id: str, state: ProbeState) -> None:
        if state.result is None:
            _results_of(pod, state.kind).pop(container_id, None)
        else:
            _results_of(pod, state.kind)[container_id] = state.result

    def _start_due(self, pod: _PodProbes, container_id: str) -> None:
        """Schedule the probes that may run now: startup first, the others once it has succeeded."""
        probes = pod.by_container.get(container_id, {})
        startup = probes.get(ProbeKind.STARTUP)
        is_started = startup is None or startup.state.result is True
        for kind, probe in probes.items():
            may_run = kind is ProbeKind.STARTUP or is_started
            if may_run and probe.timer is None and not probe.state.on_hold and not probe.is_stopped:
                started_at = probe.subject.status.started_at
                assert started_at is not None
                self._schedule(pod, probe, probe.state.first_delay(started_at, self._clock.now()))

    def _schedule(self, pod: _PodProbes, probe: _Probe, seconds: float) -> None:
        probe.timer = self._timers.call_later(seconds, lambda: self._due(pod, probe))

    def _due(self, pod: _PodProbes, probe: _Probe) -> None:
        if not probe.is_stopped and probe.subject.status.state is ContainerState.RUNNING:
            self._schedule(pod, probe, probe.state.settings.period)
            if not probe.is_running:
                probe.is_running = True
                self._tasks.create_task(self._run(pod, probe), name="probe")

    async def _run(self, pod: _PodProbes, probe: _Probe) -> None:
        try:
            result = await self._check(probe)
        finally:
            probe.is_running = False
        if probe.is_stopped or probe.subject.status.state is not ContainerState.RUNNING:
            return
        name = probe.state.kind.value
        if result.is_error:
            self._on_failure(probe.subject, "Unhealthy", f"{name} probe errored and resulted in unknown state: {result.message}")
            return
        if result.success:
            probe.successes += 1
            if result.is_warning:
                self._on_failure(probe.subject, "ProbeWarning", f"{name} probe warning: {result.message}")
        else:
            probe.failures += 1
            self._on_failure(probe.subject, "Unhealthy", f"{name} probe failed: {result.message}")
        if probe.state.observe(result.success):
            container_id = probe.subject.status.container_id
            self._publish(pod, container_id, probe.state)
            self._start_due(pod, container_id)
            self._on_change(pod.uid)
        if probe.state.on_hold:
            self._halt(probe)

    def counts(self) -> Iterator[ProbeCount]:
        """The counters of all probes, for metrics."""
        for pod in self._pods.values():
            for probes in pod.by_container.values():
                for kind, probe in probes.items():
                    meta = probe.subject.pod()["metadata"]
                    name = probe.subject.spec["name"]
                    yield ProbeCount(meta["namespace"], meta["name"], pod.uid, name, kind, probe.successes, probe.failures)

    async def _check(self, probe: _Probe) -> CheckResult:
        subject, spec, timeout = probe.subject, probe.spec, probe.state.settings.timeout
        try:
            if (action := spec.get("exec")) is not None:
                return await self._exec_check(subject.status.container_id, list(action.get("command") or ()), timeout)
            if (action := spec.get("httpGet")) is not None:
                return await check_http(self._target(subject, action), action, timeout)
            if (action := spec.get("tcpSocket")) is not None:
                return await check_tcp(self._target(subject, action), timeout)
            if (action := spec.get("grpc")) is not None:
                return await check_grpc(self._target(subject, action), action.get("service") or "", timeout)
        except ValueError as failure:
            return CheckResult(False, str(failure), is_error=True)
        return CheckResult(False, "missing probe handler")

    def _target(self, subject: ProbeSubject, action: Object) -> Target:
        return Target(probed_host(subject.pod(), action, subject.ip), resolve_port(action["port"], subject.spec), self._dial)


def _results_of(pod: _PodProbes, kind: ProbeKind) -> dict[str, bool]:
    results = {
        ProbeKind.LIVENESS: pod.results.liveness,
        ProbeKind.READINESS: pod.results.readiness,
        ProbeKind.STARTUP: pod.results.startup,
    }[kind]
    assert isinstance(results, dict)
    return results
