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
    """`others`: the accepted names of the other definitions of the group. What is in use already stays as it was."""
    taken, taken_kinds = set(), set()
    for names in others:
        taken |= {names.get("plural"), names.get("singular"), *(names.get("shortNames") or ())}
        taken_kinds |= {names.get("kind"), names.get("listKind")}
    requested = crd["spec"]["names"]
    accepted = dict((crd.get("status") or {}).get("acceptedNames") or {})
    conflicts: list[tuple[str, str]] = []
    for field, used in (("plural", taken), ("singular", taken), ("kind", taken_kinds), ("listKind", taken_kinds)):
        value = requested.get(field, "")
        if value and value in used:
            conflicts.append((f"{field[0].upper()}{field[1:]}Conflict", f"{go_quote(value)} is already in use"))
        else:
            accepted[field] = value
    repeated = [name for name in requested.get("shortNames") or () if name in taken]
    if repeated:
        message = ", ".join(f"{go_quote(name)} is already in use" for name in repeated)
        conflicts.append(("ShortNamesConflict", message if len(repeated) == 1 else f"[{message}]"))
    else:
        accepted["shortNames"] = requested.get("shortNames")
    accepted["categories"] = requested.get("categories")
    accepted = {field: value for field, value in accepted.items() if value or field in ("plural", "kind")}
    reason, message = conflicts[-1] if conflicts else ("", "")
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
