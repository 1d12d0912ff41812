"""What stands behind one port of one pod: who it is, how it behaves, and its open connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .documents import IMAGE_ONLY, Documents


class Connection(Protocol):
    """An accepted connection, as its endpoint sees it."""

    def finish(self) -> None:
        """Answer what is under way, then close."""

    def abort(self) -> None:
        """Close now: the process was killed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Names what answers; the body of the identity echo."""

    pod: str
    namespace: str
    node: str
    ip: str
    container: str
    image: str


@dataclass(slots=True)
class Endpoint:
    """One (container, port). `behaviour` gives the pod's present annotations, so that they act on a living pod."""

    identity: Identity
    port: int
    application: str
    """`http`, `redis`, `nginx`, `guestbook` or `agnhost`: how it answers (see applications)."""
    behaviour: Callable[[str], str | None]
    """Value of a behaviour annotation for this container."""
    log: Callable[[str], None]
    """Writes a line to the container's log."""
    documents: Documents = IMAGE_ONLY
    """For servers of files: what they show."""
    memory: dict[str, object] = field(default_factory=dict)
    """What the application keeps, shared by the ports of one container."""
    requests: int = 0
    is_draining: bool = False
    connections: set[Connection] = field(default_factory=set)

    def drain(self) -> None:
        """Go on answering, but ask clients to leave after each answer."""
        self.is_draining = True

    def close(self) -> None:
        """Finish what is under way and close; new connections are refused by then."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.finish()

    def kill(self) -> None:
        for connection in list(self.connections):
            connection.abort()
