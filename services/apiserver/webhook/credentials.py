"""Who the server says it is to webhooks: users of a kubeconfig, named after the hosts to which they are shown.

Imitates k8s.io/apiserver/pkg/util/webhook/authentication.go. Left out: the server's own credentials for webhooks behind the Service
`kubernetes`, and impersonation.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping

from kubecosm.client.config import ConfigError, Credentials, read_users
from kubecosm.runtime.errors import StartupError

from .client import PORT_DEFAULT, Target


class CredentialBook:
    """Finds the user for a webhook: by host and port, by the host if the port is 443, by `*.` and the end of the name, then `*`."""

    def __init__(self, users: Mapping[str, Credentials], current: str = "") -> None:
        """`current` is shown to whom no other user is for."""
        self._users = users
        self._current = current
        self._found: dict[tuple[str, int], Credentials | None] = {}

    @classmethod
    def load(cls, path: str, what: str) -> CredentialBook:
        """From a kubeconfig. Raises StartupError, which says `what` named it."""
        try:
            users, current = read_users(path)
            for credentials in users.values():
                credentials.present(ssl.create_default_context())
                credentials.authorization()
        except ConfigError as error:
            raise StartupError(f"{what}: {error}") from error
        return cls(users, current)

    def of(self, target: Target) -> Credentials | None:
        key = target.host, target.port
        if key not in self._found:
            names = (name for name in _names(*key) if name in self._users)
            self._found[key] = self._users.get(next(names, self._current))
        return self._found[key]


def _names(host: str, port: int) -> Iterator[str]:
    """What a user for this place may be called, the closest name first."""
    for place in (f"{host}:{port}", *((host,) if port == PORT_DEFAULT else ())):
        yield place
        parts = place.split(".")
        yield from (f"*.{'.'.join(parts[i:])}" for i in range(1, len(parts)))
    yield "*"
