"""Role-based access control: from roles and bindings to decisions. Imitates plugin/pkg/auth/authorizer/rbac.

The policy is read through a PolicySource (the watch cache); a user's grants are gathered once and remembered until the policy changes,
so a request costs a dictionary look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

from ..authn.user import User
from .attributes import Attributes, Decision, IncompleteRules, Verdict
from .rules import rule_allows_path, rule_covers

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


class Grant(NamedTuple):
    """What one binding gives one user."""

    rules: Sequence[Object]
    binding: Object
    subject: Object

    def reason(self) -> str:
        """Which binding of which role to whom."""
        kind, meta, role, subject = self.binding["kind"], self.binding["metadata"], self.binding["roleRef"], self.subject
        where = f"/{meta['namespace']}" if kind == "RoleBinding" else ""
        home = f"/{subject.get('namespace') or meta.get('namespace', '')}" if subject["kind"] == "ServiceAccount" else ""
        given_to = f"{subject['kind']} {go_quote(subject['name'] + home)}"
        return f"RBAC: allowed by {kind} {go_quote(meta['name'] + where)} of {role['kind']} {go_quote(role['name'])} to {given_to}"


class Answer(NamedTuple):
    """Why a verb on a resource is allowed for every name (empty: it is not), and for single ones."""

    reason: str
    by_name: Mapping[str, str]


@dataclass(slots=True)
class Grants:
    """Everything granted to one user: at cluster scope (every namespace too) and by namespace; and answers found so far."""

    cluster: list[Grant] = field(default_factory=list)
    namespaced: dict[str, list[Grant]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    """About bindings of roles that do not exist, at cluster scope."""
    namespaced_complaints: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[tuple[str, ...], Answer] = field(default_factory=dict)

    def of(self, namespace: str) -> Iterator[Grant]:
        yield from self.cluster
        if namespace:
            yield from self.namespaced.get(namespace, ())

    def rules_for(self, namespace: str) -> Iterator[Object]:
        for grant in self.of(namespace):
            yield from grant.rules

    def complaint(self, namespace: str) -> str:
        """What could not be looked up, as Go words an aggregate of errors."""
        found = [*self.complaints, *(self.namespaced_complaints.get(namespace, ()) if namespace else ())]
        return "" if not found else found[0] if len(found) == 1 else f"[{', '.join(found)}]"


class RbacAuthorizer:
    """Allows what a binding grants, and otherwise has no opinion."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source
        self._version = -1
        self._by_user: OrderedDict[tuple[str, tuple[str, ...]], Grants] = OrderedDict()

    def authorize(self, attributes: Attributes) -> Verdict:
        """Answers ALLOW or NO_OPINION; RBAC never denies."""
        grants = self.grants_of(attributes.user)
        reason = _resource_reason(grants, attributes) if attributes.is_resource else _path_reason(grants, attributes)
        if reason:
            return Decision.ALLOW, reason
        complaint = grants.complaint(attributes.namespace)
        return Decision.NO_OPINION, f"RBAC: {complaint}" if complaint else ""

    @property
    def version(self) -> int:
        return self._source.version

    def of_any_name(self, attributes: Attributes) -> Verdict | None:
        """None where roles name the objects they are about."""
        if not attributes.is_resource:
            return self.authorize(attributes)
        answer = _answer_of(self.grants_of(attributes.user), attributes)
        if answer.by_name:
            return None
        return (Decision.ALLOW, answer.reason) if answer.reason else (Decision.NO_OPINION, "")

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Raises IncompleteRules where a binding names a role that does not exist."""
        grants = self.grants_of(user)
        found = list(grants.rules_for(namespace))
        if complaint := grants.complaint(namespace):
            raise IncompleteRules(complaint, found)
        return found

    def grants_of(self, user: User) -> Grants:
        """What the user has been granted, gathered anew after every change of the policy."""
        version = self._source.version
        if version != self._version:
            self._by_user.clear()
            self._version = version
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
        subject = subject_of(binding, user, "")
        if subject is not None:
            _add(source, binding, "", subject, grants.cluster, grants.complaints)
    for binding in source.role_bindings():
        namespace = binding["metadata"]["namespace"]
        subject = subject_of(binding, user, namespace)
        if subject is not None:
            granted, complaints = grants.namespaced.setdefault(namespace, []), grants.namespaced_complaints.setdefault(namespace, [])
            _add(source, binding, namespace, subject, granted, complaints)
    return grants


def _add(source: PolicySource, binding: Object, namespace: str, subject: Object, granted: list[Grant], complaints: list[str]) -> None:
    rules = role_rules(source, binding["roleRef"], namespace)
    if rules is not None:
        granted.append(Grant(rules, binding, subject))
        return
    ref = binding["roleRef"]
    complaints.append(f'{ref["kind"].lower()}.rbac.authorization.k8s.io {go_quote(ref["name"])} not found')


def role_rules(source: PolicySource, ref: Object, namespace: str) -> list[Object] | None:
    """The rules of the role a binding's roleRef names; None if the role does not exist."""
    role = source.cluster_role(ref["name"]) if ref["kind"] == "ClusterRole" else source.role(namespace, ref["name"])
    return None if role is None else role.get("rules") or []


def subject_of(binding: Object, user: User, namespace: str) -> Object | None:
    """The first of a binding's subjects that is this user (appliesTo); None if none is."""
    subjects: list[Object] = binding.get("subjects") or []
    for subject in subjects:
        kind, name = subject["kind"], subject["name"]
        if kind == "User":
            if name == user.name:
                return subject
        elif kind == "Group":
            if name in user.groups:
                return subject
        elif kind == "ServiceAccount" and user.name == f"{SERVICE_ACCOUNT_PREFIX}{subject.get('namespace') or namespace}:{name}":
            return subject
    return None


def _resource_reason(grants: Grants, attributes: Attributes) -> str:
    answer = _answer_of(grants, attributes)
    return answer.reason or answer.by_name.get(attributes.name, "")


def _answer_of(grants: Grants, attributes: Attributes) -> Answer:
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    key = (attributes.verb, attributes.group, resource, attributes.namespace)
    answer = grants.answers.get(key)
    if answer is None:
        if len(grants.answers) >= ANSWERS_PER_USER_MAX:
            grants.answers.clear()
        answer = grants.answers[key] = _answer(grants.of(attributes.namespace), attributes.verb, attributes.group, resource)
    return answer


def _answer(granted: Iterable[Grant], verb: str, group: str, resource: str) -> Answer:
    by_name: dict[str, str] = {}
    for grant in granted:
        for rule in grant.rules:
            if not rule_covers(rule, verb, group, resource):
                continue
            if not rule.get("resourceNames"):
                return Answer(grant.reason(), {})
            for name in rule["resourceNames"]:
                by_name.setdefault(name, grant.reason())
    return Answer("", by_name)


def _path_reason(grants: Grants, attributes: Attributes) -> str:
    for grant in grants.cluster:
        if any(rule_allows_path(rule, attributes.verb, attributes.path) for rule in grant.rules):
            return grant.reason()
    return ""
