"""What calls of functions may cost: tables by function and overload. Imitates k8s.io/apiserver/pkg/cel/library/cost.go, cel-go's ext/sets
and the standard functions of its checker/cost.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .functions import LIST_COST, REGEX_LENGTH, STRUCT_COST, TRAVERSAL
from .libraries.authorization import CHECK_COST
from .nodes import Literal
from .spans import ONE, UNLIMITED, Estimated, Operand, Span
from .types import Type

Call = tuple[Operand | None, list[Operand], Type, str]
"""(target, arguments, the declared root, overload)."""
Rule = Callable[[Call], Estimated | None]
"""None where the rule has nothing to say: the next table is asked."""
FORMAT_REGEX_MAX, FORMAT_NAME_MAX = 128, 64
_ADDRESS_BYTES = Span(4, 16)
_FREE = Estimated(ONE)


def estimate_call(function: str, overload: str, target: Operand | None, args: list[Operand], root: Type) -> Estimated:
    """The cost of a call without that of its arguments."""
    call: Call = target, args, root, overload
    for rule in (_SETS.get(function), _KUBERNETES.get(function), _STANDARD.get(overload) or _STANDARD.get(function)):
        if rule is not None and (found := rule(call)) is not None:
            return found
    return _FREE


def _fixed(cost: int) -> Rule:
    found = Estimated(Span(cost, cost))
    return lambda call: found


def _sets(factor: int) -> Rule:
    def rule(call: Call) -> Estimated | None:
        _, args, root, _ = call
        return Estimated(args[0].size_in(root).times(args[1].size_in(root)).scaled(factor).plus(ONE)) if len(args) == 2 else None

    return rule


# ---- Kubernetes' libraries


def _over_list(call: Call) -> Estimated | None:
    """Each element once, and the characters of those that have some; or a text."""
    target, _, root, _ = call
    if target is None:
        return None
    items = target.items()
    if items is None:
        return Estimated(target.size_in(root).scaled(TRAVERSAL))
    each = ONE
    if items.type.kind in ("string", "bytes"):
        each = each.plus(items.size_in(root).scaled(TRAVERSAL))
    return Estimated(target.size_in(root).times(each))


def _over_argument(call: Call) -> Estimated | None:
    _, args, root, _ = call
    if len(args) != 1:
        return None
    size = args[0].size_in(root)
    return Estimated(size.scaled(TRAVERSAL), size)


def _over_target(call: Call) -> Estimated | None:
    target, _, root, _ = call
    if target is None:
        return None
    size = target.size_in(root)
    return Estimated(size.scaled(TRAVERSAL), size)


def _replace(call: Call) -> Estimated | None:
    target, args, root, _ = call
    if target is None or len(args) < 2:
        return None
    size, old, new = target.size_in(root), args[0].size_in(root), args[1].size_in(root)
    most, kept_most = _replacements(size.most, old.least, grows=new.most > old.least)
    least, kept_least = _replacements(size.least, old.most, grows=old.most > new.least)
    return Estimated(size.scaled(2 * TRAVERSAL), Span(least, most).times(new).plus(Span(kept_least, kept_most)))


def _replacements(length: int, replaced: int, *, grows: bool) -> tuple[int, int]:
    """(how often a part of a length is replaced at the extreme, how much of the text stays)."""
    if replaced == 0:
        return min(length + 1, UNLIMITED), length
    return (math.ceil(float(length) / float(replaced)), 0) if grows else (0, length)


def _split(call: Call) -> Estimated | None:
    target, args, root, _ = call
    if target is None:
        return None
    size = target.size_in(root)
    most = size.most
    count = args[1].node if len(args) > 1 else None
    if isinstance(count, Literal) and isinstance(count.value, int):
        most = count.value % 2**64
    return Estimated(size.scaled(2 * TRAVERSAL), Span(0, most))


def _join(call: Call) -> Estimated | None:
    target, args, root, _ = call
    if target is None:
        return None
    count, items = target.size_in(root), target.items()
    size = count.times(items.size_in(root)) if items is not None else Span(0, 0)
    if args:
        size = size.plus(args[0].size_in(root).times(Span(max(count.least - 1, 0), max(count.most - 1, 0))))
    return Estimated(size.scaled(TRAVERSAL), size)


def _find(call: Call) -> Estimated | None:
    target, args, root, _ = call
    if target is None or not args:
        return None
    size = target.size_in(root)
    cost = size.plus(ONE).scaled(TRAVERSAL).times(args[0].size_in(root).scaled(REGEX_LENGTH))
    return Estimated(cost, Span(0, size.most))


def _containing(call: Call, *, ip: bool) -> Estimated | None:
    target, args, root, overload = call
    if target is None or not args:
        return None
    cost = _ADDRESS_BYTES.plus(_ADDRESS_BYTES).scaled(TRAVERSAL)
    if not ip:
        cost = cost.plus(_ADDRESS_BYTES.scaled(TRAVERSAL), ONE)
    if "(string)" in overload:
        cost = cost.plus(args[0].size_in(root).scaled(TRAVERSAL))
    return Estimated(cost)


def _validate(call: Call) -> Estimated | None:
    target, args, root, _ = call
    if target is None:
        return None
    return Estimated(args[0].size_in(root).scaled(TRAVERSAL).scaled(FORMAT_REGEX_MAX * REGEX_LENGTH))


def _selector(call: Call) -> Estimated | None:
    _, args, root, _ = call
    if len(args) != 1:
        return None
    size = args[0].size_in(root)
    requirements = size.scaled(0.5).scaled(LIST_COST + STRUCT_COST)
    return Estimated(Span(LIST_COST, LIST_COST).plus(size.scaled(TRAVERSAL), requirements))


def _equal_opaque(call: Call) -> Estimated | None:
    """Values that only functions know compare at once."""
    _, args, _, _ = call
    if len(args) != 2 or args[0].type != args[1].type or args[0].type.kind != "opaque" or args[0].type.name == "optional_type":
        return None
    if args[0].type.name == "kubernetes.NamedFormat":
        return Estimated(Span(1, FORMAT_NAME_MAX).scaled(TRAVERSAL))
    if args[0].type.name == "kubernetes.URL":
        return Estimated(Span(1, (args[1].computed or ONE).most).scaled(TRAVERSAL))
    return _FREE


_SETS = {"sets.contains": _sets(1), "sets.intersects": _sets(1), "sets.equivalent": _sets(2)}
_KUBERNETES: dict[str, Rule] = {
    "check": _fixed(CHECK_COST), "fieldSelector": _selector, "labelSelector": _selector,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _over_list),
    **dict.fromkeys(("url", "jsonpatch.escapeKey"), _over_argument),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _over_target),
    "replace": _replace, "split": _split, "join": _join, "find": _find, "findAll": _find,
    "containsIP": lambda call: _containing(call, ip=True), "containsCIDR": lambda call: _containing(call, ip=False),
    "validate": _validate, "_==_": _equal_opaque,
}  # fmt: skip


# ---- the standard functions, by overload


def _compared(call: Call) -> Estimated:
    """The shorter of both, whose least length is only known to be something."""
    _, args, _, _ = call
    shorter = min(args[0].size.most, args[1].size.most)
    return Estimated(Span(1 if shorter else 0, shorter).scaled(TRAVERSAL))


def _added(call: Call) -> Estimated:
    _, args, _, overload = call
    size = args[0].size.plus(args[1].size)
    return Estimated(ONE if overload == "add_list" else size.scaled(TRAVERSAL), size)


def _to_bytes(call: Call) -> Estimated:
    size = call[1][0].size
    return Estimated(size.scaled(TRAVERSAL), Span(size.least, min(size.most * 4, UNLIMITED)))


def _to_text(call: Call) -> Estimated:
    size = call[1][0].size
    return Estimated(size.scaled(TRAVERSAL), Span(size.least // 4, size.most))


def _quoted(call: Call) -> Estimated:
    size = call[1][0].size
    return Estimated(size.scaled(TRAVERSAL), Span(size.least + 2, min(size.most * 2 + 2, UNLIMITED)))


def _formatted(call: Call) -> Estimated | None:
    return Estimated(call[0].size.scaled(TRAVERSAL)) if call[0] is not None else None


def _matched(call: Call) -> Estimated | None:
    target, args, _, _ = call
    if target is None:
        return None
    return Estimated(target.size.plus(ONE).scaled(TRAVERSAL).times(args[0].size.scaled(REGEX_LENGTH)))


def _contained(call: Call) -> Estimated | None:
    target, args, _, _ = call
    return Estimated(target.size.scaled(TRAVERSAL).times(args[0].size.scaled(TRAVERSAL))) if target is not None else None


def _begins(call: Call) -> Estimated:
    return Estimated(call[1][0].size.scaled(TRAVERSAL))


_STANDARD: dict[str, Rule] = {
    **dict.fromkeys(("compare_string", "compare_bytes", "equals", "not_equals"), _compared),
    **dict.fromkeys(("add_string", "add_bytes", "add_list"), _added), "string_to_bytes": _to_bytes, "bytes_to_string": _to_text,
    "starts_with_string": _begins, "ends_with_string": _begins, "in_list": lambda call: Estimated(call[1][1].size),
    "matches_string": _matched, "contains_string": _contained, "format": _formatted, "strings.quote": _quoted,
}  # fmt: skip
