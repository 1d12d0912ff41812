"""The Runtime protocol: RuntimeService and ImageService of the CRI, without gRPC. `sim` implements it; others may follow.

Every call may suspend. Failures are RuntimeFailure. A runtime reports that a container changed by itself through the
listener it is given; the kubelet then reads `pod_status`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from kubecosm.api.resources import Object

from .logs import LogOptions
from .streams import ProcessStreams
from .types import ContainerConfig, NodeInfo, PodStatus

PodListener = Callable[[str], None]
"""Called with the pod's uid after one of its containers started, exited or vanished by itself."""


class Runtime(Protocol):
    name: str

    def set_listener(self, listener: PodListener) -> None:
        """Who is told of changes; called once before anything runs."""

    async def recover(self, pods: Iterable[tuple[Object, NodeInfo]]) -> None:
        """Take back pods that ran before a restart of the kubelet; their containers keep id, start time and count."""

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

    async def create_container(self, config: ContainerConfig) -> str:
        """Create (not start) a container; returns its id."""

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL once the grace is over; returns when the container has exited. Idempotent."""

    def pod_status(self, uid: str) -> PodStatus | None:
        """The present state; None if the runtime has never seen the pod. Cheap: the kubelet asks often."""

    def update_pod(self, pod: Object) -> None:
        """The pod's metadata or mutable spec changed (annotations, image, resources)."""

    async def exec(self, container_id: str, command: list[str], streams: ProcessStreams) -> int:
        """Run a program in a running container; returns its exit code. RuntimeFailure if it cannot be started."""

    async def attach(self, container_id: str, streams: ProcessStreams) -> int:
        """Join the main process's streams until it ends or the client leaves."""

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The container's log as bytes ready to be sent; follows if the options say so."""

    async def dial(self, uid: str, port: int) -> tuple[str, int]:
        """Where a connection to this port of the pod must be opened, for port-forward, CONNECT and probes."""
