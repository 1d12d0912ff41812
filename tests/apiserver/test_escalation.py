"""Nobody grants what he does not hold, unless he may escalate or bind; the words of the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.apiserver.authz.rules import compact, describe, pieces, uncovered

from .harness import ADMIN_TOKEN, USER_TOKEN, Api, with_api

RBAC = "/apis/rbac.authorization.k8s.io/v1"
JANE = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
WHO = 'user "jane" (groups=["devs" "qa" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'


def rule(verbs: str, resources: str, groups: str = "", names: str = "") -> Object:
    found: Object = {"verbs": verbs.split(), "apiGroups": groups.split() or [""], "resources": resources.split()}
    return found | ({"resourceNames": names.split()} if names else {})


def role(kind: str, name: str, *rules: Object, **more: Any) -> Object:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": list(rules), **more}


def binding(kind: str, name: str, role_kind: str, role_name: str) -> Object:
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role_name}
    return {**role(kind, name), "roleRef": ref, "subjects": [JANE]}


async def grant(api: Api, *rules: Object, name: str = "jane") -> None:
    """Jane may do this everywhere from now on."""
    await api.create(f"{RBAC}/clusterroles", role("ClusterRole", name, *rules))
    await api.create(f"{RBAC}/clusterrolebindings", binding("ClusterRoleBinding", name, "ClusterRole", name))


ROLES, BINDINGS = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"


def run(tmp_path: Path, test: Any, *rules: Object) -> None:
    async def prepared(api: Api) -> None:
        await grant(api, *rules)
        await test(api)

    with_api(tmp_path, prepared, authorization_mode=("Node", "RBAC"))


MANAGES = rule("create update patch get", "roles rolebindings clusterroles clusterrolebindings", "rbac.authorization.k8s.io")


def test_a_role_may_hold_no_more_than_its_writer(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ROLES, role("Role", "ok", rule("get", "pods")), token=USER_TOKEN)
        wanted = role("Role", "greedy", rule("get list delete", "pods secrets"), rule("get", "services", names="a b"))
        status, refusal = await api.call("POST", ROLES, wanted, token=USER_TOKEN)
        missing = [
            '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}',
            '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "delete"]}',
            '{APIGroups:[""], Resources:["services"], ResourceNames:["a"], Verbs:["get"]}',
            '{APIGroups:[""], Resources:["services"], ResourceNames:["b"], Verbs:["get"]}',
        ]
        message = f'roles.rbac.authorization.k8s.io "greedy" is forbidden: {WHO}' + "\n".join(missing)
        assert (status, refusal["message"]) == (403, message)
        assert refusal["details"] == {"name": "greedy", "group": "rbac.authorization.k8s.io", "kind": "roles"}

    run(tmp_path, test, MANAGES, rule("get list", "pods"))


def test_a_role_is_checked_when_its_rules_change_and_not_when_they_stay(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ROLES, role("Role", "r", rule("get", "secrets")))
        patch = {"metadata": {"labels": {"a": "b"}}}
        await api.merge(f"{ROLES}/r", patch, token=USER_TOKEN)
        status, _ = await api.call(
            "PATCH", f"{ROLES}/r", {"rules": [rule("get update", "secrets")]}, token=USER_TOKEN, Content_Type="application/merge-patch+json"
        )
        assert status == 403

    run(tmp_path, test, MANAGES)


def test_who_may_escalate_writes_any_role(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ROLES, role("Role", "any", rule("*", "*", "*")), token=USER_TOKEN)

    run(tmp_path, test, MANAGES, rule("escalate", "roles", "rbac.authorization.k8s.io"))


def test_a_binding_needs_the_rules_of_its_role(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ROLES, role("Role", "secretive", rule("get", "secrets")))
        wanted = binding("RoleBinding", "b", "Role", "secretive")
        status, refusal = await api.call("POST", BINDINGS, wanted, token=USER_TOKEN)
        what = '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
        assert (status, refusal["message"]) == (403, f'rolebindings.rbac.authorization.k8s.io "b" is forbidden: {WHO}{what}')
        await grant(api, rule("get", "secrets"), name="more")
        await api.create(BINDINGS, wanted, token=USER_TOKEN)

    run(tmp_path, test, MANAGES)


def test_a_binding_of_a_role_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        status, answer = await api.call("POST", BINDINGS, binding("RoleBinding", "b", "ClusterRole", "none"), token=USER_TOKEN)
        assert (status, answer["message"]) == (404, 'clusterroles.rbac.authorization.k8s.io "none" not found')

    run(tmp_path, test, MANAGES)


def test_who_may_bind_a_role_need_not_hold_it(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(BINDINGS, binding("RoleBinding", "b", "ClusterRole", "edit"), token=USER_TOKEN)
        status, _ = await api.call("POST", BINDINGS, binding("RoleBinding", "c", "ClusterRole", "admin"), token=USER_TOKEN)
        assert status in (201, 403)

    run(tmp_path, test, MANAGES, rule("bind", "clusterroles", "rbac.authorization.k8s.io", "edit"))


def test_the_role_of_a_binding_never_changes(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(BINDINGS, binding("RoleBinding", "b", "ClusterRole", "view"))
        made["roleRef"]["name"] = "admin"
        status, answer = await api.call("PUT", f"{BINDINGS}/b", made)
        assert status == 422
        assert "cannot change roleRef" in answer["message"]

    with_api(tmp_path, test, authorization_mode=("RBAC",))


def test_aggregation_takes_everything(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        selector = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
        status, refusal = await api.call(
            "POST", f"{RBAC}/clusterroles", role("ClusterRole", "all", aggregationRule=selector), token=USER_TOKEN
        )
        assert status == 403
        assert "must have cluster-admin privileges to use an aggregationRule: " + WHO in refusal["message"]
        assert '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}' in refusal["message"]

    run(tmp_path, test, MANAGES)


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        (rule("*", "*", "*"), rule("get", "pods"), True),
        (rule("get", "*/scale", "*"), rule("get", "deployments/scale", "apps"), True),
        (rule("get", "*/scale", "*"), rule("get", "deployments", "apps"), False),
        (rule("get", "pods"), rule("get", "pods", names="a"), True),
        (rule("get", "pods", names="a"), rule("get", "pods"), False),
        (rule("get", "pods", names="a b"), rule("get", "pods", names="a"), True),
        (rule("get", "pods"), rule("*", "pods"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/api/*"]}, {"verbs": ["get"], "nonResourceURLs": ["/api/v1", "/api/*"]}, True),
        ({"verbs": ["get"], "nonResourceURLs": ["/api"]}, {"verbs": ["get"], "nonResourceURLs": ["/api/*"]}, False),
    ],
)
def test_rules_cover_rules(held: Object, wanted: Object, covered: bool) -> None:
    assert (uncovered([held], [wanted]) == []) is covered


def test_missing_verbs_of_one_resource_are_told_together() -> None:
    found = compact(pieces(rule("get list", "pods")))
    assert [describe(entry) for entry in found] == ['{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}']


def test_a_review_tells_which_binding_allows(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        spec = {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "x"}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        answer = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, token=USER_TOKEN)
        assert answer["status"] == {
            "allowed": True, "reason": 'RBAC: allowed by ClusterRoleBinding "jane" of ClusterRole "jane" to User "jane"',
        }  # fmt: skip
        await api.delete(f"{RBAC}/clusterroles/jane", token=ADMIN_TOKEN)
        answer = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, token=USER_TOKEN)
        assert answer["status"] == {"allowed": False, "reason": 'RBAC: clusterrole.rbac.authorization.k8s.io "jane" not found'}

    run(tmp_path, test, rule("get", "pods"))
