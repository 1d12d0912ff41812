"""PolicyRules: what one grants, and whether some cover others. Pure. Imitates pkg/apis/rbac/v1 (evaluation_helpers.go, helpers.go)
and component-helpers/auth/rbac/validation (policy_comparator.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

LISTS = {
    "apiGroups": "APIGroups", "resources": "Resources", "nonResourceURLs": "NonResourceURLs", "resourceNames": "ResourceNames",
    "verbs": "Verbs",
}  # fmt: skip
"""The fields of a rule and what Go calls them, in the order in which they are shown."""


def rule_covers(rule: Object, verb: str, group: str, resource: str) -> bool:
    """Whether a rule speaks of the verb on the resource (`pods`, `pods/log`), names aside."""
    if not _has(rule.get("verbs"), verb) or not _has(rule.get("apiGroups"), group):
        return False
    return _covers_resource(rule.get("resources") or (), resource)


def path_matches(pattern: str, path: str) -> bool:
    """`*`, an exact path, or a prefix that ends in `*`."""
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def rule_allows_path(rule: Object, verb: str, path: str) -> bool:
    return _has(rule.get("verbs"), verb) and any(path_matches(pattern, path) for pattern in rule.get("nonResourceURLs") or ())


def uncovered(held: Iterable[Object], wanted: Iterable[Object]) -> list[Object]:
    """The smallest pieces of the wanted rules that no held rule covers."""
    held = list(held)
    return [piece for rule in wanted for piece in pieces(rule) if not any(_covers(own, piece) for own in held)]


def pieces(rule: Object) -> Iterator[Object]:
    """A rule as rules of one group, resource, verb and name each (BreakdownRule)."""
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                piece = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                names = rule.get("resourceNames") or ()
                yield from ({**piece, "resourceNames": [name]} for name in names)
                if not names:
                    yield piece
    for url in rule.get("nonResourceURLs") or ():
        yield from ({"nonResourceURLs": [url], "verbs": [verb]} for verb in rule.get("verbs") or ())


def compact(rules: Iterable[Object]) -> list[Object]:
    """Rules that differ only in their verbs become one (CompactRules), for rules as `pieces` makes them."""
    merged: dict[tuple[str, ...], Object] = {}
    others: list[Object] = []
    for rule in rules:
        if "resources" not in rule:
            others.append(rule)
            continue
        key = (*rule["apiGroups"], *rule["resources"], *rule.get("resourceNames", ()))
        known = merged.get(key)
        merged[key] = rule if known is None else {**known, "verbs": [*known["verbs"], *rule["verbs"]]}
    return [*others, *merged.values()]


def describe(rule: Object) -> str:
    """`{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`."""
    parts = [f"{shown}:{quoted_list(rule[field])}" for field, shown in LISTS.items() if rule.get(field)]
    return "{" + ", ".join(parts) + "}"


def quoted_list(texts: Iterable[str]) -> str:
    """A list of strings as Go's %q shows it."""
    return f"[{' '.join(map(go_quote, texts))}]"


def _covers(held: Object, piece: Object) -> bool:
    """Whether one rule grants all that a piece does (ruleCovers)."""
    names, own_names = piece.get("resourceNames"), held.get("resourceNames") or ()
    return (
        _has(held.get("verbs"), piece["verbs"][0])
        and all(_has(held.get("apiGroups"), group) for group in piece.get("apiGroups", ()))
        and all(_covers_resource(held.get("resources") or (), resource) for resource in piece.get("resources", ()))
        and all(any(path_matches(own, url) for own in held.get("nonResourceURLs") or ()) for url in piece.get("nonResourceURLs", ()))
        and (not own_names or (bool(names) and set(names or ()) <= set(own_names)))
    )


def _covers_resource(resources: Iterable[str], resource: str) -> bool:
    if "*" in resources or resource in resources:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in resources


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    values = values or ()
    return "*" in values or wanted in values
