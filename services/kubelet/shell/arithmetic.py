"""`$((…))`: integer expressions with variables and C's operators, by precedence climbing."""

from __future__ import annotations

import re
from collections.abc import Callable

TOKEN = re.compile(r"\s*(?:(0[xX][0-9a-fA-F]+|\d+)|([A-Za-z_]\w*)|(<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>!~&|^()?:]))")
PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7, "<<": 8, ">>": 8, "+": 9, "-": 9,
    "*": 10, "/": 10, "%": 10,
}  # fmt: skip
SHIFT_MAX = 63


class ArithmeticFailure(ValueError):
    """Division by zero or a malformed expression."""


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise ArithmeticFailure("divide by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


BINARY: dict[str, Callable[[int, int], int]] = {
    "||": lambda a, b: int(bool(a or b)), "&&": lambda a, b: int(bool(a and b)), "|": lambda a, b: a | b, "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b), "<": lambda a, b: int(a < b), "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b), "<<": lambda a, b: a << min(max(b, 0), SHIFT_MAX), ">>": lambda a, b: a >> min(max(b, 0), SHIFT_MAX),
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": _divide, "%": lambda a, b: a - b * _divide(a, b),
}  # fmt: skip


def evaluate(text: str, variable: Callable[[str], str]) -> int:
    """The value, wrapped to 64 bits; ArithmeticFailure if the expression is bad."""
    return _wrap(_Evaluator(text, variable).whole())


def _wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


class _Evaluator:
    def __init__(self, text: str, variable: Callable[[str], str]) -> None:
        self._variable = variable
        self._tokens: list[str] = []
        position, text = 0, text.strip()
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                raise ArithmeticFailure(f"arithmetic syntax error near {text[position:]!r}")
            self._tokens.append(match[1] or match[2] or match[3])
            position = match.end()
        self._at = 0

    def whole(self) -> int:
        if not self._tokens:
            return 0
        value = self._ternary()
        if self._at < len(self._tokens):
            raise ArithmeticFailure(f"arithmetic syntax error near {self._tokens[self._at]!r}")
        return value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise ArithmeticFailure("arithmetic syntax error")
        self._at += 1
        return token

    def _ternary(self) -> int:
        condition = self._binary(1)
        if self._peek() != "?":
            return condition
        self._take()
        yes = self._ternary()
        if self._take() != ":":
            raise ArithmeticFailure("arithmetic syntax error: expected ':'")
        no = self._ternary()
        return yes if condition else no

    def _binary(self, level: int) -> int:
        left = self._unary()
        while (precedence := PRECEDENCE.get(self._peek(), 0)) >= level and precedence:
            operator = self._take()
            left = _wrap(BINARY[operator](left, self._binary(precedence + 1)))
        return left

    def _unary(self) -> int:
        token = self._take()
        if token == "(":
            value = self._ternary()
            if self._take() != ")":
                raise ArithmeticFailure("arithmetic syntax error: expected ')'")
            return value
        if token in "-+!~":
            value = self._unary()
            return {"-": -value, "+": value, "!": int(not value), "~": ~value}[token]
        if token[0].isdigit():
            return int(token, 16 if token[:2] in ("0x", "0X") else (8 if len(token) > 1 and token[0] == "0" and token.isdigit() else 10))
        text = self._variable(token).strip()
        if not text:
            return 0
        try:
            return int(text, 0)
        except ValueError:
            raise ArithmeticFailure(f"{token}: not a number: {text!r}") from None
