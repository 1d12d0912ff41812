"""TLS contexts of servers and clients from PEM files. Failing files become one clear line.

Left out: reloading of rotated files is the caller's: calling `load_cert_chain` on a live context is enough for new connections.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from kubecosm.runtime.errors import StartupError, startup

PLAIN_TEXT = b"Client sent an HTTP request to an HTTPS server.\n"
PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(PLAIN_TEXT), PLAIN_TEXT)
"""What Go's server tells such a client, with its length: the client knows when to hang up."""


class _Handshaking(ssl.SSLObject):
    """The server's side of a connection, which has a word for clients that do not speak TLS."""

    outgoing: ssl.MemoryBIO
    server: ServerContext
    refused: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """To wait for more has the event loop send what is outgoing; whatever the client then says ends it, as does its time limit."""
        if self.refused is not None:
            raise self.refused
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.server.failed_handshakes += 1
            if getattr(error, "reason", "") != "HTTP_REQUEST":
                raise
            self.refused = error
            self.outgoing.write(PLAIN_ANSWER)
            raise ssl.SSLWantReadError from error


class ServerContext(ssl.SSLContext):
    """A context whose connections answer plain HTTP as Go's server does."""

    sslobject_class = _Handshaking
    failed_handshakes = 0

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        if isinstance(made, _Handshaking):
            made.outgoing, made.server = outgoing, self
        return made


def server_context(
    cert: str | Path, key: str | Path, *, client_ca: str | Path | None = None, require_client: bool = False
) -> ssl.SSLContext:
    """A server's context. With `client_ca`, client certificates are asked for and checked, and demanded if `require_client`.

    Raises StartupError when a file is missing, unreadable or not what it should be.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, cert, key)
    if client_ca:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(ca: str | Path | None = None, cert: str | Path | None = None, key: str | Path | None = None) -> ssl.SSLContext:
    """A client's context that trusts only `ca` (the system's authorities if None) and shows `cert` if given. Raises StartupError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        _load_ca(context, ca)
    else:
        context.load_default_certs()
    if cert and key:
        _load_chain(context, cert, key)
    return context


def _load_chain(context: ssl.SSLContext, cert: str | Path, key: str | Path) -> None:
    for path in (cert, key):
        _check_readable(path)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        why = "the key does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "not a PEM certificate and key"
        raise StartupError(f"cannot use TLS certificate {cert} with key {key}: {why}") from error


def _load_ca(context: ssl.SSLContext, path: str | Path) -> None:
    _check_readable(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise StartupError(f"cannot use {path} as certificate authority: not a PEM certificate") from error


def _check_readable(path: str | Path) -> None:
    with startup(f"read {path}"), open(path, "rb"):
        pass
