"""How a script leaves where it is: exit, return, break and continue as exceptions, and how deep calls may go."""

from __future__ import annotations

CALL_DEPTH_MAX = 60
"""Functions, subshells and scripts that call themselves end here."""


class ExitShell(Exception):
    """`exit`: ends the (sub)shell."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ReturnFunction(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class LoopJump(Exception):
    """`break` or `continue` out of `levels` loops."""

    def __init__(self, levels: int, *, again: bool) -> None:
        super().__init__(levels)
        self.levels = levels
        self.again = again
