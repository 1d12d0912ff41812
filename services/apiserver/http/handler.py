"""The shape of everything that answers a request, and of the filters around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .request import Request
from .response import Answer

Handler = Callable[[Request], Awaitable[Answer]]
Filter = Callable[[Handler], Handler]
"""Wraps a handler in one more concern."""
