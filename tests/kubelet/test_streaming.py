"""SPDY and WebSocket framing, and exec and port-forward over them, without a cluster."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import zlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.services.kubelet.cri.streams import ProcessStreams
from kubecosm.services.kubelet.cri.types import RuntimeFailure
from kubecosm.services.kubelet.streaming import remotecommand, spdy_frames, spdy_headers, websocket
from kubecosm.services.kubelet.streaming.channels import ChannelSocket
from kubecosm.services.kubelet.streaming.portforward import ChannelForwarder, PortForwarder
from kubecosm.services.kubelet.streaming.spdy_session import SpdySession


class MemoryChannel:
    """One end of a byte stream in memory; `other` is the far end."""

    def __init__(self) -> None:
        self._incoming: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.other: MemoryChannel

    @classmethod
    def pair(cls) -> tuple[MemoryChannel, MemoryChannel]:
        one, two = cls(), cls()
        one.other, two.other = two, one
        return one, two

    async def read(self) -> bytes:
        while not self._incoming:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        return self._incoming.popleft()

    async def write(self, data: bytes) -> None:
        if self._ended:
            raise ConnectionResetError
        self.other._incoming.append(data)
        self.other._changed.set()

    def close(self) -> None:
        for end in (self, self.other):
            end._ended = True
            end._changed.set()


class SpdyPeer:
    """The client's side of a SPDY session."""

    def __init__(self, channel: MemoryChannel) -> None:
        self.channel = channel
        self.codec = spdy_headers.HeaderCodec()
        self.decoder = spdy_frames.FrameDecoder()
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.replies: list[int] = []

    async def open(self, number: int, **headers: str) -> None:
        await self.channel.write(spdy_frames.encode_syn_stream(number, self.codec.encode(headers)))

    async def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        await self.channel.write(spdy_frames.encode_data(number, data, spdy_frames.FIN if end else 0))

    async def read_until_closed(self, *numbers: int) -> None:
        while not set(numbers) <= self.ended:
            data = await self.channel.read()
            if not data:
                return
            for frame in self.decoder.feed(data):
                if isinstance(frame, spdy_frames.DataFrame):
                    self.data[frame.stream] = self.data.get(frame.stream, b"") + frame.data
                    if frame.flags & spdy_frames.FIN:
                        self.ended.add(frame.stream)
                elif frame.kind == spdy_frames.SYN_REPLY:
                    self.codec.decode(frame.payload[4:])
                    self.replies.append(struct.unpack(">I", frame.payload[:4])[0])
                elif frame.kind == spdy_frames.RST_STREAM:
                    self.ended.add(struct.unpack(">II", frame.payload)[0])


def test_the_dictionary_is_the_one_every_peer_has() -> None:
    assert zlib.adler32(spdy_headers.DICTIONARY) == spdy_headers.DICTIONARY_ADLER32


@given(
    st.lists(
        st.dictionaries(st.text("abcdefgh-", min_size=1), st.text(max_size=30).filter(lambda t: "\0" not in t), max_size=5), max_size=5
    )
)
def test_header_blocks_survive_the_round_trip_in_order(blocks: list[dict[str, str]]) -> None:
    sender, receiver = spdy_headers.HeaderCodec(), spdy_headers.HeaderCodec()
    for headers in blocks:
        assert receiver.decode(sender.encode(headers)) == headers


@given(st.binary(max_size=300))
def test_rubbish_is_refused_not_crashed(data: bytes) -> None:
    with contextlib.suppress(spdy_headers.HeaderError):
        spdy_headers.HeaderCodec().decode(data)
    decoder = spdy_frames.FrameDecoder()
    try:
        decoder.feed(data)
    except spdy_frames.FrameError:
        return


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.integers(1, 7))
def test_frames_are_found_however_the_bytes_are_cut(payloads: list[bytes], step: int) -> None:
    wire = b"".join(spdy_frames.encode_data(index + 1, data) for index, data in enumerate(payloads))
    decoder = spdy_frames.FrameDecoder()
    frames = [frame for start in range(0, len(wire), step) for frame in decoder.feed(wire[start : start + step])]
    assert [frame.data for frame in frames if isinstance(frame, spdy_frames.DataFrame)] == payloads


async def shout(streams: ProcessStreams) -> int:
    assert streams.stdin is not None
    data = await streams.stdin.read_all()
    await streams.stdout.write(data.upper())
    await streams.stderr.write(b"warning")
    return 3


ALL = remotecommand.StreamOptions(stdin=True, stdout=True, stderr=True, tty=False)


def test_exec_over_spdy_carries_all_streams_and_the_exit_code() -> None:
    async def main() -> SpdyPeer:
        ours, theirs = MemoryChannel.pair()
        session, peer = SpdySession(ours), SpdyPeer(theirs)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(session.run())
            for number, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")):
                await peer.open(number, streamtype=kind)
            client = remotecommand.SpdyClient(session)
            assert await client.start(ALL)
            serving = tasks.create_task(remotecommand.serve(client, ALL, shout))
            await peer.send(3, b"hello ")
            await peer.send(3, b"there", end=True)
            await peer.read_until_closed(1, 5, 7)
            await serving
        return peer

    peer = asyncio.run(main())
    assert peer.replies == [1, 3, 5, 7]
    assert peer.data[5] == b"HELLO THERE"
    assert peer.data[7] == b"warning"
    status = json.loads(peer.data[1])
    assert (status["reason"], status["details"]["causes"]) == ("NonZeroExitCode", [{"reason": "ExitCode", "message": "3"}])


def client_frame(data: bytes, opcode: int = websocket.BINARY) -> bytes:
    mask = b"\x01\x02\x03\x04"
    head = (
        bytes([0x80 | opcode, 0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | opcode, 0x80 | 126]) + struct.pack(">H", len(data))
    )
    return head + mask + websocket.unmask(data, mask)


def read_frames(data: bytes) -> list[bytes]:
    frames = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack(">H", data[2:4])[0], 4
        frames.append(data[start : start + size])
        data = data[start + size :]
    return frames


def test_exec_over_websocket_v5_ends_stdin_by_the_close_signal() -> None:
    async def main() -> list[bytes]:
        ours, theirs = MemoryChannel.pair()
        client = remotecommand.WebSocketClient(ChannelSocket(websocket.WebSocket(ours), "v5.channel.k8s.io"), "v5.channel.k8s.io")
        await theirs.write(client_frame(b"\x00hello"))
        await theirs.write(client_frame(b"", websocket.PING))
        await theirs.write(client_frame(b"\xff\x00"))
        await remotecommand.serve(client, ALL, shout)
        data = b""
        while chunk := await theirs.read():
            data += chunk
        return read_frames(data)

    frames = asyncio.run(main())
    assert b"\x01HELLO" in frames
    assert b"\x02warning" in frames
    status = json.loads(next(frame for frame in frames if frame[:1] == b"\x03")[1:])
    assert status["details"]["causes"][0]["message"] == "3"
    assert frames[-1] == struct.pack(">H", websocket.NORMAL_CLOSURE)


def test_a_process_that_cannot_start_is_told_as_an_internal_error() -> None:
    async def fails(streams: ProcessStreams) -> int:
        raise RuntimeFailure("ExecFailed", "no such file")

    async def main() -> list[bytes]:
        ours, theirs = MemoryChannel.pair()
        client = remotecommand.WebSocketClient(ChannelSocket(websocket.WebSocket(ours), "v4.channel.k8s.io"), "v4.channel.k8s.io")
        await remotecommand.serve(client, ALL, fails)
        return read_frames(await theirs.read())

    status = json.loads(asyncio.run(main())[0][1:])
    assert status["message"] == "Internal error occurred: error executing command in container: no such file"


def test_port_forward_joins_stream_pairs_with_connections() -> None:
    async def main() -> tuple[SpdyPeer, list[int]]:
        asked: list[int] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"echo " + await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def dial(wanted: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            asked.append(wanted)
            if wanted == 81:
                raise ConnectionRefusedError
            return await asyncio.open_connection("127.0.0.1", port)

        ours, theirs = MemoryChannel.pair()
        peer = SpdyPeer(theirs)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(PortForwarder(SpdySession(ours), dial, "web").run())
            await peer.open(1, streamtype="error", port="80", requestid="0")
            await peer.open(3, streamtype="data", port="80", requestid="0")
            await peer.send(3, b"line\n")
            await peer.open(5, streamtype="error", port="81", requestid="1")
            await peer.open(7, streamtype="data", port="81", requestid="1")
            await peer.read_until_closed(1, 3, 5, 7)
            theirs.close()
            await running
        server.close()
        return peer, asked

    peer, asked = asyncio.run(main())
    assert sorted(asked) == [80, 81]
    assert peer.data[3] == b"echo line\n"
    assert b"connection refused" in peer.data[5]


LINES = {"v4.channel.k8s.io": b"\x00line\n", "v4.base64.channel.k8s.io": b"0" + base64.b64encode(b"line\n")}


@pytest.mark.parametrize(("protocol", "sent"), LINES.items())
def test_port_forward_over_websocket_channels_names_its_ports_first(protocol: str, sent: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.readline())
        writer.close()

    async def main() -> list[bytes]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ours, theirs = MemoryChannel.pair()

        async def dial(wanted: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ChannelForwarder(ChannelSocket(websocket.WebSocket(ours), protocol), dial, [80], "web").run())
            await theirs.write(client_frame(sent))
            data = b""
            while len(frames := read_frames(data)) < 3:
                data += await theirs.read()
            theirs.close()
        server.close()
        return [frame[:1] + base64.b64decode(frame[1:]) if "base64" in protocol else frame for frame in frames]

    first, second, third = asyncio.run(main())
    assert [first[1:], second[1:]] == [struct.pack("<H", 80)] * 2
    assert third[1:] == b"echo line\n"


@pytest.mark.parametrize(("offered", "chosen"), [("v9, v4.channel.k8s.io", "v4.channel.k8s.io"), ("nothing", None)])
def test_the_first_known_protocol_is_chosen(offered: str, chosen: str | None) -> None:
    assert websocket.choose_protocol(offered, remotecommand.WEBSOCKET_PROTOCOLS) == chosen


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
