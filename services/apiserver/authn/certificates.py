"""Client certificates: the common name is the user, the organisations are its groups. The TLS layer has already checked the chain."""

from __future__ import annotations

from ..http.request import Request
from .user import GROUP_AUTHENTICATED, User


def user_of_certificate(request: Request) -> User | None:
    """Who the connection's certificate says is asking; looked up once per connection."""
    connection = request.connection
    if not connection.user_known:
        connection.user_known = True
        connection.certificate_user = _read(connection.transport)
    return connection.certificate_user


def _read(transport: object) -> User | None:
    ssl_object = transport.get_extra_info("ssl_object") if transport is not None else None  # type: ignore[attr-defined]
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    if not certificate:
        return None
    names = [(key, value) for part in certificate.get("subject", ()) for key, value in part]
    name = next((value for key, value in names if key == "commonName"), "")
    if not name:
        return None
    groups = tuple(value for key, value in names if key == "organizationName")
    return User(name, (*groups, GROUP_AUTHENTICATED))
