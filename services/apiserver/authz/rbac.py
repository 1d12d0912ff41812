"""Role-based access control: from roles and bindings to decisions. Imitates plugin/pkg/auth/authorizer/rbac.

The policy is read through a PolicySource (the watch cache); a user's grants are gathered once and remembered until the policy changes,
so a request costs a dictionary look-up. Left out: reporting which binding allowed a request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from kubecosm.api.resources import Object

from ..authn.user import User
from .attributes import Attributes, Decision

USERS_REMEMBERED_MAX = 4096
ANSWERS_PER_USER_MAX = 4096
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


class PolicySource(Protocol):
    """Where the policy lives. `version` changes whenever any of its objects does."""

    @property
    def version(self) -> int: ...

    def cluster_role(self, name: str) -> Object | None: ...

    def role(self, namespace: str, name: str) -> Object | None: ...

    def cluster_role_bindings(self) -> Iterable[Object]: ...

    def role_bindings(self) -> Iterable[Object]: ...


@dataclass(slots=True)
class Grants:
    """All rules that apply to one user: at cluster scope (every namespace too) and by namespace; and answers found so far."""

    cluster: list[Object] = field(default_factory=list)
    namespaced: dict[str, list[Object]] = field(default_factory=dict)
    answers: dict[tuple[str, ...], bool | frozenset[str]] = field(default_factory=dict)

    def rules_for(self, namespace: str) -> Iterator[Object]:
        yield from self.cluster
        if namespace:
            yield from self.namespaced.get(namespace, ())


class RbacAuthorizer:
    """Allows what a binding grants, and otherwise has no opinion."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source
        self._version = -1
        self._by_user: OrderedDict[tuple[str, tuple[str, ...]], Grants] = OrderedDict()

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        """Answers ALLOW or NO_OPINION; RBAC never denies."""
        grants = self.grants_of(attributes.user)
        allowed = _allows_resource(grants, attributes) if attributes.is_resource else _allows_path(grants, attributes)
        return (Decision.ALLOW, "") if allowed else (Decision.NO_OPINION, "")

    def rules(self, user: User, namespace: str) -> list[Object]:
        return list(self.grants_of(user).rules_for(namespace))

    def grants_of(self, user: User) -> Grants:
        """What the user has been granted, gathered anew after every change of the policy."""
        if self._source.version != self._version:
            self._by_user.clear()
            self._version = self._source.version
        key = (user.name, user.groups)
        grants = self._by_user.get(key)
        if grants is None:
            grants = self._by_user[key] = gather(self._source, user)
            if len(self._by_user) > USERS_REMEMBERED_MAX:
                self._by_user.popitem(last=False)
        return grants


def gather(source: PolicySource, user: User) -> Grants:
    """The user's grants from all bindings that name him, one of his groups, or his service account."""
    grants = Grants()
    for binding in source.cluster_role_bindings():
        if applies(binding, user, ""):
            grants.cluster += role_rules(source, binding, "")
    for binding in source.role_bindings():
        namespace = binding["metadata"]["namespace"]
        if applies(binding, user, namespace):
            grants.namespaced.setdefault(namespace, []).extend(role_rules(source, binding, namespace))
    return grants


def role_rules(source: PolicySource, binding: Object, namespace: str) -> list[Object]:
    """The rules of the role a binding refers to; none if the role does not exist."""
    ref = binding["roleRef"]
    role = source.cluster_role(ref["name"]) if ref["kind"] == "ClusterRole" else source.role(namespace, ref["name"])
    return (role.get("rules") or []) if role else []


def applies(binding: Object, user: User, namespace: str) -> bool:
    """Whether one of a binding's subjects is this user (appliesToUser)."""
    for subject in binding.get("subjects") or ():
        kind, name = subject["kind"], subject["name"]
        if kind == "User" and name == user.name:
            return True
        if kind == "Group" and name in user.groups:
            return True
        if kind == "ServiceAccount" and user.name == f"{SERVICE_ACCOUNT_PREFIX}{subject.get('namespace') or namespace}:{name}":
            return True
    return False


def _allows_resource(grants: Grants, attributes: Attributes) -> bool:
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    key = (attributes.verb, attributes.group, resource, attributes.namespace)
    answer = grants.answers.get(key)
    if answer is None:
        if len(grants.answers) >= ANSWERS_PER_USER_MAX:
            grants.answers.clear()
        answer = grants.answers[key] = _names_allowed(grants.rules_for(attributes.namespace), attributes.verb, attributes.group, resource)
    return answer if isinstance(answer, bool) else attributes.name in answer


def _names_allowed(rules: Iterable[Object], verb: str, group: str, resource: str) -> bool | frozenset[str]:
    """True for any name, False for none, or the names that may be acted on."""
    names: set[str] = set()
    for rule in rules:
        if not rule_covers(rule, verb, group, resource):
            continue
        if not rule.get("resourceNames"):
            return True
        names.update(rule["resourceNames"])
    return frozenset(names) if names else False


def rule_covers(rule: Object, verb: str, group: str, resource: str) -> bool:
    """Whether a rule speaks of the verb on the resource (`pods`, `pods/log`), names aside."""
    if not _has(rule.get("verbs"), verb) or not _has(rule.get("apiGroups"), group):
        return False
    resources = rule.get("resources") or ()
    if "*" in resources or resource in resources:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in resources


def _allows_path(grants: Grants, attributes: Attributes) -> bool:
    return any(
        _has(rule.get("verbs"), attributes.verb) and any(path_matches(p, attributes.path) for p in rule.get("nonResourceURLs") or ())
        for rule in grants.cluster
    )


def path_matches(pattern: str, path: str) -> bool:
    """`*`, an exact path, or a prefix that ends in `*`."""
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    values = values or ()
    return "*" in values or wanted in values
