"""Impersonation: in which modes somebody may act as somebody else, what is asked about, and what he is then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubecosm.api.errors import Forbidden
from kubecosm.services.apiserver.authn.impersonationmodes import Impersonations
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.authz.attributes import Attributes, Decision, Verdict

from .harness import CONFIGMAPS, USER_TOKEN, Api, with_api

NODE = "authentication.kubernetes.io/node-name"
AGENT = User("system:serviceaccount:default:agent", extra={NODE: ("n1",)})
JANE = User("jane", ("devs",))


class Rules:
    """Allows what is listed as `verb resource/name`; remembers what it was asked."""

    version = 0

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[str] = []

    def authorize(self, attributes: Attributes) -> Verdict:
        resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
        asked = f"{attributes.verb} {resource}/{attributes.name}"
        self.asked.append(asked)
        return (Decision.ALLOW if asked in self.allowed else Decision.NO_OPINION), ""

    def rules(self, user: User, namespace: str) -> list[Any]:
        return []

    def of_any_name(self, attributes: Attributes) -> None:
        return None


def attempt(rules: Rules, wanted: User, requestor: User = JANE, verb: str = "get", name: str = "p") -> tuple[User, str]:
    attributes = Attributes(requestor, verb, namespace="default", version="v1", resource="pods", name=name)
    return asyncio.run(Impersonations(rules).impersonated(wanted, attributes))


def test_a_constrained_mode_takes_a_right_on_the_user_and_one_on_the_action() -> None:
    rules = Rules("impersonate-on:user-info:get pods/p", "impersonate:user-info users/bob")
    user, constraint = attempt(rules, User("bob"))
    assert (user, constraint) == (User("bob", ("system:authenticated",)), "impersonate:user-info")
    with pytest.raises(Forbidden, match='cannot impersonate-on:user-info:delete resource "pods"'):
        attempt(rules, User("bob"), verb="delete")
    with pytest.raises(Forbidden, match=r"users\.authentication\.k8s\.io .eve. is forbidden: .* cannot impersonate:user-info"):
        attempt(rules, User("eve"))


def test_the_old_right_is_still_good_for_everything() -> None:
    rules = Rules("impersonate users/bob", "impersonate groups/system:masters")
    user, constraint = attempt(rules, User("bob", ("system:masters",)))
    assert (user.groups, constraint) == (("system:masters", "system:authenticated"), "")
    assert rules.asked[-2:] == ["impersonate users/bob", "impersonate groups/system:masters"]


def test_nobody_becomes_an_administrator_by_a_constrained_mode() -> None:
    rules = Rules("impersonate-on:user-info:get pods/p", "impersonate:user-info users/bob", "impersonate:user-info groups/system:masters")
    with pytest.raises(Forbidden, match="impersonating the system:masters group is not allowed"):
        attempt(rules, User("bob", ("system:masters",)))


def test_an_agent_may_be_the_node_it_runs_on() -> None:
    rules = Rules("impersonate-on:associated-node:get pods/p", "impersonate:associated-node nodes/*")
    user, constraint = attempt(rules, User("system:node:n1"), AGENT)
    assert (user, constraint) == (User("system:node:n1", ("system:nodes", "system:authenticated")), "impersonate:associated-node")
    with pytest.raises(Forbidden, match="impersonate-on:arbitrary-node:get"):
        attempt(rules, User("system:node:n2"), AGENT)
    rules = Rules("impersonate-on:arbitrary-node:get pods/p", "impersonate:arbitrary-node nodes/n2")
    assert attempt(rules, User("system:node:n2"), AGENT)[1] == "impersonate:arbitrary-node"


def test_an_account_has_its_own_mode_and_groups() -> None:
    rules = Rules("impersonate-on:serviceaccount:get pods/p", "impersonate:serviceaccount serviceaccounts/bot")
    user, constraint = attempt(rules, User("system:serviceaccount:web:bot"))
    assert constraint == "impersonate:serviceaccount"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:web", "system:authenticated")


def test_many_groups_may_be_asked_about_at_once() -> None:
    rules = Rules("impersonate-on:user-info:get pods/p", "impersonate:user-info users/bob", "impersonate:user-info groups/*")
    attempt(rules, User("bob", ("a", "b", "c", "d")))
    assert rules.asked[-1] == "impersonate:user-info groups/*"


@pytest.mark.parametrize(
    ("extra", "why"), [({"team": ("a",)}, "an invalid key in extra"), ({"acme.io/team": ("",)}, "the empty string value in extra")]
)
def test_extra_must_be_in_order(extra: dict[str, tuple[str, ...]], why: str) -> None:
    rules = Rules("impersonate-on:user-info:get pods/p", "impersonate:user-info users/bob")
    with pytest.raises(Forbidden, match=f"impersonating {why} is not allowed"):
        attempt(rules, User("bob", extra=extra))


def test_the_mode_that_worked_last_is_tried_first() -> None:
    rules = Rules("impersonate users/bob")
    impersonations = Impersonations(rules)
    attributes = Attributes(JANE, "get", version="v1", resource="pods", name="p")

    async def twice() -> list[str]:
        await impersonations.impersonated(User("bob"), attributes)
        rules.asked.clear()
        await impersonations.impersonated(User("bob"), attributes)
        return rules.asked

    assert asyncio.run(twice()) == ["impersonate users/bob"]


def test_rbac_grants_constrained_impersonation(tmp_path: Any) -> None:
    roles, bindings = ("/apis/rbac.authorization.k8s.io/v1/cluster" + name for name in ("roles", "rolebindings"))

    async def test(api: Api) -> None:
        assert (await api.raw("GET", CONFIGMAPS, token=USER_TOKEN, Impersonate_User="bob")).status == 403
        rules = [
            {"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate:user-info"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["impersonate-on:user-info:list"]},
        ]
        await api.create(roles, {"metadata": {"name": "be-bob"}, "rules": rules})
        subject = {"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "be-bob"}
        await api.create(bindings, {"metadata": {"name": "be-bob"}, "roleRef": reference, "subjects": [subject]})
        code, status = await api.call("GET", CONFIGMAPS, token=USER_TOKEN, Impersonate_User="bob")
        assert (code, status["message"].partition(": ")[2].partition(" resource")[0]) == (403, 'User "bob" cannot list')
        viewer = {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}
        await api.create(roles, {"metadata": {"name": "look"}, "rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["list"]}]})
        view = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "look"}
        await api.create(bindings, {"metadata": {"name": "bob"}, "roleRef": view, "subjects": [viewer]})
        assert (await api.raw("GET", CONFIGMAPS, token=USER_TOKEN, Impersonate_User="bob")).status == 200
        code, status = await api.call("DELETE", f"{CONFIGMAPS}/none", token=USER_TOKEN, Impersonate_User="bob")
        assert (code, 'User "jane" cannot impersonate-on:user-info:delete' in status["message"]) == (403, True)

    with_api(tmp_path, test, authorization_mode=("RBAC",))
