"""Values as a field error of Kubernetes shows them: Go maps sort their keys, metav1 structs keep the order of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sorted_map(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A Go map as its JSON shows it: keys sorted; None stays null."""
    return None if value is None else dict(sorted(value.items()))


def selector_value(selector: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A metav1.LabelSelector with its fields in the order Go's JSON has them."""
    if selector is None:
        return None
    value: dict[str, Any] = {}
    if selector.get("matchLabels"):
        value["matchLabels"] = sorted_map(selector["matchLabels"])
    if selector.get("matchExpressions"):
        value["matchExpressions"] = [
            {"key": e.get("key", ""), "operator": e.get("operator", ""), **({"values": e["values"]} if e.get("values") else {})}
            for e in selector["matchExpressions"]
        ]
    return value
