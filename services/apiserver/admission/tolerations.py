"""Which tolerations others make needless. Imitates pkg/util/tolerations."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.resources import Object


def merge(tolerations: Sequence[Object]) -> list[Object]:
    """Without those that another one covers; of equal ones the first (MergeTolerations)."""
    kept: list[Object] = []
    for i, toleration in enumerate(tolerations):
        others = [*kept, *tolerations[i + 1 :]]
        if not any(covers(other, toleration) and (other != toleration or other in kept) for other in others):
            kept.append(toleration)
    return kept


def covers(one: Object, other: Object) -> bool:
    """Whether a toleration tolerates all that another one does (isSuperset)."""
    if one == other:
        return True
    key, operator, effect = one.get("key", ""), one.get("operator") or "Equal", one.get("effect", "")
    if other.get("key", "") != key and (key or operator != "Exists"):
        return False
    if effect and other.get("effect", "") != effect:
        return False
    seconds = one.get("tolerationSeconds")
    if effect == "NoExecute" and seconds is not None and (other.get("tolerationSeconds") is None or other["tolerationSeconds"] > seconds):
        return False
    if operator == "Exists":
        return True
    return (other.get("operator") or "Equal") == "Equal" and other.get("value", "") == one.get("value", "")
