"""What is decided on, and the contract of those who decide. Imitates k8s.io/apiserver/pkg/authorization/authorizer."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kubecosm.api.resources import Object
from kubecosm.api.selectors import FieldSelector, LabelSelector

from ..authn.user import GROUP_AUTHENTICATED, GROUP_MASTERS, User


@dataclass(slots=True)
class Attributes:
    """One action of one user; `path` only for non-resource requests. Nobody changes it (frozen ones take three times as long to make)."""

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
    fields: FieldSelector | None = None
    """What a list, watch or deletecollection restricts itself to; None if it does not, or its selector cannot be understood."""
    labels: LabelSelector | None = None


class Decision(Enum):
    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


Verdict = tuple[Decision, str]
"""The decision and its reason, which goes into the 403 or the answer of a review."""


class CannotDecide(Exception):
    """Somebody who had to be asked could not answer, and nobody else allowed it: an internal error, not a 403."""


class Authorizer(Protocol):
    """Decides or leaves it to the next."""

    def authorize(self, attributes: Attributes) -> Verdict | Awaitable[Verdict]:
        """At once if it can be: only an authorizer that must ask somebody else answers something to wait for."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        """What the user may do in a namespace, as PolicyRules; IncompleteRules if that cannot be told."""

    @property
    def version(self) -> int:
        """A number that grows when what `of_any_name` answers may have changed."""

    def of_any_name(self, attributes: Attributes) -> Verdict | None:
        """The verdict whatever name and selectors there are, until `version` changes; None if each request must be asked about."""


class IncompleteRules(Exception):
    """Not all that a user may do can be listed; `rules` is what is known of it."""

    def __init__(self, message: str, rules: Sequence[Object] = ()) -> None:
        super().__init__(message)
        self.rules = list(rules)


async def decide(authorizer: Authorizer, attributes: Attributes) -> Verdict:
    """The verdict, waited for if need be."""
    verdict = authorizer.authorize(attributes)
    return verdict if isinstance(verdict, tuple) else await verdict


EVERYTHING: tuple[Object, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]},
)  # fmt: skip


class Unchanging:
    """An authorizer that looks neither at names nor at anything that changes."""

    version = 0

    def authorize(self, attributes: Attributes) -> Verdict:
        raise NotImplementedError

    def of_any_name(self, attributes: Attributes) -> Verdict:
        return self.authorize(attributes)


class MastersAuthorizer(Unchanging):
    """system:masters may do everything."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        return list(EVERYTHING) if GROUP_MASTERS in user.groups else []

    def authorize(self, attributes: Attributes) -> Verdict:
        return (Decision.ALLOW, "") if GROUP_MASTERS in attributes.user.groups else (Decision.NO_OPINION, "")


class AuthenticatedAuthorizer(Unchanging):
    """Whoever proved who he is may do everything (--authorization-mode=AlwaysAllow, save for the anonymous)."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        return list(EVERYTHING) if GROUP_AUTHENTICATED in user.groups else []

    def authorize(self, attributes: Attributes) -> Verdict:
        return (Decision.ALLOW, "") if GROUP_AUTHENTICATED in attributes.user.groups else (Decision.NO_OPINION, "")


class DenyingAuthorizer(Unchanging):
    """Nobody may do anything (--authorization-mode=AlwaysDeny); a mode of Kubernetes for tests."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        return []

    def authorize(self, attributes: Attributes) -> Verdict:
        return Decision.NO_OPINION, "Everything is forbidden."


class PublicInfoAuthorizer(Unchanging):
    """What Kubernetes' system:public-info-viewer lets everybody see."""

    PATHS = frozenset(("/healthz", "/livez", "/readyz", "/version", "/version/"))

    def rules(self, user: User, namespace: str) -> list[Object]:
        return [{"verbs": ["get"], "nonResourceURLs": sorted(self.PATHS)}]

    def authorize(self, attributes: Attributes) -> Verdict:
        public = not attributes.is_resource and attributes.verb == "get" and attributes.path in self.PATHS
        return (Decision.ALLOW, "") if public else (Decision.NO_OPINION, "")


class CurrentAuthorizer:
    """Stands for an authorizer that may be replaced while the server runs."""

    def __init__(self, current: Authorizer) -> None:
        self._current = current
        self._before = 0
        """Above all versions of those that have been replaced."""

    @property
    def current(self) -> Authorizer:
        return self._current

    @current.setter
    def current(self, new: Authorizer) -> None:
        self._before = self.version + 1
        self._current = new

    @property
    def version(self) -> int:
        return self._before + self._current.version

    def of_any_name(self, attributes: Attributes) -> Verdict | None:
        return self._current.of_any_name(attributes)

    def rules(self, user: User, namespace: str) -> list[Object]:
        return self.current.rules(user, namespace)

    def authorize(self, attributes: Attributes) -> Verdict | Awaitable[Verdict]:
        return self.current.authorize(attributes)


class UnionAuthorizer:
    """Asks one after the other; the first opinion counts."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)
        self._changing = tuple(one for one in self._authorizers if not isinstance(one, Unchanging))

    @property
    def version(self) -> int:
        return sum([one.version for one in self._changing])

    def of_any_name(self, attributes: Attributes) -> Verdict | None:
        for authorizer in self._authorizers:
            verdict = authorizer.of_any_name(attributes)
            if verdict is None or verdict[0] is not Decision.NO_OPINION:
                return verdict
        return Decision.NO_OPINION, ""

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Raises IncompleteRules with what is known if one of them cannot tell."""
        found: list[Object] = []
        complaints: list[str] = []
        for authorizer in self._authorizers:
            try:
                found += authorizer.rules(user, namespace)
            except IncompleteRules as error:
                found += error.rules
                complaints.append(str(error))
        if complaints:
            raise IncompleteRules(", ".join(complaints), found)
        return found

    def authorize(self, attributes: Attributes) -> Verdict | Awaitable[Verdict]:
        reasons: list[str] = []
        for i, authorizer in enumerate(self._authorizers):
            verdict = authorizer.authorize(attributes)
            if not isinstance(verdict, tuple):
                return self._wait(verdict, attributes, i + 1, reasons)
            if verdict[0] is not Decision.NO_OPINION:
                return verdict
            if verdict[1]:
                reasons.append(verdict[1])
        return Decision.NO_OPINION, ", ".join(reasons)

    async def _wait(self, pending: Awaitable[Verdict], attributes: Attributes, following: int, reasons: list[str]) -> Verdict:
        """The rest of the way, once somebody had to be asked."""
        failures: list[str] = []
        for authorizer in (None, *self._authorizers[following:]):
            try:
                verdict = await (pending if authorizer is None else decide(authorizer, attributes))
            except CannotDecide as error:
                failures.append(str(error))
                continue
            if verdict[0] is not Decision.NO_OPINION:
                return verdict
            if verdict[1]:
                reasons.append(verdict[1])
        if failures:
            raise CannotDecide(", ".join(failures))
        return Decision.NO_OPINION, ", ".join(reasons)
