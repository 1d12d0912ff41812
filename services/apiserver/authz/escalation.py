"""Nobody grants what he does not hold: the checks before roles and bindings are written.

Imitates pkg/registry/rbac (escalation_check.go, role/policybased, rolebinding/policybased) and pkg/registry/rbac/validation.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

from ..authn.user import User
from .attributes import Attributes, Authorizer, Decision, decide
from .rbac import PolicySource, gather
from .rules import compact, describe, quoted_list, uncovered

GROUP = "rbac.authorization.k8s.io"
FULL_AUTHORITY: tuple[Object, ...] = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]},
)  # fmt: skip
ROLES = {"ClusterRole": "clusterroles", "Role": "roles"}


def excess(source: PolicySource, user: User, namespace: str, rules: Iterable[Object]) -> str:
    """What is wrong with `user` granting `rules` in a namespace (empty: everywhere); empty if he holds them all himself."""
    grants = gather(source, user)
    missing = compact(uncovered(grants.rules_for(namespace), rules))
    if not missing:
        return ""
    shown = "\n".join(sorted({describe(rule) for rule in missing}))
    who = f"user {go_quote(user.name)} (groups={quoted_list(user.groups)})"
    message = f"{who} is attempting to grant RBAC permissions not currently held:\n{shown}"
    complaint = grants.complaint(namespace)
    return f"{message}; resolution errors: [{complaint}]" if complaint else message


async def may_escalate(authorizer: Authorizer, user: User, resource: str, namespace: str, name: str) -> bool:
    """Whether the user may write any rules into the role."""
    wanted = Attributes(user, "escalate", namespace, GROUP, "*", resource, name=name)
    return (await decide(authorizer, wanted))[0] is Decision.ALLOW


async def may_bind(authorizer: Authorizer, user: User, ref: Object, namespace: str) -> bool:
    """Whether the user may bind the role that a roleRef names, whatever it grants."""
    resource = ROLES.get(ref.get("kind", ""))
    if resource is None:
        return False
    wanted = Attributes(user, "bind", namespace, ref.get("apiGroup", ""), "*", resource, name=ref.get("name", ""))
    return (await decide(authorizer, wanted))[0] is Decision.ALLOW
