"""The TCP side of the proxy: accept, choose a backend, connect, and copy bytes both ways with back-pressure and half-close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .balancer import Balancer
from .dialer import Dialer
from .table import Backend, Route

RouteSource = Callable[[], Route | None]


class TcpContext:
    """What every connection of the process shares."""

    def __init__(self, dialer: Dialer, balancer: Balancer, tasks: asyncio.TaskGroup, *, attempts_max: int) -> None:
        self.dialer = dialer
        self.balancer = balancer
        self.tasks = tasks
        self.attempts_max = attempts_max
        self.connections: set[Half] = set()


class Half(asyncio.Protocol):
    """One end of a proxied connection; whatever it receives goes to its peer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Half | None = None
        self.saw_eof = False
        self._early = bytearray()
        """What came before there was a peer: a paused transport may still deliver what it had read (uvloop's does)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
        elif self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.saw_eof = True
        peer = self.peer
        if peer is None:
            return True
        if peer.transport is None or peer.saw_eof:
            return False
        peer.end_writing()
        return True

    def end_writing(self) -> None:
        """Pass on that no more will come. TLS tunnels have no half-close: there the backend's own end closes the connection."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            if exc is not None:
                peer.transport.abort()
            else:
                peer.transport.close()

    def join(self, other: Half) -> None:
        self.peer, other.peer = other, self
        for half in (self, other):
            early, half._early = bytes(half._early), bytearray()
            if early:
                half.data_received(early)
            if half.saw_eof and not half.eof_received():
                half.close()

    def close(self) -> None:
        """Close this end; the other follows."""
        if self.transport is not None:
            self.transport.close()


class Frontside(Half):
    """The client's end: it reads nothing until a backend has taken the connection."""

    def __init__(self, context: TcpContext, route: RouteSource, node: str) -> None:
        super().__init__()
        self._context = context
        self._route = route
        self._node = node

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._context.connections.add(self)
        self._context.tasks.create_task(self._connect(), name="proxy-connect")

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.connections.discard(self)
        super().connection_lost(exc)

    async def _connect(self) -> None:
        """Try backends one after the other: a pod that has just gone must not cost its client the connection."""
        tried: list[Backend] = []
        while self.transport is not None and len(tried) < self._context.attempts_max:
            backend = self._next_backend(tried)
            if backend is None:
                break
            tried.append(backend)
            back = Half()
            client = self.transport.get_extra_info("peername")[0]
            try:
                await self._context.dialer.dial(backend, lambda half=back: half, client)  # type: ignore[misc]
            except (OSError, TimeoutError):
                continue
            self._splice(back)
            return
        if self.transport is not None:
            self.transport.abort()

    def _next_backend(self, tried: list[Backend]) -> Backend | None:
        route = self._route()
        if route is None or self.transport is None:
            return None
        return self._context.balancer.pick(route, self._node, self.transport.get_extra_info("peername")[0], tried)

    def _splice(self, back: Half) -> None:
        if self.transport is None:
            if back.transport is not None:
                back.transport.abort()
            return
        if back.transport is None:
            self.transport.abort()
            return
        self.join(back)
        self.transport.resume_reading()
