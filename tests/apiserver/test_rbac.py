"""What roles and bindings allow."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.authz.attributes import Attributes, Decision
from kubecosm.services.apiserver.authz.bootstrap import bootstrap_policy, reconciled
from kubecosm.services.apiserver.authz.rbac import RbacAuthorizer


class Policy:
    """A PolicySource over plain objects."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.version = 1

    def of(self, kind: str) -> list[Object]:
        return [obj for obj in self.objects if obj["kind"] == kind]

    def cluster_role(self, name: str) -> Object | None:
        return next((o for o in self.of("ClusterRole") if o["metadata"]["name"] == name), None)

    def role(self, namespace: str, name: str) -> Object | None:
        wanted = {"namespace": namespace, "name": name}
        return next((o for o in self.of("Role") if wanted.items() <= o["metadata"].items()), None)

    def cluster_role_bindings(self) -> list[Object]:
        return self.of("ClusterRoleBinding")

    def role_bindings(self) -> list[Object]:
        return self.of("RoleBinding")


def role(kind: str, name: str, *rules: Object, namespace: str = "") -> Object:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": meta, "rules": list(rules)}


def rule(verbs: str, resources: str, groups: str = "", names: str = "") -> Object:
    out: Object = {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split() or [""]}
    return out | ({"resourceNames": names.split()} if names else {})


def binding(kind: str, role_kind: str, role_name: str, *subjects: Object, namespace: str = "") -> Object:
    meta = {"name": role_name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": meta, "roleRef": {"kind": role_kind, "name": role_name}, "subjects": list(subjects)}


JANE = User("jane", ("system:authenticated",))
JANE_SUBJECT = {"kind": "User", "name": "jane"}


def allowed(policy: Policy, user: User = JANE, **attributes: Any) -> bool:
    return RbacAuthorizer(policy).authorize(Attributes(user, **attributes))[0] is Decision.ALLOW


READER = role("ClusterRole", "reader", rule("get list", "pods pods/log"))


def test_a_cluster_role_binding_grants_in_every_namespace() -> None:
    policy = Policy(READER, binding("ClusterRoleBinding", "ClusterRole", "reader", JANE_SUBJECT))
    assert allowed(policy, verb="get", resource="pods", namespace="any", name="x")
    assert allowed(policy, verb="list", resource="pods")
    assert not allowed(policy, verb="delete", resource="pods", namespace="any")
    assert not allowed(policy, verb="get", resource="secrets", namespace="any")
    assert not allowed(policy, verb="get", resource="pods", group="other", namespace="any")


def test_a_role_binding_to_a_cluster_role_grants_in_its_namespace_only() -> None:
    policy = Policy(READER, binding("RoleBinding", "ClusterRole", "reader", JANE_SUBJECT, namespace="dev"))
    assert allowed(policy, verb="get", resource="pods", namespace="dev")
    assert not allowed(policy, verb="get", resource="pods", namespace="prod")
    assert not allowed(policy, verb="list", resource="pods")


def test_subresources_are_granted_by_their_own_name() -> None:
    policy = Policy(READER, binding("ClusterRoleBinding", "ClusterRole", "reader", JANE_SUBJECT))
    assert allowed(policy, verb="get", resource="pods", subresource="log", namespace="d")
    assert not allowed(policy, verb="get", resource="pods", subresource="exec", namespace="d")


def test_a_subresource_of_everything_may_be_granted() -> None:
    scaler = role("ClusterRole", "scaler", rule("update", "*/scale", "*"))
    policy = Policy(scaler, binding("ClusterRoleBinding", "ClusterRole", "scaler", JANE_SUBJECT))
    assert allowed(policy, verb="update", group="apps", resource="deployments", subresource="scale", namespace="d")
    assert not allowed(policy, verb="update", group="apps", resource="deployments", namespace="d")


def test_resource_names_restrict_to_those_objects() -> None:
    keeper = role("Role", "keeper", rule("get", "secrets", names="a b"), namespace="dev")
    policy = Policy(keeper, binding("RoleBinding", "Role", "keeper", JANE_SUBJECT, namespace="dev"))
    assert allowed(policy, verb="get", resource="secrets", namespace="dev", name="a")
    assert not allowed(policy, verb="get", resource="secrets", namespace="dev", name="c")
    assert not allowed(policy, verb="get", resource="secrets", namespace="dev")


@pytest.mark.parametrize(
    ("subject", "user"),
    [
        ({"kind": "Group", "name": "ops"}, User("joe", ("ops",))),
        ({"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}, User("system:serviceaccount:ci:bot")),
    ],
    ids=["group", "service account"],
)
def test_groups_and_service_accounts_are_subjects_too(subject: Object, user: User) -> None:
    policy = Policy(READER, binding("ClusterRoleBinding", "ClusterRole", "reader", subject))
    assert allowed(policy, user, verb="get", resource="pods")
    assert not allowed(policy, JANE, verb="get", resource="pods")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"), [("/healthz", "/healthz", True), ("/api/*", "/api/v1", True), ("/api", "/apis", False)]
)
def test_paths_are_granted_exactly_or_by_prefix(pattern: str, path: str, matches: bool) -> None:
    viewer = role("ClusterRole", "viewer", {"verbs": ["get"], "nonResourceURLs": [pattern]})
    policy = Policy(viewer, binding("ClusterRoleBinding", "ClusterRole", "viewer", JANE_SUBJECT))
    assert allowed(policy, verb="get", is_resource=False, path=path) is matches


def test_a_change_of_the_policy_counts_at_once() -> None:
    policy = Policy(READER)
    authorizer = RbacAuthorizer(policy)
    attributes = Attributes(JANE, verb="get", resource="pods")
    assert authorizer.authorize(attributes)[0] is Decision.NO_OPINION
    policy.objects.append(binding("ClusterRoleBinding", "ClusterRole", "reader", JANE_SUBJECT))
    policy.version += 1
    assert authorizer.authorize(attributes)[0] is Decision.ALLOW


BOOTSTRAP = Policy(*(obj for _, obj in bootstrap_policy()))


@pytest.mark.parametrize(
    ("user", "attributes", "expected"),
    [
        (User("system:kube-scheduler"), {"verb": "create", "resource": "pods", "subresource": "binding", "namespace": "d"}, True),
        (User("system:kube-scheduler"), {"verb": "delete", "resource": "nodes", "name": "n"}, False),
        (User("system:kube-proxy"), {"verb": "watch", "group": "discovery.k8s.io", "resource": "endpointslices"}, True),
        (User("system:kube-proxy"), {"verb": "get", "resource": "secrets", "namespace": "d"}, False),
        (User("u", ("system:unauthenticated",)), {"verb": "get", "is_resource": False, "path": "/version"}, True),
        (User("u", ("system:unauthenticated",)), {"verb": "get", "is_resource": False, "path": "/api"}, False),
    ],
)
def test_the_bootstrap_policy_gives_components_what_they_need_and_no_more(user: User, attributes: dict[str, Any], expected: bool) -> None:
    assert allowed(BOOTSTRAP, user, **attributes) is expected


def test_reconciling_restores_what_was_taken_and_keeps_what_was_added() -> None:
    default = BOOTSTRAP.cluster_role("system:kube-scheduler")
    assert default is not None
    assert reconciled(default, default) is None
    extra = rule("get", "widgets", "example.com")
    changed = reconciled({**default, "rules": [*default["rules"][1:], extra]}, default)
    assert changed is not None
    assert extra in changed["rules"]
    assert default["rules"][0] in changed["rules"]


def test_reconciling_leaves_alone_what_asks_for_it() -> None:
    _, default = bootstrap_policy()[1]
    meta = {**default["metadata"], "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}
    assert reconciled({**default, "metadata": meta, "rules": []}, default) is None
