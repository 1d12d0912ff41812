"""Several streams of bytes in one WebSocket: the first byte of a message names its channel. Imitates apimachinery's wsstream.Conn."""

from __future__ import annotations

from .websocket import WebSocket

DIGIT_ZERO = 48


class ChannelSocket:
    """Messages are binary, or base64 in text if the protocol says so (channels are digits then)."""

    def __init__(self, socket: WebSocket, protocol: str) -> None:
        self._socket = socket
        self._base64 = "base64" in protocol

    async def send(self, channel: int, data: bytes) -> None:
        """OSError when the peer has gone."""
        if self._base64:
            import base64

            await self._socket.send(bytes([DIGIT_ZERO + channel]) + base64.b64encode(data), text=True)
        else:
            await self._socket.send(bytes([channel]) + data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message's channel and data; None once the peer has closed or sent what is no base64."""
        while (message := await self._socket.receive()) is not None:
            if not message:
                continue
            if not self._base64:
                return message[0], message[1:]
            import base64

            try:
                return message[0] - DIGIT_ZERO, base64.b64decode(message[1:], validate=True)
            except ValueError:
                return None
        return None

    async def close(self) -> None:
        await self._socket.close()
