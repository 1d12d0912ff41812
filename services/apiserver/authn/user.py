"""The identity of a request. Imitates k8s.io/apiserver/pkg/authentication/user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

GROUP_AUTHENTICATED = "system:authenticated"
GROUP_UNAUTHENTICATED = "system:unauthenticated"
GROUP_MASTERS = "system:masters"
GROUP_NODES = "system:nodes"


@dataclass(frozen=True)
class User:
    """A name, groups, and what the authenticator knows besides."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)  # users of one name are rarely two; a string keeps its hash


ANONYMOUS = User("system:anonymous", (GROUP_UNAUTHENTICATED,))


def user_info(user: User) -> dict[str, Any]:
    """authentication.k8s.io/v1 UserInfo."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {name: list(values) for name, values in user.extra.items()}
    return info
