"""Sets of completion indexes in the form `1,3-5`, as users and controllers write them. Imitates validateIndexesFormat and its kin."""

from __future__ import annotations

from kubecosm.api.field import go_quote


class IntervalError(ValueError):
    """The text is no such set; the message is Kubernetes'."""


def parse_interval(text: str, completions: int) -> tuple[int, int]:
    """First and last index of one part; IntervalError if it is none, or reaches beyond the completions."""
    limits = text.split("-")
    if len(limits) > 2:
        raise IntervalError(
            f"the fragment {go_quote(text)} violates the requirement that an index interval can have at most two parts separated by '-'"
        )
    first, *rest = (_index(limit, completions) for limit in limits)
    if rest and first >= rest[0]:
        raise IntervalError(f"non-increasing order, previous: {first}, current: {rest[0]}")
    return first, rest[0] if rest else first


def _index(text: str, completions: int) -> int:
    if not text.isdecimal():
        raise IntervalError(f"cannot convert string to integer for index: {go_quote(text)}")
    if int(text) >= completions:
        raise IntervalError(f"too large index: {go_quote(text)}")
    return int(text)


def count_indexes(text: str, completions: int) -> int:
    """How many indexes the set has; IntervalError if it is malformed or not in order."""
    total, last = 0, -1
    for part in text.split(",") if text else ():
        first, end = parse_interval(part, completions)
        if last >= first:
            raise IntervalError(f"non-increasing order, previous: {last}, current: {first}")
        total, last = total + end - first + 1, end
    return total


def overlap(one: str, other: str, completions: int) -> int | None:
    """The first index that is in both sets; parts that cannot be read are passed over."""
    found = [max(a, x) for a, b in _readable(one, completions) for x, y in _readable(other, completions) if a <= y and x <= b]
    return min(found, default=None)


def _readable(text: str, completions: int) -> list[tuple[int, int]]:
    found = []
    for part in text.split(",") if text else ():
        try:
            found.append(parse_interval(part, completions))
        except IntervalError:
            continue
    return found
