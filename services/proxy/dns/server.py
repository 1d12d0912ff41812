"""The DNS sockets: UDP with truncation, TCP with length prefixes, both answered by one Resolver."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter

import dns.rcode

from .upstream import Upstream
from .wire import ROTATIONS_MAX, AnswerCache, Question, parse, refuse, respond, respond_upstream
from .zone import Zone

MESSAGE_BYTES_MIN = 12
UPSTREAM_QUERIES_MAX = 512
TCP_QUERIES_PIPELINED_MAX = 64
RCODE_NAMES = tuple(dns.rcode.to_text(dns.rcode.Rcode(number)) for number in range(16))


class Resolver:
    """Query bytes in, response bytes out. Cluster names are answered at once; the others need a task and a wait."""

    def __init__(self, zone: Zone, upstream: Upstream, tasks: asyncio.TaskGroup, *, ttl_seconds: int, cache_entries_max: int) -> None:
        self.zone = zone
        self.tasks = tasks
        self._upstream = upstream
        self._ttl_seconds = ttl_seconds
        self._caches = {"udp": AnswerCache(cache_entries_max), "tcp": AnswerCache(cache_entries_max)}
        self._forwarding = asyncio.Semaphore(UPSTREAM_QUERIES_MAX)
        self.requests: Counter[tuple[str, str]] = Counter()
        self.responses: Counter[str] = Counter()

    def answer_now(self, query: bytes, *, tcp: bool) -> bytes | Question | None:
        """The response if the zone has it; a Question if it must be forwarded (`answer_later`); None if it deserves no answer."""
        protocol = "tcp" if tcp else "udp"
        cached = self._caches[protocol].get(query, self.zone.serial)
        if cached is not None:
            rtype, body = cached
            self.requests[protocol, rtype] += 1
            return self._counted(query[:2] + body)
        question = parse(query, tcp=tcp)
        if question is None:
            return None
        self.requests[protocol, question.type or "other"] += 1
        if not question.type:
            return self._counted(refuse(question, dns.rcode.NOTIMP))
        return self._from_zone(query, question, self._caches[protocol])

    def _from_zone(self, query: bytes, question: Question, cache: AnswerCache) -> bytes | Question:
        if not self.zone.covers(question.name):
            return question
        answer = self.zone.lookup(question.name, question.type)
        if answer.alias:
            return question
        turns = range(max(1, min(len(answer.records), ROTATIONS_MAX)))
        responses = [respond(question, answer, self.zone, self._ttl_seconds, rotation=turn) for turn in turns]
        cache.put(query, question.type, responses)
        return self._counted(responses[0])

    async def answer_later(self, question: Question) -> bytes:
        """Ask upstream, following an alias that leads out of the zone."""
        async with self._forwarding:
            if not self.zone.covers(question.name):
                rrsets, rcode = await self._upstream.resolve(question.name, question.type)
                return self._counted(respond_upstream(question, rrsets, rcode))
            answer = self.zone.lookup(question.name, question.type)
            rrsets, _ = await self._upstream.resolve(answer.alias, question.type) if answer.alias else ([], dns.rcode.NOERROR)
            return self._counted(respond(question, answer, self.zone, self._ttl_seconds, extra=rrsets))

    def _counted(self, response: bytes) -> bytes:
        self.responses[RCODE_NAMES[response[3] & 0x0F]] += 1
        return response


class UdpServer(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) < MESSAGE_BYTES_MIN or self._transport is None:
            return
        answer = self._resolver.answer_now(data, tcp=False)
        if isinstance(answer, bytes):
            self._transport.sendto(answer, addr)
        elif answer is not None:
            self._resolver.tasks.create_task(self._forward(answer, addr), name="dns-forward")

    async def _forward(self, question: Question, addr: tuple[str, int]) -> None:
        response = await self._resolver.answer_later(question)
        if self._transport is not None:
            self._transport.sendto(response, addr)


class TcpServer(asyncio.Protocol):
    """One connection; queries may be pipelined, forwarded answers may come out of order as RFC 7766 allows."""

    def __init__(self, resolver: Resolver, idle_seconds: float) -> None:
        self._resolver = resolver
        self._idle_seconds = idle_seconds
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._restart_timer()
        while len(self._buffer) >= 2:
            size = int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < 2 + size:
                return
            query, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            self._handle(query)

    def _handle(self, query: bytes) -> None:
        answer = self._resolver.answer_now(query, tcp=True) if len(query) >= MESSAGE_BYTES_MIN else None
        if isinstance(answer, bytes):
            self._send(answer)
        elif answer is None or self._pending >= TCP_QUERIES_PIPELINED_MAX:
            if self._transport is not None:
                self._transport.close()
        else:
            self._pending += 1
            self._resolver.tasks.create_task(self._forward(answer), name="dns-forward-tcp")

    async def _forward(self, question: Question) -> None:
        response = await self._resolver.answer_later(question)
        self._pending -= 1
        self._send(response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None:
            self._transport.write(struct.pack("!H", len(response)) + response)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_idle)

    def _close_idle(self) -> None:
        if self._transport is not None:
            self._transport.close()
