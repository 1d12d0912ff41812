"""Client certificates: the common name is the user, the organisations are its groups. The TLS layer has already checked the chain,
the purpose and that it is not over; that it has not ended since is looked at here. Imitates authentication/request/x509.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kubecosm.api.names import USER_EXTRA_CREDENTIAL_ID
from kubecosm.runtime.clock import Clock

from ..http.request import Request
from .frontproxy import Subject
from .user import GROUP_AUTHENTICATED, User


class Certificate(NamedTuple):
    """What a client's certificate says. `user` is None if it names nobody; `ends` is a time of the monotonic clock."""

    user: User | None
    common_name: str
    issuer: Subject
    ends: float


def certificate_of(request: Request, clock: Clock, told: Callable[[float], None] | None = None) -> Certificate | None:
    """The certificate of the request's connection, taken apart once; None if there is none or it has ended by now.

    `told` hears of each new one how many seconds it is still good.
    """
    connection = request.connection
    if not connection.certificate_known:
        connection.certificate_known = True
        connection.certificate = _read(connection.transport, clock)
        if told is not None and connection.certificate is not None:
            told(connection.certificate.ends - clock.monotonic())
    found = connection.certificate
    if found is not None and found.ends < clock.monotonic():
        return None
    return found


def _read(transport: Any, clock: Clock) -> Certificate | None:
    ssl_object = transport.get_extra_info("ssl_object") if transport is not None else None
    fields = ssl_object.getpeercert() if ssl_object is not None else None
    if not fields or ssl_object is None:
        return None
    left = ssl.cert_time_to_seconds(fields["notAfter"]) - clock.now().timestamp()
    return certificate(fields, ssl_object.getpeercert(binary_form=True), clock.monotonic() + left)


def certificate(fields: Mapping[str, Any], encoded: bytes, ends: float) -> Certificate:
    """From what ssl.SSLObject.getpeercert() gives."""
    names = [(key, value) for part in fields.get("subject", ()) for key, value in part]
    name = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    extra: dict[str, tuple[str, ...]] = {USER_EXTRA_CREDENTIAL_ID: (f"X509SHA256={hashlib.sha256(encoded).hexdigest()}",)}
    user = User(name, (*groups, GROUP_AUTHENTICATED), "", extra) if name else None
    return Certificate(user, name, fields.get("issuer", ()), ends)
