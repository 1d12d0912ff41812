"""What is found once for requests that are alike is found anew when what it depends on changes, and never serves requests that differ."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.authz.attributes import (
    Attributes,
    AuthenticatedAuthorizer,
    CurrentAuthorizer,
    Decision,
    MastersAuthorizer,
    UnionAuthorizer,
)
from kubecosm.services.apiserver.http import alike, info
from kubecosm.services.apiserver.http.alike import Alikes
from kubecosm.services.apiserver.http.info import PathCache

from .harness import CONFIGMAPS, api_server, configmap

RBAC = "/apis/rbac.authorization.k8s.io/v1"
JANE = User("jane", ("system:authenticated",))


def binding(name: str, role: str, user: str) -> dict[str, Any]:
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    return {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}


def role(name: str, **rule: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], **rule}]}


def test_permissions_hold_until_the_policy_changes(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server(tmp_path, authorization_mode=("RBAC",)) as api:
            for name in "a", "b":
                await api.create(CONFIGMAPS, configmap(name))

            async def seen() -> list[int]:
                return [(await api.raw("GET", f"{CONFIGMAPS}/{name}", token="user-token")).status for name in "abab"]

            assert await seen() == [403] * 4
            await api.create(f"{RBAC}/clusterroles", role("one", resourceNames=["a"]))
            await api.create(f"{RBAC}/clusterrolebindings", binding("one", "one", "jane"))
            assert await seen() == [200, 403, 200, 403]
            await api.create(f"{RBAC}/clusterroles", role("all"))
            await api.create(f"{RBAC}/clusterrolebindings", binding("all", "all", "jane"))
            assert await seen() == [200] * 4
            await api.raw("DELETE", f"{RBAC}/clusterrolebindings/all")
            assert await seen() == [200, 403, 200, 403]
            assert (await api.raw("GET", f"{CONFIGMAPS}/b", Impersonate_User="jane")).status == 403
            assert (await api.raw("GET", f"{CONFIGMAPS}/b")).status == 200

    asyncio.run(main())


def test_a_request_is_in_another_flow_once_a_flow_schema_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server(tmp_path) as api:
            header, flows = "X-Kubernetes-Pf-Flowschema-Uid", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"

            async def schema() -> str:
                return (await api.raw("GET", CONFIGMAPS, token="user-token")).headers[header]

            before = await schema()
            rule = {
                "subjects": [{"kind": "User", "user": {"name": "jane"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            }
            spec = {"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "workload-low"}, "rules": [rule]}
            made = await api.create(flows, {"metadata": {"name": "mine"}, "spec": spec})
            assert await schema() == made["metadata"]["uid"] != before
            await api.raw("DELETE", f"{flows}/mine")
            assert await schema() == before

    asyncio.run(main())


def test_requests_are_alike_whatever_the_name_but_not_with_or_without_one() -> None:
    paths, table = PathCache(), Alikes()
    one, two = paths.get("/api/v1/namespaces/d/pods/one"), paths.get("/api/v1/namespaces/d/pods/two")
    assert table.of(JANE, "get", one) is table.of(User("jane", JANE.groups), "get", two)
    others = [
        table.of(JANE, "update", one), table.of(JANE, "list", paths.get("/api/v1/namespaces/d/pods")),
        table.of(JANE, "get", paths.get("/api/v1/namespaces/e/pods/one")),
        table.of(JANE, "get", paths.get("/api/v1/namespaces/d/pods/one/status")),
        table.of(User("jane", ("other",)), "get", one), table.of(User("jane", JANE.groups, "uid"), "get", one),
        table.of(JANE, "get", paths.get("/healthz")), table.of(JANE, "get", paths.get("/readyz")),
    ]  # fmt: skip
    assert len({id(found) for found in (table.of(JANE, "get", one), *others)}) == len(others) + 1


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "ALIKES_REMEMBERED_MAX", 3)
    monkeypatch.setattr(info, "TARGETS_CACHED_MAX", 2)
    paths, table = PathCache(), Alikes()
    for n in range(10):
        table.of(JANE, "get", paths.get(f"/api/v1/namespaces/n{n}/pods/p"))
        assert len(table._known) <= 3
        assert len(paths._targets) <= 2


def test_an_authorizer_that_is_replaced_is_asked_anew() -> None:
    attributes = Attributes(JANE, "get", "d", "", "v1", "pods", "", "p")
    current = CurrentAuthorizer(UnionAuthorizer((MastersAuthorizer(), AuthenticatedAuthorizer())))
    seen = [current.version]
    assert current.of_any_name(attributes) == (Decision.ALLOW, "")
    for _ in range(2):
        current.current = UnionAuthorizer((MastersAuthorizer(),))
        seen.append(current.version)
    assert current.of_any_name(attributes) == (Decision.NO_OPINION, "")
    assert sorted(set(seen)) == seen
