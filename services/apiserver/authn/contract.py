"""What those who know tokens have in common. Imitates k8s.io/apiserver/pkg/authentication/{authenticator,token/union}."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .user import User

INVALID_BEARER_TOKEN = "invalid bearer token"
NO_ANNOTATIONS: Mapping[str, str] = {}


class Notes(NamedTuple):
    """What the answer to a request should tell about its token."""

    audit: Mapping[str, str]
    """Annotations of the audit event."""
    warning: str = ""


class Verified(NamedTuple):
    """Who a token stands for, and which of the wanted audiences it is meant for."""

    user: User
    audiences: tuple[str, ...]
    notes: Notes | None = None


class TokenError(Exception):
    """A token that is not good; the text says why and never quotes it."""

    def __init__(self, message: str, audit: Mapping[str, str] | None = None) -> None:
        """`audit`: annotations for the audit event."""
        super().__init__(message)
        self.audit = audit or NO_ANNOTATIONS


class TokenAuthenticator(Protocol):
    """Knows one kind of token."""

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | Awaitable[Verified | None] | None:
        """None if it is not of this kind. Only who must ask somebody else answers something to wait for. Raises TokenError."""


class TokenUnion:
    """Asks one after the other; the first who knows the token counts."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator], api_audiences: tuple[str, ...]) -> None:
        """`api_audiences`: what tokens for this server are meant for."""
        self._authenticators = tuple(authenticators)
        self.api_audiences = api_audiences

    def replace(self, authenticators: Sequence[TokenAuthenticator]) -> None:
        """Ask these from now on."""
        self._authenticators = tuple(authenticators)

    def verify(self, token: str, audiences: tuple[str, ...] = ()) -> Verified | Awaitable[Verified]:
        """Without audiences the server's own are meant. Raises TokenError."""
        wanted, complaints, audit = audiences or self.api_audiences, [INVALID_BEARER_TOKEN], NO_ANNOTATIONS
        for i, authenticator in enumerate(self._authenticators):
            try:
                found = authenticator.verify(token, wanted)
            except TokenError as error:
                complaints.append(str(error))
                audit = error.audit or audit
                continue
            if isinstance(found, Verified):
                return found
            if found is not None:
                return self._wait(found, token, wanted, i + 1, complaints)
        raise TokenError(aggregate(complaints), audit)

    async def _wait(
        self, pending: Awaitable[Verified | None], token: str, wanted: tuple[str, ...], following: int, complaints: list[str]
    ) -> Verified:
        """The rest of the way, once somebody had to be asked."""
        waiting: list[Awaitable[Verified | None] | TokenAuthenticator] = [pending, *self._authenticators[following:]]
        for step in waiting:
            try:
                found = step if isinstance(step, Awaitable) else step.verify(token, wanted)
                if isinstance(found, Awaitable):
                    found = await found
            except TokenError as error:
                complaints.append(str(error))
                continue
            if found is not None:
                return found
        raise TokenError(aggregate(complaints))


async def settled(answer: Verified | Awaitable[Verified]) -> Verified:
    """The answer of a TokenUnion, waited for if need be. Raises TokenError."""
    return answer if isinstance(answer, Verified) else await answer


def meant_for(audiences: tuple[str, ...], accepted: Sequence[str]) -> tuple[str, ...]:
    """The wanted audiences that are among the accepted ones, in their order."""
    return tuple(audience for audience in audiences if audience in accepted)


def aggregate(complaints: Sequence[str]) -> str:
    """Several errors as Go words them together."""
    unique = list(dict.fromkeys(complaints))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
