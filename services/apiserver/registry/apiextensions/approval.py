"""Groups that belong to Kubernetes: definitions in them need somebody's approval, and tell of it in a condition.

Imitates apiextensions-apiserver's apihelpers and its apiapproval controller. Pure.
"""

from __future__ import annotations

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

APPROVAL = "api-approved.kubernetes.io"
CONFORMANT = "KubernetesAPIApprovalPolicyConformant"
_PROTECTED = ("k8s.io", "kubernetes.io")


def is_protected(group: str) -> bool:
    return group in _PROTECTED or group.endswith(tuple(f".{name}" for name in _PROTECTED))


def approval_of(crd: Object) -> tuple[str, str, str] | None:
    """(status, reason, message) of the condition; None for groups that anybody may use."""
    if not is_protected(crd["spec"].get("group", "")):
        return None
    approval = (crd["metadata"].get("annotations") or {}).get(APPROVAL, "")
    if approval.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {go_quote(approval)}"
    if approval.startswith(("http://", "https://")):
        return "True", "ApprovedAnnotation", f"approved in {approval}"
    told = f"protected groups must have approval annotation {go_quote(APPROVAL)}"
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if approval:
        return "False", "InvalidAnnotation", f'{told} with either a URL or a reason starting with "unapproved", {see}'
    return "False", "MissingAnnotation", f"{told}, {see}"
