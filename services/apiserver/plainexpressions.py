"""CEL expressions over plain values, as the configuration files of authentication and authorization hold them.

CEL is imported when the first expression is compiled: servers without such files never pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ExpressionError(Exception):
    """An expression gave no answer; the text says why."""


class Expression:
    """One expression, compiled once."""

    def __init__(self, source: str, names: tuple[str, ...], results: tuple[str, ...]) -> None:
        """It may name `names` and must evaluate to one of `results` (CEL's type names, or what is only known when run).

        Raises ValueError with the compiler's complaint.
        """
        from kubecosm.cel.environment import Environment
        from kubecosm.cel.issues import CompileError
        from kubecosm.cel.types import DYN

        self.source = source
        try:
            self._program = Environment(dict.fromkeys(names, DYN)).compile(source)
        except CompileError as error:
            raise ValueError(f"compilation failed: {error}") from None
        if not self._program.type.kind.startswith((*results, "dyn")):
            raise ValueError(f"must evaluate to {' or '.join(results)}")

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value as plain Python. Raises ExpressionError."""
        from kubecosm.cel.values import CelError, CostExceeded

        try:
            return self._program.evaluate(values)[0]
        except (CelError, CostExceeded) as error:
            raise ExpressionError(f"expression '{self.source}' resulted in error: {error}") from None
