"""Regular expressions of Go (RE2), compiled by Python's engine and refused in the words of Go's.

Left out: Python backtracks where RE2 does not, so a hostile pattern may take long.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .re2 import PatternError, python_syntax
from .values import CelError

PATTERNS_KEPT_MAX = 512


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def translate(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled. Raises PatternError."""
    try:
        return re.compile(python_syntax(pattern))
    except (re.error, OverflowError, RecursionError):
        raise PatternError("expression too large", pattern) from None


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of an expression. Raises CelError."""
    try:
        return translate(pattern)
    except PatternError as error:
        raise CelError(str(error)) from None


__all__ = ["PatternError", "compiled", "translate"]
