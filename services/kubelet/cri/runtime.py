"""The Runtime protocol: RuntimeService and ImageService of the CRI, without gRPC. `sim` implements it; others may follow.

Every call may suspend. Failures are RuntimeFailure. A runtime reports that a container changed by itself through the
listener it is given; the kubelet then reads `pod_status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from kubecosm.api.resources import Object

from .logs import LogOptions
from .streams import ProcessStreams
from .types import ContainerConfig, ContainerKind, NodeInfo, PodStatus


class RuntimeListener(Protocol):
    """The kubelet, as a runtime sees it. Both return at once."""

    def pod_changed(self, uid: str) -> None:
        """A container of this pod started, exited or vanished by itself."""

    def images_changed(self, node: str) -> None:
        """A node has an image that it had not before."""

    def warn(self, uid: str, container: str, reason: str, message: str) -> None:
        """Something that the pod's owner should know: becomes a Warning event."""


ConfigOf = Callable[[Object, Object, ContainerKind], ContainerConfig]
"""Builds the configuration of a pod's container, for containers that a runtime takes up again."""


class Runtime(Protocol):
    name: str

    def set_listener(self, listener: RuntimeListener) -> None:
        """Who is told of changes; called once before anything runs."""

    def reserve(self, pod: Object, node: NodeInfo) -> None:
        """A pod that will be recovered: no other may get its address meanwhile."""

    async def recover(self, pod: Object, node: NodeInfo, config_of: ConfigOf, *, rebooted: bool = False) -> None:
        """Take back a pod that ran before a restart of the kubelet; its containers keep id, start time and count.

        `rebooted`: the node was off meanwhile, so that all of them have ended and there is no sandbox.
        """

    async def run_sandbox(self, pod: Object, node: NodeInfo) -> None:
        """Create the pod's sandbox: its address and its shared volumes."""

    async def stop_sandbox(self, uid: str) -> None:
        """Release the address; containers must have been stopped. Idempotent."""

    async def remove_pod(self, uid: str) -> None:
        """Forget everything about the pod. Idempotent."""

    async def pull_image(self, pod: Object, spec: Object, node: NodeInfo) -> int:
        """Make the image present on the node; returns its size in bytes. RuntimeFailure `ErrImagePull` if impossible."""

    def image_present(self, pod: Object, spec: Object, node: NodeInfo) -> bool: ...

    def image_id(self, image: str) -> str: ...

    def images(self, node: str) -> list[tuple[str, int]]:
        """Full names and sizes in bytes of the images that a node has pulled."""

    def image_user(self, image: str) -> str | None:
        """The user that the image names: a number or a name, empty for none (root); None if nobody knows."""

    async def create_container(self, config: ContainerConfig) -> str:
        """Create (not start) a container; returns its id."""

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL once the grace is over; returns when the container has exited. Idempotent."""

    def reset_containers(self, uid: str) -> None:
        """Every init and regular container has ended: begin anew with the first, in the same sandbox."""

    def pod_status(self, uid: str) -> PodStatus | None:
        """The present state; None if the runtime has never seen the pod. Cheap: the kubelet asks often."""

    def update_pod(self, pod: Object) -> None:
        """The pod's metadata or mutable spec changed (annotations, image, resources)."""

    async def exec(self, container_id: str, command: list[str], streams: ProcessStreams, *, lenient: bool = False) -> int:
        """Run a program in a running container; returns its exit code. RuntimeFailure if it cannot be started.

        `lenient` is for probes and hooks: a simulated image is taken to have the programs that they call.
        """

    async def attach(self, container_id: str, streams: ProcessStreams) -> int:
        """Join the main process's streams until it ends or the client leaves."""

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The container's log as bytes ready to be sent; follows if the options say so."""

    async def dial(self, ip: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection to an address of a pod, for port-forward, CONNECT and probes; OSError as connect() gives it."""
