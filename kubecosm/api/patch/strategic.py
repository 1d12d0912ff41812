"""Strategic merge patches: merge patches that know which lists are keyed, and obey directives.

Imitates k8s.io/apimachinery/pkg/util/strategicpatch (the server's half). `$patch: replace|delete|merge`, `$retainKeys`,
`$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`; merge keys and strategies come from the schema.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, NamedTuple

from kubecosm.api.schema.model import LIST, MAP, STRUCT, Field, Type, schemas

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_PREFIX = "$deleteFromPrimitiveList"
ORDER_PREFIX = "$setElementOrder"


class PatchInvalid(ValueError):
    """The patch is ill-formed (reason BadRequest)."""


class PatchUnprocessable(ValueError):
    """The patch is well-formed but cannot be carried out (422 without details)."""


class PatchError(ValueError):
    """Anything else, which Kubernetes answers with a bare 500."""


class _Rules(NamedTuple):
    """How a field merges."""

    type: Type | None
    strategy: str
    merge_key: str


_NO_RULES = _Rules(None, "", "")


def merge(definition: str, original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The original with the patch merged in; neither is changed. Raises PatchInvalid, PatchUnprocessable, PatchError."""
    return _merge_map(Type(STRUCT, "", ref=definition), original, patch)


def _rules(owner: Type | None, key: str) -> _Rules:
    """What the schema says of a field of a struct, or of an entry of a map."""
    if owner is None:
        return _NO_RULES
    if owner.kind == MAP:
        return _Rules(owner.elem, "", "")
    if owner.kind != STRUCT:
        return _NO_RULES
    found = _known_rules.get((owner.ref, key))
    if found is None:
        found = _known_rules[owner.ref, key] = _rules_of_field(owner, key)
    return found


_known_rules: dict[tuple[str, str], _Rules] = {}
"""By definition and field: no more than the schemas have."""


def _rules_of_field(owner: Type, key: str) -> _Rules:
    """Raises PatchError."""
    field: Field | None = schemas().definition(owner.ref).fields.get(key)
    if field is None:
        struct = owner.ref.rpartition(".")[2]
        raise PatchError(f'unable to find api field in struct {struct} for the json field "{key}"')
    strategy = next((name for name in field.patch_strategy if name != "retainKeys"), "")
    return _Rules(field.type, strategy, field.merge_key)


def _merge_map(owner: Type | None, original: dict[str, Any] | None, patch: dict[str, Any]) -> dict[str, Any]:
    for key in patch:
        if key.startswith("$"):
            return _merge_directed(owner, original, patch)
    result = dict(original or {})
    for key, value in patch.items():
        present = result.get(key)
        if value is None:
            result.pop(key, None)
        elif type(present) is type(value) and isinstance(value, dict | list):
            result[key] = _merge_field(_rules(owner, key), present, value, False)
        else:
            result[key] = _taken(value)
    return result


def _merge_directed(owner: Type | None, original: dict[str, Any] | None, patch: dict[str, Any]) -> dict[str, Any]:
    """Merge a patch that may have directives."""
    if DIRECTIVE in patch:
        return _obey(patch)
    result, patch = _retain_keys(dict(original or {}), patch)
    result, patch = _set_order(owner, result, patch)
    for key, value in patch.items():
        is_deletion = key.startswith(DELETE_PREFIX)
        name = _plain_key(key, DELETE_PREFIX) if is_deletion else key
        if value is None:
            result.pop(name, None)
        elif name not in result:
            if not is_deletion:
                result[name] = _taken(value)
        elif type(result[name]) is not type(value) or not isinstance(value, dict | list):
            result[name] = _taken(value)
        else:
            result[name] = _merge_field(_rules(owner, name), result[name], value, is_deletion)
    return result


def _merge_field(rules: _Rules, original: Any, value: Any, is_deletion: bool) -> Any:
    if isinstance(value, dict):
        return _taken(value) if rules.strategy == "replace" else _merge_map(rules.type, original, value)
    if rules.strategy == "merge":
        return _merge_list(rules, original, value, is_deletion)
    return _taken(value)


def _obey(patch: dict[str, Any]) -> dict[str, Any]:
    """`$patch` in an object: replace takes the rest of the patch as it is, delete leaves nothing."""
    directive = patch[DIRECTIVE]
    rest = {key: value for key, value in patch.items() if key != DIRECTIVE}
    if directive == "replace":
        return rest
    if directive == "delete":
        return {}
    raise PatchError(f"unknown patch type: {go_text(directive)} in map: {go_text(patch)}")


def _taken(value: Any) -> Any:
    """A value that has nothing to merge with: nulls and directives in it are dropped."""
    if isinstance(value, dict):
        if value.get(DIRECTIVE) == "delete":
            return {}
        return {
            key: _taken(item) if isinstance(item, dict | list) else item
            for key, item in value.items()
            if item is not None and not (key.startswith("$") and _is_directive(key))
        }
    if isinstance(value, list):
        return [_taken(item) for item in value if not (isinstance(item, dict) and item.get(DIRECTIVE) in ("delete", "replace"))]
    return value


def _is_directive(key: str) -> bool:
    return key in (DIRECTIVE, RETAIN_KEYS) or key.startswith((f"{DELETE_PREFIX}/", f"{ORDER_PREFIX}/"))


def _plain_key(key: str, prefix: str) -> str:
    found, slash, name = key.partition("/")
    if not slash or found != prefix:
        which = "primitive list" if prefix == DELETE_PREFIX else "setElementOrder list"
        raise PatchInvalid(f"invalid patch format of {which}")
    return name


def _retain_keys(original: dict[str, Any], patch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Obey `$retainKeys`: fields of the original that it does not list go (as unions demand)."""
    if RETAIN_KEYS not in patch:
        return original, patch
    kept = patch[RETAIN_KEYS]
    patch = {key: value for key, value in patch.items() if key != RETAIN_KEYS}
    if not isinstance(kept, list):
        raise PatchInvalid("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and key not in kept and not key.startswith((DELETE_PREFIX, ORDER_PREFIX)):
            raise PatchInvalid("invalid patch format of retainKeys")
    return {key: value for key, value in original.items() if key in kept}, patch


def _set_order(owner: Type | None, original: dict[str, Any], patch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Obey `$setElementOrder/<field>`: merge the field's lists and order the result."""
    orders = {key: value for key, value in patch.items() if key.startswith(ORDER_PREFIX)}
    if not orders:
        return original, patch
    patch = {key: value for key, value in patch.items() if key not in orders}
    for key, order in orders.items():
        name = _plain_key(key, ORDER_PREFIX)
        live, change = original.get(name), patch.pop(name, None)
        for value in (order, live or [], change or []):
            if not isinstance(value, list):
                raise PatchError(f"expected a []interface {{}}, but received a {_go_type(value)}")
        rules = _rules(owner, name)
        _check_order(change or [], order, rules.merge_key)
        if live is None and change is None:
            continue
        merged = live if change is None else _taken(change) if live is None else _merge_field(rules, live, change, False)
        if merged:
            merged = _ordered(merged, order, live or [], rules.merge_key)
        original[name] = merged
    return original, patch


def _check_order(change: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's items must stand in the order list, in the same relative order."""
    wanted = [item for item in change if not (isinstance(item, dict) and DIRECTIVE in item)]
    if not change or not order:
        return
    places = iter(order)
    for item in wanted:
        if not any(_same(item, other, merge_key) for other in places):
            raise PatchError(f"The order in patch list:\n{go_text(change)}\n doesn't match {ORDER_PREFIX} list:\n{go_text(order)}\n")


def _same(left: Any, right: Any, merge_key: str) -> bool:
    if not merge_key:
        return bool(left == right)
    return bool(_key_of(left, merge_key) == _key_of(right, merge_key))


def _key_of(item: Any, merge_key: str) -> Any:
    if not isinstance(item, dict):
        raise PatchError(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")
    if merge_key not in item:
        raise PatchError(f"map: {go_text(item)} does not contain declared merge key: {merge_key}")
    return item[merge_key]


def _merge_list(rules: _Rules, original: list[Any], patch: list[Any], is_deletion: bool) -> list[Any]:
    if not original and not patch:
        return original
    if not _holds_maps(original, patch):
        if is_deletion:
            return [item for item in original if item not in patch]
        merged = list(dict.fromkeys([*original, *patch]))
        return _ordered(merged, patch, original, "")
    elem = rules.type.elem if rules.type is not None and rules.type.kind == LIST else None
    key = rules.merge_key
    if not key:
        raise PatchError("cannot merge lists without merge key for type struct")
    base, changes = _obey_items(original, patch, key)
    result = list(base)
    for change in changes:
        value = _key_of(change, key)
        place = next((index for index, item in enumerate(result) if _key_or_none(item, key) == value), None)
        if place is None:
            result.append(_taken(change))
        else:
            result[place] = _merge_map(elem, result[place], change)
    return _ordered(result, changes, base, key)


def _holds_maps(*lists: list[Any]) -> bool:
    kinds = {type(item) for items in lists for item in items}
    if list in kinds:
        raise PatchUnprocessable("lists of lists are not supported")
    if len(kinds) > 1:
        raise PatchError(f"list element types are not identical: {go_text(list(lists))}")
    return kinds == {dict}


def _obey_items(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Obey `$patch` in items: delete takes away, replace starts from nothing. The rest of the patch remains to be merged."""
    changes, replaced = [], False
    for item in patch:
        directive = item.get(DIRECTIVE)
        if DIRECTIVE not in item:
            changes.append(item)
        elif directive == "delete":
            value = _key_of(item, key)
            original = [live for live in original if _key_or_none(live, key) != value]
        elif directive == "replace":
            replaced = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch")
        else:
            raise PatchError(f"unknown patch type: {go_text(directive)} in map: {go_text(item)}")
    return ([_taken(item) for item in changes], []) if replaced else (original, changes)


def _key_or_none(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _ordered(merged: list[Any], order: list[Any], live: list[Any], key: str) -> list[Any]:
    """Items named by `order` in its order; the others keep their live places among them as well as can be."""
    wanted, there = _places(order, key), _places(live, key)
    named: list[tuple[int, int, Any]] = []
    others: list[tuple[int, Any]] = []
    for item in merged:
        identity = _identity(_key_of(item, key) if key else item)
        place = there.get(identity, -1)
        if identity in wanted:
            named.append((wanted[identity], place, item))
        else:
            others.append((place, item))
    named.sort(key=itemgetter(0))
    others.sort(key=lambda other: other[0] if other[0] >= 0 else len(live))
    result: list[Any] = []
    left, right = 0, 0
    while left < len(others) and right < len(named):
        if 0 <= others[left][0] < named[right][1]:
            result.append(others[left][1])
            left += 1
        else:
            result.append(named[right][2])
            right += 1
    return result + [item for _, item in others[left:]] + [item for _, _, item in named[right:]]


def _places(items: list[Any], key: str) -> dict[Any, int]:
    """Where each item, known by its key or (without one) by itself, stands first."""
    places: dict[Any, int] = {}
    for index, item in enumerate(items):
        places.setdefault(_identity(_key_or_none(item, key) if key else item), index)
    return places


def _identity(value: Any) -> Any:
    """A value that can stand for this one as a key; objects and lists, which are no keys, stand for their text."""
    return go_text(value) if isinstance(value, dict | list) else value


def _go_type(value: Any) -> str:
    names: dict[type, str] = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}
    return "<nil>" if value is None else names.get(type(value), "float64")


def go_text(value: Any) -> str:
    """A decoded JSON value as Go's %v prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_text, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
