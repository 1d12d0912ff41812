"""ServiceAccount tokens: what they are bound to, meant for, and how long they last."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.api.resources import Object
from kubecosm.services.apiserver.authn.accounts import AccountTokens, TokenKeys
from kubecosm.services.apiserver.authn.contract import TokenError
from kubecosm.services.apiserver.authn.jwt import parse_jwt

from .harness import ACCOUNT, ACCOUNTS, PODS, Api, pod, with_api

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECRETS = "/api/v1/namespaces/default/secrets"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


def tokens(held: str = "", **options: Any) -> AccountTokens:
    """Of a cluster with the account default/bot (uid u), whose Secrets hold `held`."""

    def find_uid(kind: str, namespace: str, name: str) -> str | None:
        return "u" if (kind, namespace, name) == ("ServiceAccount", "default", "bot") else None

    issuers = options.pop("issuers", ("https://new", "https://old"))
    return AccountTokens(issuers, TokenKeys("", ()), find_uid, lambda: NOW, lambda _n, _s, token: token == held, **options)


def claims(**more: Any) -> Object:
    private = {"namespace": "default", "serviceaccount": {"name": "bot", "uid": "u"}}
    end = NOW.timestamp() + 60
    return {"iss": "https://new", "aud": ["a"], "exp": end, "nbf": 0, "jti": "j", "kubernetes.io": private, **more}


def test_tokens_of_every_issuer_are_accepted_for_their_audiences() -> None:
    mine = tokens()
    for issuer in ("https://new", "https://old"):
        found = mine.verify(mine.sign(claims(iss=issuer)), ("a", "b"))
        assert found is not None
        assert (found.user.name, found.audiences) == ("system:serviceaccount:default:bot", ("a",))
    assert mine.verify(mine.sign(claims(iss="https://other")), ("a",)) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exp": NOW.timestamp() - 1}, "service account token has expired"), ({"nbf": NOW.timestamp() + 999}, "not valid yet"),
        ({"aud": ["x"]}, r'token audiences \["x"\] is invalid for the target audiences \["a"\]'),
        ({"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "bot", "uid": "old"}}}, "has been invalidated"),
        (
            {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "bot", "uid": "u"}, "pod": {"name": "p", "uid": "p"}}},
            "has been invalidated",
        ),
    ],
)  # fmt: skip
def test_a_token_that_is_not_good_says_why(change: Object, why: str) -> None:
    mine = tokens()
    with pytest.raises(TokenError, match=why):
        mine.verify(mine.sign(claims(**change)), ("a",))


def test_a_forged_token_is_refused() -> None:
    with pytest.raises(TokenError, match="no key verifies"):
        tokens().verify(tokens().sign(claims()), ("a",))


LEGACY = "kubernetes.io/serviceaccount/"


def test_an_old_token_without_an_end_is_good_while_its_secret_holds_it() -> None:
    old = {
        "iss": "kubernetes/serviceaccount", f"{LEGACY}namespace": "default", f"{LEGACY}secret.name": "s",
        f"{LEGACY}service-account.name": "bot", f"{LEGACY}service-account.uid": "u",
    }  # fmt: skip
    mine = tokens()
    token = mine.sign(old)
    with pytest.raises(TokenError, match="has been invalidated"):
        mine.verify(token, ("a",))
    holder = tokens(held=token)
    holder.keys = mine.keys
    found = holder.verify(token, ("a",))
    assert found is not None
    assert (found.user.name, found.user.groups[1]) == ("system:serviceaccount:default:bot", "system:serviceaccounts:default")


async def request(api: Api, **spec: Any) -> tuple[Any, Object]:
    """(the answer, its token's claims)"""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    reply = await api.raw("POST", f"{ACCOUNTS}/default/token", body)
    answer = orjson.loads(reply.body)
    parsed = parse_jwt(answer["status"]["token"])
    assert parsed is not None
    return (answer, reply.headers.get("Warning", "")), parsed.claims


def test_the_server_bounds_what_a_token_may_last(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        (answer, warning), found = await request(api, expirationSeconds=7200)
        assert (found["exp"] - found["iat"], answer["spec"]["expirationSeconds"]) == (3600, 3600)
        assert "requested expiration of 7200 seconds shortened to 3600 seconds due to server configuration" in warning

    with_api(tmp_path, test, service_account_max_token_expiration=3600.0)


@pytest.mark.parametrize(("extends", "lasts"), [(True, 365 * 24 * 3600), (False, 3607)])
def test_tokens_in_pods_outlive_what_they_say_unless_told_not_to(tmp_path: Path, extends: bool, lasts: int) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("p"))
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
        _, found = await request(api, expirationSeconds=3607, boundObjectRef=bound)
        assert found["exp"] - found["iat"] == lasts
        assert ("warnafter" in found["kubernetes.io"]) is extends

    with_api(tmp_path, test, service_account_extend_token_expiration=extends)


def test_a_token_dies_with_the_secret_it_is_bound_to(tmp_path: Path) -> None:
    async def review(api: Api, token: str) -> Any:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        return (await api.create(REVIEWS, body))["status"]

    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        data = {"a": base64.b64encode(b"b").decode()}
        await api.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data})
        (answer, _), _ = await request(api, boundObjectRef={"kind": "Secret", "apiVersion": "v1", "name": "s"})
        token = answer["status"]["token"]
        assert (await review(api, token))["authenticated"]
        await api.delete(f"{SECRETS}/s")
        assert await review(api, token) == {"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"}

    with_api(tmp_path, test)


TOKEN_SECRET = {"metadata": {"name": "bot-token", "annotations": {"kubernetes.io/service-account.name": "default"}},
                "type": "kubernetes.io/service-account-token"}  # fmt: skip
LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"


async def token_in_secret(api: Api) -> str:
    """A token of the account `default` that lies in a Secret and is bound to it."""
    await api.create(ACCOUNTS, ACCOUNT)
    secret = await api.create(SECRETS, TOKEN_SECRET)
    bound = {"apiVersion": "v1", "kind": "Secret", "name": "bot-token", "uid": secret["metadata"]["uid"]}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], "boundObjectRef": bound}}
    made = await api.create(f"{ACCOUNTS}/default/token", request)
    token: str = made["status"]["token"]
    await api.merge(f"{SECRETS}/bot-token", {"data": {"token": base64.b64encode(token.encode()).decode()}})
    return token


def test_the_use_of_a_token_in_a_secret_is_noted_on_the_secret(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        token = await token_in_secret(api)
        async with api.watch(f"{SECRETS}?watch=1&fieldSelector=metadata.name=bot-token") as watch:
            await watch.next()
            reply = await api.raw("GET", "/version", token=token)
            assert (reply.status, "Warning" in reply.headers) == (200, False)
            labels = (await watch.next())["object"]["metadata"]["labels"]
        assert labels == {LAST_USED: datetime.now(UTC).date().isoformat()}
        await api.merge(f"{ACCOUNTS}/default", {"secrets": [{"name": "bot-token"}]})
        reply = await api.raw("GET", "/version", token=token)
        assert "instead of auto-generated secret-based tokens" in reply.headers["Warning"]
        metrics = (await api.raw("GET", "/metrics")).text
        assert "serviceaccount_legacy_tokens_total 2.0" in metrics
        assert "serviceaccount_legacy_auto_token_uses_total 1.0" in metrics
        assert "serviceaccount_legacy_manual_token_uses_total 1.0" in metrics

    with_api(tmp_path, test)


def test_a_token_marked_invalid_is_refused_until_the_label_goes(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        token = await token_in_secret(api)
        await api.merge(f"{SECRETS}/bot-token", {"metadata": {"labels": {INVALID_SINCE: "2026-01-01"}}})
        assert (await api.raw("GET", "/version", token=token)).status == 401
        review = await api.create(REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}})
        why = "the token in secret default/bot-token for service account default/default has been marked invalid"
        assert why in review["status"]["error"]
        await api.merge(f"{SECRETS}/bot-token", {"metadata": {"labels": {INVALID_SINCE: None}}})
        assert (await api.raw("GET", "/version", token=token)).status == 200

    with_api(tmp_path, test)
