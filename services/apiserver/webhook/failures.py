"""Why a call of a webhook failed, in the words of Go's HTTP client and of client-go: clients show them and search for them.

Pure. Imitates net/http, crypto/x509 and apimachinery/pkg/api/errors (NewGenericServerResponse).
"""

from __future__ import annotations

import errno
import os
import ssl

MESSAGE_BYTES_MAX = 2048
"""Of what a webhook said beside its HTTP code."""
_NOT_PLAIN_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_EXPIRED, _NOT_YET_VALID, _WRONG_NAME = 10, 9, 62
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH."""
_BY_CODE = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


class CallFailed(Exception):
    """A webhook could not be asked, or did not answer as it should. `code` is the HTTP code that metrics and Statuses tell of."""

    def __init__(self, why: str, code: int = 503) -> None:
        super().__init__(why)
        self.why = why
        self.code = code


def of_http_code(code: int, body: bytes, content_type: str) -> str:
    """What client-go makes of an answer that is no success and no Status."""
    is_text = not content_type or content_type.startswith("text/")
    text = body.decode("utf-8", "replace").strip()[:MESSAGE_BYTES_MAX] if is_text else "unknown"
    if code == 403:
        return text
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code >= 500:
        return f'an error on the server ("{_escaped(text)}") has prevented the request from succeeding'
    return f"the server responded with the status code {code} but did not return more information"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def of_dial(error: OSError, host: str, address: str) -> str:
    """Why no connection came about: `host` is whom TLS expected, `address` (host:port) where it was dialled."""
    if isinstance(error, ssl.SSLError):
        return of_tls(error, host)
    if error.errno is None or error.errno in (errno.ENOENT, -2, -3, -5):
        return f"dial tcp: lookup {host}: no such host"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"read tcp {address}: read: connection reset by peer"
    return f"dial tcp {address}: connect: {os.strerror(error.errno).lower()}"


def of_tls(error: ssl.SSLError, host: str) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason in _NOT_PLAIN_TLS:
            return "http: server gave HTTP response to HTTPS client"
        return f"remote error: tls: {(error.reason or 'handshake failure').lower().replace('_', ' ')}"
    why = "certificate signed by unknown authority"
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        why = "certificate has expired or is not yet valid"
    elif error.verify_code == _WRONG_NAME:
        why = f"certificate is not valid for any names, but wanted to match {host}"
    return f"tls: failed to verify certificate: x509: {why}"
