"""The pod worker: brings one pod's containers to its spec and reports their state. Event-driven; idle it is no task and no timer.

`wake` may come from anywhere (the API, the runtime, a probe, a timer); one pass runs at a time and sees the newest of everything.
Imitates pkg/kubelet/pod_workers.go and kubelet.go's SyncPod, SyncTerminatingPod and SyncTerminatedPod.
"""

from __future__ import annotations

from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time
from kubecosm.runtime.logs import get_logger, object_ref

from ..cri.runtime import Runtime
from ..cri.types import ContainerConfig, ContainerKind, ContainerState, NodeInfo, PodStatus, RuntimeFailure
from ..env.environment import Lookup, shows_metadata
from ..probes.manager import ProbeSubject
from ..timers import Timer
from ..volumes.volumes import VolumeMissing
from .actions import ContainerToKill, ContainerToStart, PodActions, compute_actions
from .backoff import format_delay, restart_key
from .changes import adopted_end, generation_of, is_ready_disputed, needs_sync, seconds_left
from .conditions import Verdict as ConditionVerdict
from .container_status import Observation, Waiting
from .context import PodContext, check_user
from .events import NORMAL, WARNING
from .hooks import HookSubject, run_hook
from .images import ImagePuller
from .phase import RUNNING, TERMINAL, is_terminal
from .resize import DEFERRED, INFEASIBLE, Resize, reported_resources, resources_of, told_resources, with_resources
from .spec import all_containers, is_sidecar
from .status import Verdict, compute_status, held_back, refusal_status, with_base_status
from .termination import Stop, Termination, grace_of, stop_container

VOLUME_RETRY_SECONDS_MIN = 0.5
VOLUME_RETRY_SECONDS_MAX = 122.0
CONFIG_RETRY_SECONDS = 10.0
SANDBOX_RETRY_SECONDS = 5.0
FAILURE_RETRY_SECONDS = 10.0
GRACE_SECONDS_MIN = 1.0
HOOK_ERROR = "PostStartHookError"
NO_PULL_SECRETS = "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed."
SANDBOX_CHANGED = "Pod sandbox changed, it will be killed and re-created."
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"

log = get_logger("kubelet")


class PodWorker:
    __slots__ = (
        "_context", "_deadline_timer", "_dirty", "_first_seen", "_images", "_is_running", "_killing", "_last_status", "_resize", "_retry",
        "_runtime", "_termination", "_verdict",
        "_volume_retry_seconds", "_volumes_ready", "_waiting", "is_abandoned", "is_finished", "is_removed", "node", "pod", "uid",
    )  # fmt: skip

    def __init__(self, context: PodContext, pod: Object, node: NodeInfo) -> None:
        self._context = context
        self.pod = pod
        self.node = node
        self.uid: str = pod["metadata"]["uid"]
        self._runtime: Runtime = context.runtime_of(pod)
        self._images = ImagePuller(context, self._runtime, node, self.wake)
        self._waiting: dict[str, Waiting] = {}
        self._killing: set[str] = set()
        self._last_status: Object | None = None
        self._first_seen: float | None = context.clock.monotonic()
        self._dirty = False
        self._is_running = False
        self._retry: Timer | None = None
        self._deadline_timer: Timer | None = None
        self._volumes_ready = False
        self._volume_retry_seconds = VOLUME_RETRY_SECONDS_MIN
        self._verdict: Verdict | None = None
        self._termination: Termination | None = None
        self._resize: Resize | None = None
        self.is_finished = False
        """Every container has ended for good and the final status is known."""
        self.is_removed = False
        """The object is gone from the API."""
        self.is_abandoned = False
        """The node is off: nothing is done or told any more."""

    # -- waking ------------------------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """The API has a newer pod."""
        old, self.pod = self.pod, pod
        if pod.get("status") == self._last_status:
            self._last_status = pod.get("status")  # one object in memory, not two equal ones
        elif (ended := adopted_end(old, pod, self._last_status)) is not None:
            self._last_status = ended
            self.wake()
        elif self._last_status is not None and is_ready_disputed(self._last_status, pod):
            self._context.statuses.set(self.uid, self._last_status)
        if self._resize is None and generation_of(old) != generation_of(pod) and resources_of(old) != resources_of(pod):
            self._resize = Resize(resources_of(old))
        self._runtime.update_pod(self._granted())
        self._context.resources.volumes.update_pod(pod)
        if needs_sync(old, pod):
            self.wake()

    def remove(self) -> None:
        """The pod is gone from the API: end what still runs, then forget it."""
        self.is_removed = True
        self.wake()

    def evict(self, verdict: Verdict) -> None:
        """End the pod for a reason of the node's own."""
        if self._verdict is None and not is_terminal(self.pod):
            self._verdict = verdict
            self.wake()

    def abandon(self) -> None:
        """The node went off: stop in the middle of whatever goes on."""
        self.is_abandoned = True
        self._images.cancel()
        self._cancel_timers()
        if self._termination is not None:
            self._termination.cancel()

    def wake(self) -> None:
        """Look again soon."""
        if self.is_abandoned:
            return
        self._dirty = True
        if not self._is_running:
            self._is_running = True
            self._context.tasks.create_task(self._run(), name="pod-worker")

    async def _run(self) -> None:
        try:
            while self._dirty and not self.is_abandoned:
                self._dirty = False
                await self._guarded_sync()
        finally:
            self._is_running = False

    async def _guarded_sync(self) -> None:
        try:
            await self._sync()
        except Exception as failure:
            if self.is_abandoned:
                return
            log.error("pod sync failed", object=object_ref(self.pod), exc_info=failure)
            self._retry_in(FAILURE_RETRY_SECONDS)

    def _retry_in(self, seconds: float) -> None:
        """Look again after so long, or sooner if asked before."""
        if self.is_abandoned:
            return
        deadline = self._context.clock.monotonic() + seconds
        if self._retry is not None and self._retry.callback is not None:
            if self._retry.deadline <= deadline:
                return
            self._retry.cancel()
        self._retry = self._context.timers.call_later(seconds, self.wake)

    # -- one pass ----------------------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        if self.is_finished:
            self._finish()
            return
        is_over = self._verdict is not None or self._termination is not None
        if is_over or self.is_removed or is_deleting(self.pod) or is_terminal(self.pod):
            await self._terminate()
            return
        if self._check_deadline():
            await self._terminate()
            return
        status = self._runtime.pod_status(self.uid)
        if (self._last_status is None and status is None) or any(one.reason == HOOK_ERROR for one in self._waiting.values()):
            self._report()  # it may be over before the next report
        if self._resize is not None:
            self._apply_resize(self._resize)
        try:
            await self._prepare_volumes()
            await self._apply()
        except VolumeMissing as missing:
            self._context.waiting_for_objects.add(self.uid)
            self._context.events.pod(self.pod, WARNING, "FailedMount", str(missing))
            self._retry_in(self._volume_retry_seconds)
            self._volume_retry_seconds = min(self._volume_retry_seconds * 2, VOLUME_RETRY_SECONDS_MAX)
        except RuntimeFailure as failure:
            self._context.events.pod(self.pod, WARNING, "FailedCreatePodSandBox", failure.message)
            self._retry_in(SANDBOX_RETRY_SECONDS)
        phase = self._report()
        if phase in TERMINAL:
            await self._terminate()

    async def _prepare_volumes(self) -> None:
        if not self._volumes_ready:
            await self._context.resources.check_volumes(self.pod)
            self._volumes_ready = True
            if missing := await self._context.resources.missing_pull_secrets(self.pod):
                self._context.events.pod(self.pod, WARNING, "FailedToRetrieveImagePullSecret", NO_PULL_SECRETS.format(", ".join(missing)))

    def _check_deadline(self) -> bool:
        """activeDeadlineSeconds: true once it has passed."""
        remaining = seconds_left(self.pod, self._last_status or self.pod.get("status") or {}, self._context.clock.now())
        if remaining is None:
            return False
        if remaining <= 0:
            self._context.events.pod(self.pod, NORMAL, "DeadlineExceeded", DEADLINE_MESSAGE)
            self._verdict = Verdict("DeadlineExceeded", DEADLINE_MESSAGE)
            return True
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()  # the limit may have changed
        self._deadline_timer = self._context.timers.call_later(remaining, self._deadline_passed)
        return False

    def _deadline_passed(self) -> None:
        self._deadline_timer = None
        self.wake()

    def _runtime_status(self) -> PodStatus:
        return self._runtime.pod_status(self.uid) or PodStatus(self.uid)

    async def _apply(self) -> None:
        """Do what the decision says."""
        status = self._runtime_status()
        resizing = frozenset(self._resize.restarting.values()) if self._resize is not None else frozenset[str]()
        actions = compute_actions(self._granted(), status, self._context.probes.results(self.uid), resizing)
        if actions.kill_pod and not actions.create_sandbox:
            return
        if actions.restart_all:
            self._restart_all(actions)
            return
        if actions.create_sandbox:
            if status.sandbox_attempts:
                self._context.events.pod(self.pod, NORMAL, "SandboxChanged", SANDBOX_CHANGED)
            await self._runtime.run_sandbox(self.pod, self.node)
            self._context.metrics.sandbox_started()
        for kill in actions.kill:
            self._kill(kill)
        for start in actions.start:
            current = status.containers.get(start.spec["name"])
            if current is not None and (current.container_id in self._killing or current.state is ContainerState.RUNNING):
                continue
            started = await self._start(start)
            if start.kind is ContainerKind.INIT:
                # A sidecar that has started lets the next container go at once.
                self._dirty = self._dirty or (started and is_sidecar(start.spec))

    def _restart_all(self, actions: PodActions) -> None:
        """The pod begins anew once nothing runs; containers are told nothing before they are killed."""
        for kill in actions.kill:
            self._kill(kill, at_once=True)
        if not actions.kill:
            self._waiting.clear()
            self._runtime.reset_containers(self.uid)
            self._dirty = True

    # -- resizing ----------------------------------------------------------------------------------------------------

    def _granted(self) -> Object:
        """The pod with the resources that it has been given, which may be other than those it asks for."""
        return self.pod if self._resize is None else with_resources(self.pod, self._resize.granted)

    def _apply_resize(self, resize: Resize) -> None:
        """Grant what is asked for if the node has room; say so if it has not."""
        if resources_of(self.pod) == resize.granted:
            resize.pending = None
            return
        refusal = self._context.resize(self.pod)
        if refusal is None:
            self._context.events.pod(self.pod, NORMAL, "ResizeStarted", f"Pod resize started: {told_resources(self.pod)}")
            resize.grant(self.pod, self._runtime_status())
            self._runtime.update_pod(self._granted())
            self._tell_resized(resize)
            return
        reason = DEFERRED if refusal.may_come else INFEASIBLE
        if resize.pending is None or resize.pending.message != refusal.message:
            self._context.events.pod(
                self.pod, WARNING, f"Resize{reason}", f"Pod resize {reason}: {told_resources(self.pod, refusal.message)}"
            )
        resize.pending = ConditionVerdict(True, reason, refusal.message)

    def _tell_resized(self, resize: Resize) -> None:
        if resize.is_done():
            self._context.events.pod(self.pod, NORMAL, "ResizeCompleted", f"Pod resize completed: {told_resources(self.pod)}")

    # -- starting ----------------------------------------------------------------------------------------------------

    async def _start(self, start: ContainerToStart) -> bool:
        """Start a container unless something holds it back; the reason why not becomes its waiting state."""
        name = start.spec["name"]
        waiting = self._hold_back(start) or self._images.ensure(self.pod, start.kind, start.spec)
        if waiting is None:
            try:
                if not await self._create_and_start(start):
                    return False
            except RuntimeFailure as failure:
                self._context.events.container(self.pod, start.kind, name, WARNING, "Failed", f"Error: {failure.message}")
                waiting = Waiting(failure.reason, failure.message)
                self._context.waiting_for_objects.add(self.uid)
                self._retry_in(CONFIG_RETRY_SECONDS)
        if waiting is None:
            self._waiting.pop(name, None)
            return True
        if waiting.reason == "ContainerCreating":
            self._waiting.pop(name, None)
        else:
            self._waiting[name] = waiting
        return False

    def _hold_back(self, start: ContainerToStart) -> Waiting | None:
        """Crash-loop back-off."""
        name = start.spec["name"]
        current = self._runtime_status().containers.get(name)
        if current is None or current.state is not ContainerState.EXITED or current.finished_at is None:
            return None
        backoff, key = self._context.backoff, restart_key(start.spec)
        remaining = backoff.remaining(self.uid, key, current.finished_at, self._context.clock.now())
        if remaining <= 0:
            return None
        meta = self.pod["metadata"]
        where = f"{meta['name']}_{meta['namespace']}({self.uid})"
        if name not in self._waiting:
            message = f"Back-off restarting failed container {name} in pod {where}"
            self._context.events.container(self.pod, start.kind, name, WARNING, "BackOff", message)
        self._retry_in(remaining)
        return Waiting(
            "CrashLoopBackOff", f"back-off {format_delay(backoff.delay(self.uid, key))} restarting failed container={name} pod={where}"
        )

    async def _create_and_start(self, start: ContainerToStart) -> bool:
        """False if it was started, but its hook failed. RuntimeFailure if it was not."""
        name, context = start.spec["name"], self._context
        status = self._runtime_status()
        check_user(self.pod, start.spec, self._runtime.image_user(start.spec.get("image", "")))
        await context.resources.check_environment(self.pod, start.spec, pod_ip=status.ip, node_ip=self.node.ip)
        current = status.containers.get(name)
        if current is not None:
            context.probes.forget_container(self.uid, current.container_id)
        if current is not None and current.finished_at is not None:
            context.backoff.next(self.uid, restart_key(start.spec), current.finished_at)
        restarts = current.restart_count + 1 if current is not None else 0
        held = context.resources.snapshot(self.pod, start.spec)
        container_id = await self._runtime.create_container(self.config(self.pod, start.spec, start.kind, restarts, held))
        context.events.container(self.pod, start.kind, name, NORMAL, "Created", "Container created")
        await self._runtime.start_container(container_id)
        context.metrics.container_started(start.kind)
        self._images.started(name)
        context.events.container(self.pod, start.kind, name, NORMAL, "Started", "Container started")
        self._watch_probes(start.kind, start.spec)
        post_start = (start.spec.get("lifecycle") or {}).get("postStart")
        if post_start:
            subject = HookSubject(self.pod, start.spec, container_id, status.ip)
            failure = await run_hook(self._runtime, context.clock, post_start, subject)
            if failure:
                # Why is told by the container's state alone: it may hold secrets.
                context.events.container(self.pod, start.kind, name, WARNING, "FailedPostStartHook", "PostStartHook failed")
                running = self._runtime_status().containers[name]
                self._kill(ContainerToKill(running, start.spec, "FailedPostStartHook"))
                self._waiting[name] = Waiting(HOOK_ERROR, failure)
                return False
        return True

    def config(self, pod: Object, spec: Object, kind: ContainerKind, restarts: int = 0, held: Lookup | None = None) -> ContainerConfig:
        """What the runtime needs to create a container; environment and volumes are made when asked for.

        The environment is that of now, with the ConfigMaps and Secrets `held`.
        """
        resources, started = self._context.resources, format_time(self._context.clock.now())
        as_it_was = pod if shows_metadata(spec) else None
        return ContainerConfig(
            pod=pod, spec=spec, kind=kind, image_id=self._runtime.image_id(spec.get("image", "")), restart_count=restarts,
            environment=lambda: resources.environment(
                as_it_was or self.pod, spec, pod_ip=self._runtime_status().ip, node_ip=self.node.ip, held=held, started=started
            ),
            volumes=lambda: resources.mounted(self.pod, pod_ip=self._runtime_status().ip, node_ip=self.node.ip),
        )  # fmt: skip

    def _watch_probes(self, kind: ContainerKind, spec: Object, *, resumed: bool = False) -> None:
        status = self._runtime_status()
        current = status.containers.get(spec["name"])
        if current is not None and current.state is ContainerState.RUNNING and kind is not ContainerKind.EPHEMERAL:
            self._context.probes.watch(ProbeSubject(lambda: self.pod, spec, kind, current, status.ip), resumed=resumed)

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _kill(self, kill: ContainerToKill, *, at_once: bool = False) -> None:
        """Stop one container to replace it; the worker goes on meanwhile."""
        if kill.status.container_id in self._killing:
            return
        self._killing.add(kill.status.container_id)
        self._context.tasks.create_task(self._kill_container(kill, at_once=at_once), name="container-kill")

    async def _kill_container(self, kill: ContainerToKill, *, at_once: bool) -> None:
        grace = 0.0 if at_once else grace_of(self.pod, kill.spec, kill.reason)
        ends_at, kind = self._context.clock.monotonic() + grace, self.kind_of(kill.status.name)
        stop = Stop(self.pod, kind, kill.spec, kill.status, grace, ends_at, self._runtime_status().ip, kill.message)
        await stop_container(self._context, self._runtime, stop)
        self._killing.discard(kill.status.container_id)
        self._context.probes.forget_container(self.uid, kill.status.container_id)
        self.wake()

    async def _terminate(self) -> None:
        """End every container, report the final state, release the sandbox, and let go of the API object if it is being deleted."""
        self._images.cancel()
        if self._termination is None:
            self._context.probes.stop_restarting(self.uid)
            self._termination = Termination(self._context, self._runtime, self.wake)
        grace = self._grace()
        if not self._termination.advance(self.pod, self._runtime_status(), grace):
            return
        self._context.probes.forget(self.uid)
        if not self.is_removed:
            self._report(terminating=True)
        await self._runtime.stop_sandbox(self.uid)
        if not self.is_removed:
            self._report(terminating=True)
        self.is_finished = True
        self._context.on_ended(self.uid)
        self._finish()

    def _grace(self) -> float:
        """pod_workers.go's calculateEffectiveGracePeriod."""
        own = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        if self._verdict is not None:
            limit = self._verdict.grace_seconds
            return max(GRACE_SECONDS_MIN, float(own if limit is None else min(own, limit)))
        asked = self.pod["metadata"].get("deletionGracePeriodSeconds") if is_deleting(self.pod) else None
        return max(GRACE_SECONDS_MIN, float(own if asked is None else asked))

    def _cancel_timers(self) -> None:
        for timer in (self._retry, self._deadline_timer):
            if timer is not None:
                timer.cancel()
        self._retry = self._deadline_timer = None

    def _finish(self) -> None:
        """Nothing runs any more."""
        self._cancel_timers()
        if self.is_removed:
            self._context.on_finished(self.uid)
        elif is_deleting(self.pod):
            self._context.statuses.delete(self.uid)

    def kind_of(self, container: str) -> ContainerKind:
        return next((kind for kind, spec in all_containers(self.pod) if spec["name"] == container), ContainerKind.REGULAR)

    # -- recovery ----------------------------------------------------------------------------------------------------

    async def recover(self, *, rebooted: bool = False) -> None:
        """Take the pod up again as its status tells it was: after a restart of the kubelet, or of the whole node, where nothing runs."""
        reported = self.pod.get("status") or {}
        await self._runtime.recover(self.pod, self.node, self.config, rebooted=rebooted)
        self._last_status = reported
        self._first_seen = None
        self._volumes_ready = True
        if (reported_now := reported_resources(self.pod)) != resources_of(self.pod):
            self._resize = Resize(reported_now)
        if is_terminal(self.pod) and not is_deleting(self.pod):
            self.is_finished = True
            self._context.on_ended(self.uid)
            return
        ready = {s["name"]: s.get("ready") for key in ("initContainerStatuses", "containerStatuses") for s in reported.get(key) or ()}
        now = self._context.clock.now()
        for kind, spec in all_containers(self.pod):
            self._watch_probes(kind, spec, resumed=bool(ready.get(spec["name"])))
            current = self._runtime_status().containers.get(spec["name"])
            if current is not None and current.restart_count and not rebooted:
                self._context.backoff.restore(self.uid, restart_key(spec), current.restart_count, current.finished_at or now)
        self.wake()

    # -- reporting ---------------------------------------------------------------------------------------------------

    def _report(self, *, terminating: bool = False) -> str:
        """Compute the status and hand it to the status manager; returns the phase."""
        resize: dict[str, ConditionVerdict] = {}
        if self._resize is not None:
            if self._resize.settle(self._runtime_status()):
                self._tell_resized(self._resize)
            resize = self._resize.conditions()
        seen = Observation(self._runtime_status(), self._context.probes.results(self.uid), self._waiting, self.node.ip, resize)
        status, phase = self._compute(seen, terminating=terminating)
        if self.is_abandoned:
            return phase
        if status != self._last_status:
            if self._first_seen is not None and status["phase"] == RUNNING:
                self._context.metrics.pod_started(self._context.clock.monotonic() - self._first_seen)
                self._first_seen = None
            self._last_status = status
            self._context.statuses.set(self.uid, status)
        return phase

    def _compute(self, seen: Observation, *, terminating: bool) -> tuple[Object, str]:
        """The status as it is to be told, and the phase as it is: the end of a pod is told when all its containers have ended."""
        now, verdict = self._context.clock.now(), self._verdict
        if verdict is not None and verdict.is_refusal:
            return refusal_status(self.pod, now, verdict), verdict.phase
        kinds = self._resize.conditions() if self._resize is not None else ()
        pod = with_base_status(self._granted(), self._last_status, kinds)
        status = compute_status(pod, seen, now, terminating=terminating, verdict=verdict)
        phase, before = str(status["phase"]), pod.get("status") or {}
        if phase in TERMINAL and before.get("phase") not in TERMINAL and seen.runtime.any_running():
            return held_back(status, before), phase
        return status, phase
