"""Regular expressions of Go (RE2), refused in the words of Go's, looked for by Python's engine or, where that might take long, by our own.

Left out: where a pattern is found in a text is told by Python's engine, after ours has said that it is.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache

from .linear import LinearPattern, is_ambiguous, read, unbounded_repeats
from .re2 import PatternError, python_syntax
from .values import CelError

PATTERNS_KEPT_MAX = 512
SHORT_TEXT = 12
"""Characters of a text in which any pattern may be looked for by backtracking: some thousand ways to go wrong."""
BACKTRACKING_MAX = 1_000_000
"""Steps that backtracking may take at worst."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, source: str) -> None:
        """Raises PatternError."""
        written = python_syntax(source)
        self._has_inner_anchor = r"\B" in source
        try:
            self._quick = re.compile(written)
            self._tree = read(written)
            self._is_ambiguous, self._power = is_ambiguous(self._tree), unbounded_repeats(self._tree) + 1
            if self._is_ambiguous:
                self._linear.is_in("")
        except (re.error, OverflowError, RecursionError):
            raise PatternError("expression too large", source) from None

    @cached_property
    def _linear(self) -> LinearPattern:
        return LinearPattern(self._tree)

    def is_in(self, text: str) -> bool:
        """Whether a text has it."""
        if self._may_backtrack(len(text)):
            return self._quick.search(text) is not None
        return self._linear.is_in(text)

    def _may_backtrack(self, length: int) -> bool:
        """Not in an empty text where Python (before 3.14) finds no `\\B`."""
        if not length and self._has_inner_anchor:
            return False
        return length <= SHORT_TEXT or (not self._is_ambiguous and length**self._power <= BACKTRACKING_MAX)

    def find_all(self, text: str, count: int = -1) -> list[str]:
        """What it is in a text, from the left; at most so many."""
        if not self.is_in(text):
            return []
        found: list[str] = []
        for match in self._quick.finditer(text):
            if len(found) == count:
                break
            found.append(match[0])
        return found


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def translate(pattern: str) -> Pattern:
    """The pattern, compiled. Raises PatternError."""
    return Pattern(pattern)


def compiled(pattern: str) -> Pattern:
    """The pattern of an expression. Raises CelError."""
    try:
        return translate(pattern)
    except PatternError as error:
        raise CelError(str(error)) from None


__all__ = ["Pattern", "PatternError", "compiled", "translate"]
