"""What `authorizer` in an expression answers: decisions of the server's own authorizers, remembered for one request.

Imitates apiserver/pkg/admission/plugin/authorizer (the caching authorizer). Expressions are evaluated without waiting: where the
authorizer must ask a webhook, `Undecided` ends the evaluation, which is begun anew once the decision is known.
"""

from __future__ import annotations

from collections.abc import Awaitable

from ..authz.attributes import Attributes, Authorizer, CannotDecide, Decision, Verdict

Answer = tuple[bool, str, str]
"""(allowed, reason, error)."""


class Undecided(Exception):
    """Somebody must be asked first."""

    def __init__(self, asking: Awaitable[None]) -> None:
        super().__init__("the authorizer must be waited for")
        self.asking = asking


class Decisions:
    """Asks on behalf of expressions."""

    def __init__(self, authorizer: Authorizer | None) -> None:
        """None: everything is allowed."""
        self._authorizer = authorizer
        self._known: dict[str, Answer] = {}

    def decide(self, asked: Attributes) -> Answer:
        """Raises Undecided."""
        if self._authorizer is None:
            return True, "", ""
        key = repr(asked)
        known = self._known.get(key)
        if known is None:
            verdict = self._authorizer.authorize(asked)
            if not isinstance(verdict, tuple):
                raise Undecided(self._learn(key, verdict))
            known = self._known[key] = _answer(verdict)
        return known

    async def _learn(self, key: str, pending: Awaitable[Verdict]) -> None:
        try:
            self._known[key] = _answer(await pending)
        except CannotDecide as error:
            self._known[key] = False, "", str(error)


def _answer(verdict: Verdict) -> Answer:
    return verdict[0] is Decision.ALLOW, verdict[1], ""
