"""What label and field selectors share: their error, and tests over a dict of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Labels = Mapping[str, str]
Match = Callable[[Labels], bool]

CACHE_SIZE = 1024
"""Parsed selectors kept, of each kind."""


class SelectorError(ValueError):
    """The selector is malformed; the message is the one Kubernetes gives (reason BadRequest)."""


def all_of(tests: list[Match]) -> Match:
    """One test out of several, all of which must pass."""
    if not tests:
        return lambda labels: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda labels: first(labels) and second(labels)
    return lambda labels: all(test(labels) for test in tests)
