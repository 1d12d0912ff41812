"""What is wrong with an expression, in cel-go's layout."""

from __future__ import annotations

from typing import NamedTuple


class Issue(NamedTuple):
    """A complaint about a place in the source."""

    position: int
    message: str


class CompileError(Exception):
    """An expression cannot be used. `str()` gives all complaints, each with the line it is about, as cel-go prints them."""

    def __init__(self, source: str, issues: list[Issue]) -> None:
        self.issues = sorted(issues, key=lambda issue: issue.position)
        super().__init__("\n".join(_shown(source, issue) for issue in self.issues))


def _shown(source: str, issue: Issue) -> str:
    before = source[: issue.position]
    line, column = before.count("\n"), issue.position - (before.rfind("\n") + 1)
    lines = source.split("\n")
    text = lines[line] if line < len(lines) else ""
    return f"ERROR: <input>:{line + 1}:{column + 1}: {issue.message}\n | {text}\n | {'.' * column}^"
