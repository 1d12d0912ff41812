"""bash's `[[ … ]]`: words are neither split nor globbed, `==` takes patterns, `=~` regular expressions, whose groups are in BASH_REMATCH.

Left out: case-insensitive matching (`shopt -s nocasematch`), quoting inside of regular expressions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .expansion import match
from .process import UsageError

if TYPE_CHECKING:
    from .expansion import Expander
    from .interpreter import Shell
    from .syntax import Word

OPEN, CLOSE = "[[", "]]"
PATTERN_OPERATORS = frozenset(("=", "==", "!="))
CLASSES = {
    "[:space:]": r"\s", "[:digit:]": r"\d", "[:alpha:]": "a-zA-Z", "[:alnum:]": "a-zA-Z0-9", "[:upper:]": "A-Z", "[:lower:]": "a-z",
    "[:blank:]": r" \t", "[:xdigit:]": "0-9A-Fa-f",
}  # fmt: skip
GROUPS = "BASH_REMATCH"


async def expand(expander: Expander, words: tuple[Word, ...]) -> list[str]:
    """The words of `[[ … ]]` as they are compared: what follows `==` or `!=` is a pattern."""
    result: list[str] = []
    for word in words:
        is_pattern = bool(result) and result[-1] in PATTERN_OPERATORS
        result.append(await (expander.pattern(word) if is_pattern else expander.text(word)))
    return result


async def evaluate(shell: Shell, args: list[str]) -> int:
    """The exit code of `[[ args`, whose last is `]]`."""
    from .programs.system import COMPARISONS, TestExpression  # these programs know the shell

    def matches(text: str, expression: str) -> bool:
        for name, characters in CLASSES.items():
            expression = expression.replace(name, characters)
        try:
            found = re.search(expression, text)
        except re.error as error:
            raise UsageError(f"invalid regular expression: {error}") from error
        groups = () if found is None else (found[0], *found.groups(""))
        shell.assign(GROUPS, groups[0] if groups else "")
        for number in range(max(len(groups), 10)):
            shell.assign(f"{GROUPS}[{number}]", groups[number] if number < len(groups) else "")
        return found is not None

    comparisons = {**COMPARISONS, "=": match, "==": match, "!=": lambda a, b: not match(a, b), "=~": matches}
    try:
        return 0 if TestExpression(shell.process, args[:-1], comparisons).whole() else 1
    except UsageError as error:
        await shell.process.complain(f"{shell.name}: {error}")
        return 2
