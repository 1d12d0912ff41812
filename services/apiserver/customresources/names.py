"""Which names a definition gets, and the conditions that tell so. Pure.

Imitates apiextensions-apiserver's naming, establishing, non-structural-schema and finalizing controllers.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..registry.apiextensions.approval import CONFORMANT, approval_of

NAMES_ACCEPTED, ESTABLISHED, TERMINATING = "NamesAccepted", "Established", "Terminating"
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


class Decision(NamedTuple):
    """The names in use, and the reason and message of NamesAccepted; `conflict` is empty if all are accepted."""

    names: Object
    conflict: str
    message: str


def decide(crd: Object, others: Iterable[Object]) -> Decision:
    """`others`: the accepted names of the other definitions of the group. What is in use already stays as it was.

    Of several conflicts the last is told. A name that this definition has for something else is in use, too.
    """
    requested = crd["spec"]["names"]
    present: Object = (crd.get("status") or {}).get("acceptedNames") or {}
    taken, taken_kinds = set(), set()
    for names in (*others, present):
        taken |= {names.get("plural"), names.get("singular"), *(names.get("shortNames") or ())}
        taken_kinds |= {names.get("kind"), names.get("listKind")}
    accepted = dict(present)
    reason, message = "", ""
    for field in ("plural", "singular", "shortNames", "kind", "listKind"):
        value, used = requested.get(field), taken_kinds if field.lower().endswith("kind") else taken
        wanted, had = (value or (), present.get(field) or ()) if field == "shortNames" else ((value,), (present.get(field),))
        repeated = dict.fromkeys(name for name in wanted if name and name not in had and name in used)
        if repeated:
            texts = [f"{go_quote(name)} is already in use" for name in repeated]
            reason, message = f"{field[0].upper()}{field[1:]}Conflict", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        else:
            accepted[field] = value or ""
    accepted["categories"] = requested.get("categories")
    accepted = {field: value for field, value in accepted.items() if value or field in ("plural", "kind")}
    return Decision(accepted, reason, message)


def status_of(crd: Object, decision: Decision, now: datetime) -> Object:
    """The status after the decision: equal to the present one when nothing changes."""
    status = {**(crd.get("status") or {}), "acceptedNames": decision.names}
    conditions = list(status.get("conditions") or ())
    if decision.conflict:
        conditions = with_condition(conditions, NAMES_ACCEPTED, "False", decision.conflict, decision.message, now)
        if not is_true(crd, ESTABLISHED):
            conditions = with_condition(conditions, ESTABLISHED, "False", "NotAccepted", "not all names are accepted", now)
    else:
        conditions = with_condition(conditions, NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found", now)
        message = "the initial names have been accepted"
        if not is_true(crd, ESTABLISHED):
            conditions = with_condition(conditions, ESTABLISHED, "True", "InitialNamesAccepted", message, now)
    if (approval := approval_of(crd)) is not None:
        conditions = with_condition(conditions, CONFORMANT, *approval, now)
    return {**status, "conditions": conditions}


def with_condition(conditions: Iterable[Object], kind: str, status: str, reason: str, message: str, now: datetime) -> list[Object]:
    """The conditions with one of them set; its lastTransitionTime moves with its status only."""
    wanted = {"lastTransitionTime": format_time(now), "message": message, "reason": reason, "status": status, "type": kind}
    found, result = False, []
    for condition in conditions:
        if condition.get("type") == kind:
            found = True
            if condition.get("status") == status:
                wanted["lastTransitionTime"] = condition.get("lastTransitionTime", wanted["lastTransitionTime"])
            result.append(wanted)
        else:
            result.append(condition)
    return result if found else [*result, wanted]


def is_true(crd: Object, kind: str) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == kind and condition.get("status") == "True" for condition in conditions)
