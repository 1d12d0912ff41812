"""Work that is done at once if nobody must be asked, and otherwise goes on where it stopped as soon as it has the answer.

Such work is a generator: it yields what must be waited for, and is told of its failure there. Expressions of policies need this: most
never wait, but an object may have to be converted by a webhook, and the authorizer may have to ask one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import TypeVar

from kubecosm.api.errors import ApiError

T = TypeVar("T")
Waits = Generator[Awaitable[None], None, T]
"""What is yielded may raise ApiError, which the generator gets."""


def begin(work: Waits[None]) -> Awaitable[None] | None:
    """Do the work as far as it goes without waiting. Answers None if that was all, else the rest, to be awaited."""
    try:
        pending = next(work)
    except StopIteration:
        return None
    return _rest(work, pending)


async def finish(work: Waits[T]) -> T:
    """Do all of the work."""
    try:
        pending = next(work)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return await _rest(work, pending)


async def _rest(work: Waits[T], pending: Awaitable[None]) -> T:
    try:
        while True:
            try:
                await pending
            except ApiError as error:
                pending = work.throw(error)
            else:
                pending = next(work)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
