"""The server's end of TLS as a push parser: bytes of the peer in, plain text and bytes for the peer out. No I/O, no clock."""

from __future__ import annotations

import ssl

HANDSHAKE = 0x16
"""The first byte of a connection whose client wants TLS; no request of HTTP or Redis begins with it."""
READ_BYTES_MAX = 64 * 1024


class TlsLayer:
    """Between a transport and what is spoken through it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_agreed = False

    def receive(self, data: bytes) -> bytes:
        """The plain text that came. Raises ssl.SSLError when there can be no agreement; `pending` has what the peer is told of it."""
        self._incoming.write(data)
        plain = []
        try:
            if not self._is_agreed:
                self._tls.do_handshake()
                self._is_agreed = True
            while chunk := self._tls.read(READ_BYTES_MAX):
                plain.append(chunk)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return b"".join(plain)

    def send(self, data: bytes) -> None:
        """Takes plain text; `pending` has what to send."""
        self._tls.write(data)

    def end(self) -> None:
        """Says goodbye, so that the peer knows that it got everything."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            return  # its answer is not waited for

    def pending(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()
