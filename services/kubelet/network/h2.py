"""Just enough HTTP/2 for gRPC health checks, both sides: frames (RFC 9113), no header compression state of our own.

The server side answers any unary call with the pod's health status; it never needs to decode headers. Leaves out:
other gRPC methods, flow control beyond the initial window, priorities, push.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
FRAME_BYTES_MAX = 16_384

HEALTH_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
HEALTH_CODE = {name: code for code, name in HEALTH_STATUS.items()}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field that is neither indexed nor Huffman-coded (RFC 7541 §6.2.2); name and value under 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _message(payload: bytes) -> bytes:
    """A gRPC length-prefixed message, uncompressed."""
    return b"\x00" + struct.pack(">I", len(payload)) + payload


class H2Server:
    """One server connection as a byte machine: `receive(data)` returns bytes to send. `health` names the status to answer."""

    def __init__(self, health: Callable[[], str]) -> None:
        self._health = health
        self._buffer = b""
        self._greeted = False

    def receive(self, data: bytes) -> bytes:
        """Feed bytes from the client; ValueError if it does not speak HTTP/2."""
        self._buffer += data
        out = b""
        if not self._greeted:
            if len(self._buffer) < len(PREFACE):
                return b""
            if not self._buffer.startswith(PREFACE):
                raise ValueError("no HTTP/2 preface")
            self._buffer = self._buffer[len(PREFACE) :]
            self._greeted = True
            out = frame(SETTINGS, 0, 0)
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if size > FRAME_BYTES_MAX:
                raise ValueError("frame too large")
            if len(self._buffer) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
            payload = self._buffer[9 : 9 + size]
            self._buffer = self._buffer[9 + size :]
            out += self._answer(kind, flags, stream & 0x7FFFFFFF, payload)
        return out

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == SETTINGS and not flags & ACK:
            return frame(SETTINGS, ACK, 0)
        if kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, payload)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            code = HEALTH_CODE.get(self._health(), 0)
            head = b"\x88" + _literal("content-type", "application/grpc")
            body = _message(b"\x08" + bytes([code]))
            trailers = _literal("grpc-status", "0")
            return (
                frame(HEADERS, END_HEADERS, stream, head)
                + frame(DATA, 0, stream, body)
                + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
            )
        return b""


async def grpc_health_check(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, service: str) -> str:
    """Ask grpc.health.v1.Health/Check over a fresh connection and close it; returns the status name.

    OSError, EOFError or ValueError if the server does not answer it.
    """
    try:
        headers = b"\x83\x86" + b"".join(  # :method POST, :scheme http
            _literal(name, value)
            for name, value in (
                (":path", "/grpc.health.v1.Health/Check"), (":authority", authority), ("content-type", "application/grpc"),
                ("te", "trailers"), ("user-agent", "kube-probe/1.36"),
            )
        )  # fmt: skip
        name = service.encode()
        request = _message(b"\x0a" + bytes([len(name)]) + name if name else b"")
        writer.write(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, headers) + frame(DATA, END_STREAM, 1, request))
        return await _read_health(reader, writer)
    except asyncio.IncompleteReadError as failure:
        raise EOFError("connection closed before server preface received") from failure
    finally:
        writer.transport.abort()


async def _read_health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    body = b""
    while True:
        head = await reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        if size > FRAME_BYTES_MAX:
            raise ValueError("the server does not speak HTTP/2")
        kind, flags, stream = struct.unpack(">BBI", head[3:9])
        payload = await reader.readexactly(size)
        if kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            writer.write(frame(PING, ACK, 0, payload))
        elif kind == DATA and stream == 1:
            body += payload
        elif kind in (RST_STREAM, GOAWAY):
            raise ValueError("the server reset the stream")
        if stream == 1 and flags & END_STREAM and kind in (DATA, HEADERS):
            break
    if len(body) < 5:
        raise ValueError("rpc error: no health status in the answer")
    payload = body[5:]
    return HEALTH_STATUS.get(payload[1], "UNKNOWN") if payload[:1] == b"\x08" and len(payload) > 1 else "UNKNOWN"
