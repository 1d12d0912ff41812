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
        from cel_expr_python import cel
        from cel_expr_python.ext import ext_optional, ext_strings

        self.source = source
        self._error = cel.Type.ERROR
        extensions = [ext_optional.ExtOptional(), ext_strings.ExtStrings()]
        self._env: Any = cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=extensions)
        try:
            self._program: Any = self._env.compile(source)
        except RuntimeError as error:
            raise ValueError(f"compilation failed: {error}") from None
        found = self._program.return_type().name().lower()
        if not found.startswith((*results, "dyn")):
            raise ValueError(f"must evaluate to {' or '.join(results)}")

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value as plain Python. Raises ExpressionError."""
        found = self._program.eval(self._env.Activation(dict(values)))
        if found.type() == self._error:
            raise ExpressionError(f"expression '{self.source}' resulted in error: {found.plain_value()}")
        return found.plain_value()
