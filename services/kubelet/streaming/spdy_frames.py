"""SPDY/3.1 frames out of bytes and into bytes (SPDY/3.1 §2.2-2.6). Pure; header blocks stay compressed."""

from __future__ import annotations

import struct
from typing import NamedTuple

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
FRAME_BYTES_MAX = 1 << 20

RST_PROTOCOL_ERROR, RST_INVALID_STREAM, RST_REFUSED_STREAM, RST_CANCEL = 1, 2, 3, 5


class DataFrame(NamedTuple):
    stream: int
    flags: int
    data: bytes


class ControlFrame(NamedTuple):
    kind: int
    flags: int
    payload: bytes


Frame = DataFrame | ControlFrame


class FrameError(ValueError):
    """The peer does not speak SPDY/3.1."""


def encode_data(stream: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream & 0x7FFFFFFF, flags << 24 | len(data)) + data


def encode_control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def encode_syn_stream(stream: int, block: bytes, flags: int = 0) -> bytes:
    return encode_control(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + block, flags)


def encode_syn_reply(stream: int, block: bytes, flags: int = 0) -> bytes:
    return encode_control(SYN_REPLY, struct.pack(">I", stream) + block, flags)


def encode_reset(stream: int, status: int) -> bytes:
    return encode_control(RST_STREAM, struct.pack(">II", stream, status))


def encode_goaway(last_stream: int) -> bytes:
    return encode_control(GOAWAY, struct.pack(">II", last_stream, 0))


class FrameDecoder:
    """Feed bytes, take frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; FrameError if the bytes are none."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > FRAME_BYTES_MAX:
                raise FrameError("frame too large")
            if len(self._buffer) < 8 + size:
                break
            payload = bytes(self._buffer[8 : 8 + size])
            del self._buffer[: 8 + size]
            if first & 0x80000000:
                if first >> 16 & 0x7FFF != VERSION:
                    raise FrameError(f"unsupported SPDY version {first >> 16 & 0x7FFF}")
                frames.append(ControlFrame(first & 0xFFFF, flags, payload))
            else:
                frames.append(DataFrame(first, flags, payload))
        return frames
