"""Writes docs/conformance.md: each conformance promise and the tests that keep it, as the tests' own `@promise` marks say.

    python scripts/conformance.py [--check]

`--check` writes nothing and fails when the page is out of date. Reads the sources of the tests without importing them; a mark is a call of
`promise` with literal names: a decorator of a function or class (also inside its parameters) or part of a module's `pytestmark`.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.promises import official_names, plain  # noqa: E402

PAGE = ROOT / "docs" / "conformance.md"
HEAD = """# Conformance promises

What Kubernetes 1.36 promises in its conformance tests, by interest group, and the test of ours that keeps the promise. Written by
`scripts/conformance.py` from the `@promise` marks of the tests (see [tests/conformance](../tests/conformance/README.md)); a dash means
that no test of ours claims it. Our tests follow the promises' descriptions; they are not the official programs, which need images and a
cluster of their own.
"""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def marks_in(nodes: list[ast.expr]) -> Iterator[str]:
    """The literal names that calls of `promise` among these expressions have."""
    for node in nodes:
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "promise":
                yield from (a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def kept_in(path: Path) -> Iterator[tuple[str, str]]:
    """(plain promise, `file::test`) for each mark in one module."""
    module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    place = path.relative_to(ROOT).as_posix()
    for statement in module.body:
        if isinstance(statement, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in statement.targets):
            yield from ((plain(name), place) for name in marks_in([statement.value]))
        elif isinstance(statement, Definition):
            yield from ((plain(name), f"{place}::{statement.name}") for name in marks_in(statement.decorator_list))
            inner = statement.body if isinstance(statement, ast.ClassDef) else []
            for method in inner:
                if isinstance(method, Definition):
                    names = marks_in(method.decorator_list)
                    yield from ((plain(name), f"{place}::{statement.name}::{method.name}") for name in names)


def kept() -> dict[str, list[str]]:
    """Plain promise → the tests that keep it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, test in kept_in(path):
            found[name].append(test)
    return found


def group_of(official: str) -> str:
    return official[1 : official.index("]")]


def page() -> str:
    """The whole page."""
    tests, parts = kept(), [HEAD]
    names = sorted(official_names().items(), key=lambda pair: (group_of(pair[1]), pair[0]))
    for group, members in groupby(names, key=lambda pair: group_of(pair[1])):
        rows = [f"| {name} | {' '.join(f'`{test}`' for test in tests[name]) or '–'} |" for name, _official in members]
        parts.append(f"\n## {group}\n\n| promise | test |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def figures() -> str:
    """One line a group: how many of its promises have a test."""
    tests = kept()
    groups = sorted((group_of(official), name) for name, official in official_names().items())
    lines = []
    for group, pairs in groupby(groups, key=lambda pair: pair[0]):
        names = [name for _group, name in pairs]
        lines.append(f"{group}: {sum(bool(tests.get(name)) for name in names)} of {len(names)}")
    return "\n".join(lines)


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print("docs/conformance.md is out of date: run python scripts/conformance.py", file=sys.stderr)
            return 1
    else:
        PAGE.write_text(text, encoding="utf-8")
    print(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
