"""What is decided on, and the contract of those who decide. Imitates k8s.io/apiserver/pkg/authorization/authorizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kubecosm.api.resources import Object

from ..authn.user import GROUP_AUTHENTICATED, GROUP_MASTERS, User


@dataclass(frozen=True, slots=True)
class Attributes:
    """One action of one user; `path` only for non-resource requests."""

    user: User
    verb: str
    namespace: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    is_resource: bool = True
    path: str = ""


class Decision(Enum):
    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


class Authorizer(Protocol):
    """Decides or leaves it to the next; the reason goes into the 403."""

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]: ...

    def rules(self, user: User, namespace: str) -> list[Object]:
        """What the user may do in a namespace, as PolicyRules."""


EVERYTHING: tuple[Object, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]},
)  # fmt: skip


class MastersAuthorizer:
    """system:masters may do everything."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        return list(EVERYTHING) if GROUP_MASTERS in user.groups else []

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        return (Decision.ALLOW, "") if GROUP_MASTERS in attributes.user.groups else (Decision.NO_OPINION, "")


class AuthenticatedAuthorizer:
    """Whoever proved who he is may do everything (--authorization-mode=AlwaysAllow, save for the anonymous)."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        return list(EVERYTHING) if GROUP_AUTHENTICATED in user.groups else []

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        return (Decision.ALLOW, "") if GROUP_AUTHENTICATED in attributes.user.groups else (Decision.NO_OPINION, "")


class PublicInfoAuthorizer:
    """What Kubernetes' system:public-info-viewer lets everybody see."""

    PATHS = frozenset(("/healthz", "/livez", "/readyz", "/version", "/version/"))

    def rules(self, user: User, namespace: str) -> list[Object]:
        return [{"verbs": ["get"], "nonResourceURLs": sorted(self.PATHS)}]

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        public = not attributes.is_resource and attributes.verb == "get" and attributes.path in self.PATHS
        return (Decision.ALLOW, "") if public else (Decision.NO_OPINION, "")


class UnionAuthorizer:
    """Asks one after the other; the first opinion counts."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def rules(self, user: User, namespace: str) -> list[Object]:
        return [rule for authorizer in self._authorizers for rule in authorizer.rules(user, namespace)]

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        reasons = []
        for authorizer in self._authorizers:
            decision, reason = authorizer.authorize(attributes)
            if decision is not Decision.NO_OPINION:
                return decision, reason
            if reason:
                reasons.append(reason)
        return Decision.NO_OPINION, ", ".join(reasons)
