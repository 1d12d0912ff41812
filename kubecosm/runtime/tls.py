"""TLS contexts of servers and clients from PEM files. Failing files become one clear line.

Left out: reloading of rotated files is the caller's: calling `load_cert_chain` on a live context is enough for new connections.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from kubecosm.runtime.errors import StartupError, startup


def server_context(
    cert: str | Path, key: str | Path, *, client_ca: str | Path | None = None, require_client: bool = False
) -> ssl.SSLContext:
    """A server's context. With `client_ca`, client certificates are asked for and checked, and demanded if `require_client`.

    Raises StartupError when a file is missing, unreadable or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
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
