"""Getting an image ready for a container: pull policy, events, and the back-off after failures (pkg/kubelet/images/image_manager.go)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kubecosm.api.resources import Object

from ..cri.images import ImageNameError, parse_image
from ..cri.runtime import Runtime
from ..cri.types import ContainerKind, NodeInfo, RuntimeFailure
from .backoff import format_delay
from .container_status import Waiting
from .context import PodContext
from .events import NORMAL, WARNING

ANNOUNCE_SECONDS = 1.0
"""How long ErrImagePull shows before it becomes ImagePullBackOff."""
NEVER_RETRY_SECONDS = 12.5
"""An image that may not be pulled is looked for again after so long: the mean of a pod worker's jittered back-off."""


def pull_policy(spec: Object) -> str:
    """imagePullPolicy with the API's default: Always for `latest`, else IfNotPresent."""
    policy = spec.get("imagePullPolicy")
    if policy:
        return str(policy)
    image = spec.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent"


@dataclass(slots=True)
class _Failure:
    image: str
    message: str
    retry_at: float
    """Monotonic time of the next attempt."""
    is_announced: bool = False


class ImagePuller:
    """Pulls for one pod; `ensure` returns None when the image is ready, else why the container waits. `wake`: that may change."""

    __slots__ = ("_context", "_failures", "_node", "_pulls", "_ready", "_runtime", "_wake")

    def __init__(self, context: PodContext, runtime: Runtime, node: NodeInfo, wake: Callable[[], None]) -> None:
        self._context = context
        self._runtime = runtime
        self._node = node
        self._wake = wake
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, _Failure] = {}
        self._ready: set[str] = set()

    def cancel(self) -> None:
        for pull in self._pulls.values():
            pull.cancel()

    def started(self, name: str) -> None:
        """The container was started: its next start looks at the image again."""
        self._ready.discard(name)

    def ensure(self, pod: Object, kind: ContainerKind, spec: Object) -> Waiting | None:
        name, image = spec["name"], spec.get("image", "")
        if name in self._ready:
            return None
        if name in self._pulls:
            return Waiting("ContainerCreating")
        try:
            parse_image(image)
        except ImageNameError as wrong:
            message = f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {wrong}'
            return self._refuse(pod, kind, name, Waiting("InvalidImageName", message), "InspectFailed")
        policy = pull_policy(spec)
        is_present = policy != "Always" and self._runtime.image_present(pod, spec, self._node)
        if is_present:
            message = f'Container image "{image}" already present on machine and can be accessed by the pod'
            self._context.events.container(pod, kind, name, NORMAL, "Pulled", message)
            self._ready.add(name)
            return None
        if policy == "Never":
            self._context.timers.call_later(NEVER_RETRY_SECONDS, self._wake)
            message = f'Container image "{image}" is not present with pull policy of Never'
            return self._refuse(pod, kind, name, Waiting("ErrImageNeverPull", message), "ErrImageNeverPull")
        failure = self._failures.get(name)
        if failure is not None and failure.image == image and self._context.clock.monotonic() < failure.retry_at:
            return self._back_off(pod, kind, spec, failure)
        self._context.events.container(pod, kind, name, NORMAL, "Pulling", f'Pulling image "{image}"')
        self._pulls[name] = self._context.tasks.create_task(self._pull(pod, kind, spec), name="image-pull")
        return Waiting("ContainerCreating")

    def _refuse(self, pod: Object, kind: ContainerKind, name: str, waiting: Waiting, reason: str) -> Waiting:
        """No pull is tried: tell why."""
        self._warn(pod, kind, name, reason, waiting.message)
        self._warn(pod, kind, name, "Failed", f"Error: {waiting.reason}")
        return waiting

    def _warn(self, pod: Object, kind: ContainerKind, name: str, reason: str, message: str) -> None:
        self._context.events.container(pod, kind, name, WARNING, reason, message)

    def _back_off(self, pod: Object, kind: ContainerKind, spec: Object, failure: _Failure) -> Waiting:
        """The first look after a failure shows the failure itself, later ones the back-off."""
        image = spec.get("image", "")
        if not failure.is_announced:
            failure.is_announced = True
            self._context.timers.call_later(ANNOUNCE_SECONDS, self._wake)
            return Waiting("ErrImagePull", failure.message)
        self._context.events.container(pod, kind, spec["name"], NORMAL, "BackOff", f'Back-off pulling image "{image}"')
        self._warn(pod, kind, spec["name"], "Failed", "Error: ImagePullBackOff")
        return Waiting("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {failure.message}')

    async def _pull(self, pod: Object, kind: ContainerKind, spec: Object) -> None:
        name, image = spec["name"], spec.get("image", "")
        context = self._context
        started = context.clock.monotonic()
        try:
            size = await self._runtime.pull_image(pod, spec, self._node)
        except RuntimeFailure as failure:
            self._warn(pod, kind, name, "Failed", f'Failed to pull image "{image}": {failure.message}')
            self._warn(pod, kind, name, "Failed", "Error: ErrImagePull")
            uid = pod["metadata"]["uid"]
            context.image_backoff.next(uid, image, context.clock.now())
            delay = context.image_backoff.delay(uid, image)
            self._failures[name] = _Failure(image, failure.message, context.clock.monotonic() + delay)
            context.timers.call_later(delay, self._wake)
        else:
            took = format_delay(context.clock.monotonic() - started)
            message = f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: {size} bytes.'
            context.events.container(pod, kind, name, NORMAL, "Pulled", message)
            self._failures.pop(name, None)
            self._ready.add(name)
        finally:
            self._pulls.pop(name, None)
            self._wake()
