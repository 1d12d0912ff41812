"""The part of JSONPath that definitions use: fields, indices, wildcards and filters by one comparison.

Imitates k8s.io/client-go/util/jsonpath. Left out: slices, unions and recursive descent, which find nothing here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import orjson

PATHS_KEPT_MAX = 1024
Step = Callable[[Any], Iterator[Any]]

_TOKEN = re.compile(
    r"""\.?\[\?\(\s*@(?P<left>[^=!<>)]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>"[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]"""
    r"""|\[['"](?P<quoted>[^'"]+)['"]\]|\[(?P<index>-?\d+)\]|(?P<all>\.?\[\*\]|\.\*)|\.(?P<name>(?:\\.|[^.\[\\])+)"""
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


def find(path: str, value: Any) -> list[Any]:
    """All that a path such as `.spec.replicas` leads to, without the braces; empty if nothing, or if the path is not understood."""
    found = [value]
    for step in _parse(path):
        found = [item for part in found for item in step(part)]
    return found


@lru_cache(maxsize=PATHS_KEPT_MAX)
def _parse(path: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    text, position = path.strip().removeprefix("{").removesuffix("}").removeprefix("$"), 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return (lambda value: iter(()),)
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["left"] is not None:
        return _filter(match["left"] or ".", match["op"], match["right"])
    if match["all"]:
        return lambda value: iter(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    if match["index"]:
        return _item(int(match["index"]))
    return _field(match["quoted"] or re.sub(r"\\(.)", r"\1", match["name"]))


def _field(name: str) -> Step:
    return lambda value: iter((value[name],) if isinstance(value, dict) and name in value else ())


def _item(index: int) -> Step:
    return lambda value: iter((value[index],) if isinstance(value, list) and -len(value) <= index < len(value) else ())


def _filter(left: str, comparison: str | None, right: str | None) -> Step:
    wanted = _literal(right) if right is not None else None

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            found = [item] if left == "." else find(left, item)
            if found and (comparison is None or _holds(_OPERATORS[comparison], found[0], wanted)):
                yield item

    return step


def _holds(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    try:
        return compare(left, right)
    except TypeError:
        return False


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def printed(value: Any) -> str:
    """A found value as text: scalars as they are, the rest as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def simple_fields(path: str) -> tuple[str, ...]:
    """`.spec.replicas` → ("spec", "replicas"), for paths that are written to."""
    return tuple(part for part in path.strip("{}").split(".") if part)
