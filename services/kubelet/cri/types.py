"""What a runtime tells the kubelet about sandboxes and containers, and what the kubelet hands it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.resources import Object

from ..volumes.filesystem import Node


class ContainerState(enum.Enum):
    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


class ContainerKind(enum.Enum):
    """The list of the pod spec that a container is declared in."""

    INIT = "initContainers"
    REGULAR = "containers"
    EPHEMERAL = "ephemeralContainers"


@dataclass(slots=True)
class ContainerStatus:
    """One container, dead or alive, as the runtime knows it. `container_id` is `<runtime>://<64 hex digits>`."""

    container_id: str
    name: str
    image: str
    image_id: str
    state: ContainerState
    created_at: datetime
    restart_count: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    uid: int = 0
    """The user that its main process runs as."""
    is_reset: bool = False
    """It ended with all others of its pod, to be started anew as if it had never run; it counts for restarts only."""
    sandbox_attempt: int = 0
    """Which sandbox of its pod it was made in; one of an earlier sandbox counts for restarts only."""


@dataclass(slots=True)
class PodStatus:
    """What runs of a pod now. `containers` holds the newest container of each name, `previous` the one before it.

    `sandbox_id` is empty when there is no ready sandbox; `ip` is the pod's own address (the node's for hostNetwork).
    """

    uid: str
    sandbox_id: str = ""
    sandbox_attempts: int = 0
    ip: str = ""
    containers: dict[str, ContainerStatus] = field(default_factory=dict)
    previous: dict[str, ContainerStatus] = field(default_factory=dict)

    def current(self, name: str) -> ContainerStatus | None:
        """The newest container of this name, if it was made in the present sandbox."""
        status = self.latest(name)
        return status if status is not None and status.sandbox_attempt == self.sandbox_attempts else None

    def latest(self, name: str) -> ContainerStatus | None:
        """The newest container of this name, in whatever sandbox."""
        status = self.containers.get(name)
        return None if status is None or status.is_reset else status

    def is_running(self, name: str) -> bool:
        status = self.containers.get(name)
        return status is not None and status.state is ContainerState.RUNNING

    def any_running(self) -> bool:
        return any(status.state is ContainerState.RUNNING for status in self.containers.values())


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """The node a pod runs on, as far as a runtime needs to know."""

    name: str
    ip: str
    pod_cidr: str


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container to create. `spec` is the container's entry in the pod spec, `image_id` what the pull returned.

    `environment` and `volumes` (nodes by volume name) compute what they give when called, so a runtime that never needs them never pays.
    """

    pod: Object
    spec: Object
    kind: ContainerKind
    image_id: str
    restart_count: int
    environment: Callable[[], Awaitable[Mapping[str, str]]]
    volumes: Callable[[], Awaitable[Mapping[str, Node]]]


class RuntimeFailure(Exception):
    """A runtime call failed: `reason` becomes the container's waiting reason (`ErrImagePull`, `RunContainerError`, …)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
