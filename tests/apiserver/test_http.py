"""What a client sees before any object is looked at: identities, paths, methods, media types, limits."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from pathlib import Path

import orjson
import pytest

from .harness import CONFIGMAPS, USER_TOKEN, Api, configmap, with_api


def test_health_and_version_are_for_everybody(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for path in ("/healthz", "/livez", "/readyz"):
            response = await api.raw("GET", path, token="")
            assert (response.status, response.text) == (200, "ok")
        version = await api.get("/version", token="")
        assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "36", "v1.36.0")

    with_api(tmp_path, test)


def test_the_anonymous_are_refused_in_kubernetes_words(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("GET", "/api/v1/namespaces/default/pods/web", token="")
        why = 'User "system:anonymous" cannot get resource "pods" in API group "" in the namespace "default"'
        assert (code, status["reason"], status["message"]) == (403, "Forbidden", f'pods "web" is forbidden: {why}')
        assert status["details"] == {"name": "web", "kind": "pods"}
        code, status = await api.call("GET", "/apis", token="")
        assert (code, status["message"]) == (403, 'forbidden: User "system:anonymous" cannot get path "/apis"')

    with_api(tmp_path, test)


def test_a_token_nobody_knows_is_401(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("GET", "/api/v1/namespaces", token="nonsense")
        assert (code, status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")

    with_api(tmp_path, test)


def test_without_anonymous_auth_no_credentials_are_401(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.call("GET", "/version", token=""))[0] == 401

    with_api(tmp_path, test, anonymous_auth=False)


def test_tokens_carry_user_uid_and_groups(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review, token=USER_TOKEN)
        assert answer["status"]["userInfo"] == {"username": "jane", "uid": "1001", "groups": ["devs", "qa", "system:authenticated"]}

    with_api(tmp_path, test)


def test_who_may_impersonate_acts_as_somebody_else(tmp_path: Path) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

    async def test(api: Api) -> None:
        answer = await api.create(path, review, Impersonate_User="jane", Impersonate_Group="devs", Impersonate_Extra_Team="a")
        assert answer["status"]["userInfo"] == {
            "username": "jane", "groups": ["devs", "system:authenticated"], "extra": {"team": ["a"]},
        }  # fmt: skip
        account = await api.create(path, review, Impersonate_User="system:serviceaccount:default:bot")
        assert account["status"]["userInfo"]["groups"][:2] == ["system:serviceaccounts", "system:serviceaccounts:default"]
        code, status = await api.call("POST", path, review, token=USER_TOKEN, Impersonate_User="admin")
        verb, group = "impersonate-on:user-info:create", "authentication.k8s.io"
        why = f'User "jane" cannot {verb} resource "selfsubjectreviews" in API group "{group}" at the cluster scope'
        assert (code, status["message"]) == (403, f"selfsubjectreviews.authentication.k8s.io is forbidden: {why}")
        code, status = await api.call("POST", path, review, Impersonate_Group="devs")
        asked = '&user.DefaultInfo{Name:"", UID:"", Groups:[]string{"devs"}, Extra:map[string][]string(nil)}'
        assert (code, status["message"]) == (400, f"requested {asked} without impersonating a user name")

    with_api(tmp_path, test, authorization_mode=("RBAC",))


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", "/api/v1/nosuch", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/pods/p/nosuch", 404, "the server could not find the requested resource"),
        ("POST", "/api/v1/namespaces/default/pods/p", 405, "the server does not allow this method on the requested resource"),
        ("DELETE", "/api/v1/namespaces", 405, "the server does not allow this method on the requested resource"),
        ("PUT", "/api/v1/namespaces/default/pods/p/eviction", 405, "the server does not allow this method on the requested resource"),
    ],
    ids=["unknown resource", "unknown subresource", "create with a name", "undeletable collection", "wrong subresource verb"],
)
def test_paths_and_methods_that_mean_nothing(tmp_path: Path, method: str, path: str, code: int, message: str) -> None:
    async def test(api: Api) -> None:
        found, status = await api.call(method, path, {} if method in ("POST", "PUT") else None)
        assert (found, status["message"], status["details"]) == (code, message, {})

    with_api(tmp_path, test)


def test_unknown_groups_are_a_plain_404(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        response = await api.raw("GET", "/apis/nosuch.example.com/v1/things")
        assert (response.status, response.text) == (404, "404 page not found\n")

    with_api(tmp_path, test)


def test_bodies_above_the_limit_are_413(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        huge = configmap("huge", {"k": "x" * (3 * 1024 * 1024)})
        code, status = await api.call("POST", CONFIGMAPS, huge)
        assert (code, status["reason"]) == (413, "RequestEntityTooLarge")
        await api.create(CONFIGMAPS, configmap("after"))

    with_api(tmp_path, test)


@pytest.mark.parametrize("depth", [300, 3000, 300_000])
def test_bodies_nested_too_deeply_are_400(tmp_path: Path, depth: int) -> None:
    async def test(api: Api) -> None:
        body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"deep":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
        code, status = await api.call("POST", CONFIGMAPS, body)
        assert (code, status["reason"], status["message"]) == (400, "BadRequest", "exceeded max depth")

    with_api(tmp_path, test)


def test_bodies_may_be_yaml(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: from-yaml\ndata:\n  a: b\n"
        made = await api.create(CONFIGMAPS, body, Content_Type="application/yaml")
        assert made["data"] == {"a": "b"}

    with_api(tmp_path, test)


def test_answers_may_be_yaml(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        response = await api.raw("GET", "/api/v1/namespaces/default", Accept="application/yaml")
        assert response.headers["Content-Type"] == "application/yaml"
        assert response.text.startswith("apiVersion: v1\nkind: Namespace\n")

    with_api(tmp_path, test)


def test_clients_that_prefer_protobuf_get_the_json_they_also_accept(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        response = await api.raw("GET", "/api/v1/namespaces", Accept="application/vnd.kubernetes.protobuf,application/json")
        assert response.headers["Content-Type"] == "application/json"
        assert (await api.raw("GET", "/api/v1/namespaces", Accept="application/vnd.kubernetes.protobuf, */*")).status == 200
        status = await api.refused("GET", "/api/v1/namespaces", Accept="application/vnd.kubernetes.protobuf")
        assert (status["code"], status["reason"]) == (406, "NotAcceptable")
        known = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        assert status["message"] == f"only the following media types are accepted: {known}"

    with_api(tmp_path, test)


def test_protobuf_bodies_are_understood(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        meta = b"\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00"
        raw = b"\x0a" + bytes([len(meta)]) + meta + b"\x12\x06\x0a\x01x\x12\x01y"
        type_meta = b"\x0a\x02v1\x12\x09ConfigMap"
        body = b"k8s\x00\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(raw)]) + raw
        made = await api.create(CONFIGMAPS, body, Content_Type="application/vnd.kubernetes.protobuf")
        assert (made["metadata"]["name"], made["data"]) == ("a", {"x": "y"})

    with_api(tmp_path, test)


def test_large_answers_are_compressed_for_those_who_can_read_it(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("big", {"k": "x" * 200_000}))
        plain = await api.raw("GET", f"{CONFIGMAPS}/big", Accept_Encoding="identity")
        packed = await api.raw("GET", f"{CONFIGMAPS}/big", Accept_Encoding="gzip")
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body

    with_api(tmp_path, test)


def test_pretty_answers_are_indented(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        response = await api.raw("GET", "/api/v1/namespaces/default?pretty=true")
        assert b'\n  "kind": "Namespace"' in response.body

    with_api(tmp_path, test)


def test_every_answer_carries_the_request_id(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        ours = await api.raw("GET", "/api/v1/namespaces")
        theirs = await api.raw("GET", "/api/v1/namespaces", Audit_ID="mine")
        assert len(ours.headers["Audit-Id"]) == 36
        assert theirs.headers["Audit-Id"] == "mine"

    with_api(tmp_path, test)


def test_more_writes_than_seats_are_all_served(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with asyncio.TaskGroup() as tasks:
            for n in range(30):
                tasks.create_task(api.create(CONFIGMAPS, configmap(f"c{n}")))
        assert len((await api.get(CONFIGMAPS))["items"]) == 30

    with_api(tmp_path, test, max_mutating_requests_inflight=2)


def test_metrics_count_requests_by_verb_resource_and_code(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        await api.call("GET", f"{CONFIGMAPS}/nosuch")
        text = (await api.raw("GET", "/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{") and 'resource="configmaps"' in line]
        assert any('verb="POST"' in line and 'code="201"' in line and line.endswith(" 1.0") for line in lines)
        assert any('verb="GET"' in line and 'code="404"' in line and line.endswith(" 1.0") for line in lines)
        assert "apiserver_request_duration_seconds_bucket" in text
        assert 'apiserver_current_inflight_requests{request_kind="mutating"} 0.0' in text

    with_api(tmp_path, test)


def test_what_is_not_http_gets_400_and_the_server_lives_on(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = int(api.base.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"NONSENSE\r\n\r\n")
        assert (await reader.read(12)) == b"HTTP/1.1 400"
        writer.close()
        await api.get("/api/v1/namespaces")

    with_api(tmp_path, test)


def test_the_index_lists_the_groups(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        paths = orjson.loads((await api.raw("GET", "/")).body)["paths"]
        assert {"/api/v1", "/apis/apps/v1", "/healthz", "/version"} <= set(paths)

    with_api(tmp_path, test)
