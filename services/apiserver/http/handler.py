"""The shape of everything that answers a request, and of the filters around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .request import Request
from .response import Answer

# A handler that has nothing to do after the next one may be a plain function that hands on what the next one gives to wait for.
Handler = Callable[[Request], Awaitable[Answer]]
Filter = Callable[[Handler], Handler]
"""Wraps a handler in one more concern."""
