"""The ways to prove who one is, each against a running server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.authn.bootstraptokens import groups_of
from kubecosm.services.apiserver.authn.build import follow_authorities, front_proxy
from kubecosm.services.apiserver.authn.configuration import load_authentication
from kubecosm.services.apiserver.authn.contract import TokenError
from kubecosm.services.apiserver.authn.filter import websocket_token, without_bearer
from kubecosm.services.apiserver.authn.frontproxy import FrontProxy
from kubecosm.services.apiserver.authn.keys import SigningKey, encode64, public_key
from kubecosm.services.apiserver.authn.oidc import Claim, Provider, user_of
from kubecosm.services.apiserver.config import Config

from .harness import ADMIN_TOKEN, Api, api_server, with_api
from .outsiders import Authority, service

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


async def whoami(api: Api, token: str, **headers: str) -> tuple[int, Any]:
    """(HTTP code, userInfo) of a caller."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status, answer = await api.call("POST", WHO, body, token=token, **headers)
    return status, answer["status"]["userInfo"] if status == 201 else answer


async def review(api: Api, token: str, *audiences: str) -> Object:
    """The status of a TokenReview."""
    spec = {"token": token, "audiences": list(audiences)}
    found: Object = (await api.create(REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}))["status"]
    return found


# ---- bootstrap tokens


def bootstrap_secret(**data: str) -> Object:
    fields = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true", **data}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in fields.items()}
    meta = {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "bootstrap.kubernetes.io/token", "data": encoded}


def test_a_bootstrap_token_makes_a_bootstrapper(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await whoami(api, "abcdef.0123456789abcdef"))[0] == 401
        secret = bootstrap_secret(**{"auth-extra-groups": "system:bootstrappers:kubeadm"})
        await api.create("/api/v1/namespaces/kube-system/secrets", secret)
        status, user = await whoami(api, "abcdef.0123456789abcdef")
        groups = ["system:bootstrappers", "system:bootstrappers:kubeadm", "system:authenticated"]
        assert (status, user) == (201, {"username": "system:bootstrap:abcdef", "groups": groups})
        assert (await whoami(api, "abcdef.fedcba9876543210"))[0] == 401
        await api.delete("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef")
        assert (await whoami(api, "abcdef.0123456789abcdef"))[0] == 401

    with_api(tmp_path, test, enable_bootstrap_token_auth=True)


@pytest.mark.parametrize(
    "data",
    [
        {"expiration": "2026-01-01T00:00:00Z"}, {"expiration": "soon"}, {"usage-bootstrap-authentication": "false"},
        {"auth-extra-groups": "system:masters"}, {"token-secret": "another-secret00"},
    ],
)  # fmt: skip
def test_a_bootstrap_token_must_be_in_order(data: dict[str, str]) -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    assert groups_of(bootstrap_secret(), "abcdef", "0123456789abcdef", now) is not None
    assert groups_of(bootstrap_secret(**data), "abcdef", "0123456789abcdef", now) is None


# ---- OpenID Connect


class Issuer:
    """An OpenID Connect provider's key and documents."""

    def __init__(self) -> None:
        self.url = ""
        self.rotate()

    def rotate(self) -> None:
        private = rsa.generate_private_key(65537, 2048)
        self.key = SigningKey(private, public_key(private.public_key()))

    def answer(self, path: str) -> Any:
        if path == "/jwks":
            return {"keys": [self.key.public.jwk()]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} if path.endswith("openid-configuration") else 404

    def token(self, **claims: Any) -> str:
        """Signed, for an hour, for the client kubecosm."""
        now = int(datetime.now(UTC).timestamp())
        whole = {"iss": self.url, "aud": "kubecosm", "exp": now + 3600, "sub": "jane", "groups": ["devs"], **claims}
        header = {"alg": "RS256", "kid": self.key.public.key_id}
        message = f"{encode64(orjson.dumps(header))}.{encode64(orjson.dumps(whole))}"
        return f"{message}.{encode64(self.key.sign(message.encode()))}"


def test_tokens_of_an_openid_connect_provider_are_accepted_and_its_new_keys_are_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        issuer = Issuer()
        async with service(tmp_path, issuer.answer) as provider:
            issuer.url = provider.url
            flags = {
                "oidc_issuer_url": provider.url, "oidc_client_id": "kubecosm", "oidc_groups_claim": "groups",
                "oidc_groups_prefix": "oidc:", "oidc_ca_file": str(provider.authority),
            }  # fmt: skip
            async with api_server(tmp_path, **flags) as api:
                status, user = await whoami(api, issuer.token(jti="j"))
                assert (status, user["username"], user["groups"]) == (201, f"{provider.url}#jane", ["oidc:devs", "system:authenticated"])
                assert user["extra"] == {"authentication.kubernetes.io/credential-id": ["JTI=j"]}
                for bad in ({"aud": "other"}, {"exp": 1}, {"iss": "https://example.com"}, {"sub": ""}):
                    assert (await whoami(api, issuer.token(**bad)))[0] == 401, bad
                assert "oidc: token is expired" in (await review(api, issuer.token(exp=1)))["error"]
                fetched = len(provider.asked)
                assert (await whoami(api, issuer.token()))[0] == 201
                assert len(provider.asked) == fetched
                token = issuer.token()
                issuer.rotate()
                assert (await whoami(api, issuer.token()))[0] == 401  # too soon after the keys were fetched
                assert (await whoami(api, token))[0] == 201

    asyncio.run(main())


def test_groups_may_be_told_by_a_token_that_somebody_else_gives(tmp_path: Path) -> None:
    async def main() -> None:
        issuer = Issuer()
        told: dict[str, Any] = {}

        def answer(path: str) -> Any:
            return told["answer"] if path == "/groups" else issuer.answer(path)

        def pointing(source: dict[str, str]) -> str:
            return issuer.token(groups=None, _claim_names={"groups": "src"}, _claim_sources={"src": source})

        async with service(tmp_path, answer) as provider:
            issuer.url = provider.url
            flags = {"oidc_issuer_url": provider.url, "oidc_client_id": "kubecosm", "oidc_groups_claim": "groups",
                     "oidc_ca_file": str(provider.authority)}  # fmt: skip
            async with api_server(tmp_path, **flags) as api:
                source = {"endpoint": f"{provider.url}/groups", "access_token": "secret"}
                told["answer"] = issuer.token(groups=["a", "b"])
                assert (await whoami(api, pointing(source)))[1]["groups"] == ["a", "b", "system:authenticated"]
                assert provider.credentials[provider.asked.index("/groups")] == "Bearer secret"
                aggregated = pointing({"JWT": told["answer"]})
                assert (await whoami(api, aggregated))[1]["groups"] == ["system:authenticated"]  # passed over
                for answered, why in (
                    (issuer.token(groups=["a"], aud="other"), "expected audience"), (404, "while getting distributed claim"),
                    (issuer.token(groups=["a"], exp=1), "token is expired"), ("no token", "untrusted issuer"),
                ):
                    told["answer"] = answered
                    assert why in (await review(api, pointing(source)))["error"]
                unnamed = issuer.token(_claim_names={"groups": "src"}, _claim_sources={})
                assert "a source src missing in _claim_sources" in (await review(api, unnamed))["error"]

    asyncio.run(main())


def test_claims_are_mapped_as_configured() -> None:
    provider = Provider("https://x", ("a",), Claim("email", "u:"), Claim("roles", "g:"), uid=Claim("id"), required={"hd": "example.com"})
    claims = {"email": "jane@example.com", "email_verified": True, "roles": "dev", "id": "7", "hd": "example.com"}
    user = user_of(provider, claims)
    assert (user.name, user.groups, user.uid) == ("u:jane@example.com", ("g:dev", "system:authenticated"), "7")
    for change, why in (
        ({"email_verified": False}, "email not verified"), ({"hd": "other"}, "value does not match"), ({"roles": [1]}, "groups claim"),
        ({"email": None}, "username claims"),
    ):  # fmt: skip
        with pytest.raises(TokenError, match=why):
            user_of(provider, claims | change)


CONFIGURATION = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://a", audiences: [one, two], audienceMatchPolicy: MatchAny}
  claimValidationRules: [{claim: hd, requiredValue: example.com}]
  claimMappings: {username: {claim: sub, prefix: ""}, groups: {claim: groups, prefix: "oidc:"}, uid: {claim: id}}
anonymous: {enabled: true, conditions: [{path: /livez}]}
"""


def test_a_structured_configuration_says_the_same_as_the_flags_and_more(tmp_path: Path) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(CONFIGURATION)
    found = load_authentication(str(path))
    provider = found.issuers[0].provider
    assert (provider.issuer, provider.audiences, provider.username) == ("https://a", ("one", "two"), Claim("sub"))
    assert (provider.groups, provider.uid, provider.required) == (Claim("groups", "oidc:"), Claim("id"), {"hd": "example.com"})
    assert found.anonymous is not None
    assert (found.anonymous.allows("/livez"), found.anonymous.allows("/version")) == (True, False)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("https://a", "http://a"), "URL scheme must be https"), (("audienceMatchPolicy: MatchAny", ""), "must be MatchAny"),
        ((', prefix: ""', ""), "prefix is required"), (("enabled: true", "enabled: false"), "should be set to true"),
        (("https://a", "https://a?x=y"), "must not contain a query"), (("https://a", "https://u:p@a"), "username or password"),
        (("url: ", "egressSelectorType: etcd, url: "), "either controlplane or cluster"),
        (("url: ", 'discoveryURL: "https://a/", url: '), "discoveryURL must be different from URL"),
        (("claim: id", "claim: id, x: y"), "unknown field x"), (("kind: A", "kind: X"), "it must be a AuthenticationConfiguration"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_told_at_start(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(CONFIGURATION.replace(*change))
    with pytest.raises(StartupError, match=complaint):
        load_authentication(str(path))


def test_an_issuer_must_not_be_the_servers_own(tmp_path: Path) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(CONFIGURATION.replace("https://a", "https://kubernetes.default.svc.cluster.local"))

    async def test(api: Api) -> None:
        raise AssertionError("it has started")

    with pytest.raises(StartupError, match=r"jwt\[0\].issuer.url: URL must not overlap with disallowed issuers"):
        with_api(tmp_path, test, authentication_config=str(path))


EXPRESSIONS = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: "https://a", audiences: [one]}
  claimValidationRules: [{expression: "claims.exp - claims.nbf <= 3600", message: "too long"}]
  claimMappings:
    username: {expression: "'oidc:' + claims.sub"}
    groups: {expression: "claims.roles.map(role, 'role:' + role)"}
    extra: [{key: acme.io/team, valueExpression: "claims.?team.orValue('none')"}]
  userValidationRules: [{expression: "!user.username.startsWith('oidc:system:')", message: "reserved name"}]
"""


def test_claims_are_mapped_and_checked_by_expressions(tmp_path: Path) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(EXPRESSIONS)
    provider = load_authentication(str(path)).issuers[0].provider
    claims = {"sub": "jane", "roles": ["a", "b"], "nbf": 0, "exp": 3600}
    user = user_of(provider, claims)
    assert (user.name, user.groups) == ("oidc:jane", ("role:a", "role:b", "system:authenticated"))
    assert user.extra == {"acme.io/team": ("none",)}
    for change, why in (({"exp": 9999}, "too long"), ({"sub": "system:x"}, "reserved name"), ({"roles": 1}, "groups claim expression")):
        with pytest.raises(TokenError, match=why):
            user_of(provider, claims | change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("claims.sub", "claims."), "username.expression: compilation failed"),
        (("claims.exp - claims.nbf <= 3600", "1"), "must evaluate to bool"),
        (("claims.sub", "claims.email"), "claims.email_verified must be used"), (("acme.io/team", "team"), "must be a domain-prefix path"),
    ],
)  # fmt: skip
def test_a_wrong_expression_is_told_at_start(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(EXPRESSIONS.replace(*change))
    with pytest.raises(StartupError, match=complaint):
        load_authentication(str(path))


# ---- webhooks


def test_a_webhook_says_whose_a_token_is_and_is_not_asked_twice(tmp_path: Path) -> None:
    def answer(question: Object) -> Object:
        known = question["spec"]["token"] == "good"
        user = {"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"k": ["v"]}}
        return {"kind": "TokenReview", "status": {"authenticated": True, "user": user} if known else {"error": "no such token"}}

    async def main() -> None:
        async with service(tmp_path, answer) as webhook:
            flags = {"authentication_token_webhook_config_file": webhook.kubeconfig(tmp_path), "authentication_token_webhook_version": "v1"}
            async with api_server(tmp_path, **flags) as api:
                for _ in range(2):
                    status, user = await whoami(api, "good")
                    expected = {"username": "jane", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"k": ["v"]}}
                    assert (status, user) == (201, expected)
                assert len(webhook.asked) == 1
                assert webhook.asked[0]["spec"]["audiences"] == ["https://kubernetes.default.svc.cluster.local"]
                assert (await review(api, "bad"))["error"] == "[invalid bearer token, no such token]"
                assert (await whoami(api, "bad"))[0] == 401

    asyncio.run(main())


# ---- front proxies and certificates


def test_a_front_proxy_is_believed_and_a_plain_client_is_not(tmp_path: Path) -> None:
    proxies, clients = Authority(tmp_path, "proxies-ca"), Authority(tmp_path, "clients-ca")
    flags = {
        "requestheader_client_ca_file": str(proxies.file), "requestheader_allowed_names": ("aggregator",),
        "client_ca_file": str(clients.file),
    }  # fmt: skip
    headers = {"X_Remote_User": "jane", "X_Remote_Group": "devs", "X_Remote_Extra_acme.com%2Fproject": "p", "X_Remote_Uid": "7"}

    async def as_client(api: Api, pair: tuple[Path, Path], **headers: str) -> Any:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*pair)
        body = orjson.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
        async with api.session.post(api.base + WHO, data=body, headers=sent, ssl=context) as answer:
            return answer.status, await answer.json()

    async def test(api: Api) -> None:
        status, answer = await as_client(api, proxies.issue("aggregator"), **headers)
        assert status == 201, answer
        assert answer["status"]["userInfo"] == {
            "username": "jane", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"acme.com/project": ["p"]},
        }  # fmt: skip
        assert (await as_client(api, proxies.issue("somebody"), **headers))[0] == 403  # anonymous
        status, answer = await as_client(api, clients.issue("joe", "qa"), **headers)
        assert answer["status"]["userInfo"]["username"] == "joe"
        assert answer["status"]["userInfo"]["groups"] == ["qa", "system:authenticated"]
        assert list(answer["status"]["userInfo"]["extra"]) == ["authentication.kubernetes.io/credential-id"]
        status, answer = await as_client(api, clients.issue("system:masters-fan"), Authorization=f"Bearer {ADMIN_TOKEN}")
        assert answer["status"]["userInfo"]["username"] == "system:masters-fan"  # a certificate counts before a token

    with_api(tmp_path, test, **flags)


def test_a_rotated_authority_of_front_proxies_is_taken_up_unless_it_cannot_be_used(tmp_path: Path) -> None:
    old, new, clients = (Authority(tmp_path, name) for name in ("old-ca", "new-ca", "clients-ca"))
    used = tmp_path / "used.crt"
    used.write_text(old.file.read_text())

    async def test(api: Api) -> None:
        def names() -> set[str]:
            return {dict(pair[0] for pair in subject)["commonName"] for subject in identities.authorities}

        config = Config(requestheader_client_ca_file=str(used), client_ca_file=str(clients.file))
        identities = front_proxy(config)
        assert identities is not None
        assert names() == {"old-ca"}
        follow_authorities(config, api.state, identities)
        used.write_text(new.file.read_text())
        for files in api.state.rotated_files:
            files.reload_if_changed()
        assert names() == {"new-ca"}
        used.write_text(clients.file.read_text())  # of the same name as that of clients: not to be told apart
        for files in api.state.rotated_files:
            files.reload_if_changed()
        assert names() == {"new-ca"}

    with_api(tmp_path, test, requestheader_client_ca_file=str(used), client_ca_file=str(clients.file))


def test_authorities_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    same = Authority(tmp_path, "ca")

    async def test(api: Api) -> None:
        raise AssertionError(api)

    with pytest.raises(StartupError, match="give them different ones"):
        with_api(tmp_path, test, requestheader_client_ca_file=str(same.file), client_ca_file=str(same.file))


def test_who_speaks_for_nobody_is_nobody() -> None:
    assert FrontProxy(frozenset(), ()).user_of({"X-Remote-Group": "devs"}) is None


def test_extension_servers_learn_whom_to_believe(tmp_path: Path) -> None:
    proxies = Authority(tmp_path, "proxies-ca")

    async def test(api: Api) -> None:
        found = await api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        assert found["data"]["requestheader-client-ca-file"] == proxies.file.read_text()
        assert found["data"]["requestheader-username-headers"] == '["X-Remote-User"]'
        assert found["data"]["requestheader-allowed-names"] == "[]"
        proxies.file.write_text(Authority(tmp_path, "other-ca").file.read_text())
        for files in api.state.rotated_files:
            files.reload_if_changed()
        async with asyncio.timeout(5):
            while found["data"]["requestheader-client-ca-file"] != proxies.file.read_text():
                found = await api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")

    with_api(tmp_path, test, requestheader_client_ca_file=str(proxies.file))


def test_browsers_send_their_token_as_a_protocol() -> None:
    encoded = base64.urlsafe_b64encode(b"a-token").decode().rstrip("=")
    assert websocket_token(f"v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}") == "a-token"
    assert websocket_token("v4.channel.k8s.io") == ""
    headers = {"Sec-WebSocket-Protocol": f"v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}", "Host": "x"}
    assert without_bearer(headers) == {"Sec-WebSocket-Protocol": "v4.channel.k8s.io", "Host": "x"}


# ---- the anonymous


def test_the_anonymous_are_let_in_where_the_configuration_says(tmp_path: Path) -> None:
    path = tmp_path / "authn.yaml"
    path.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
        "anonymous: {enabled: true, conditions: [{path: /livez}]}\n"
    )

    async def test(api: Api) -> None:
        assert (await api.raw("GET", "/livez", token="")).status == 200
        assert (await api.raw("GET", "/version", token="")).status == 401
        path.write_text(path.read_text().replace("/livez", "/version"))
        api.state.config_files[0].reload_if_changed()
        assert (await api.raw("GET", "/version", token="")).status == 200
        assert (await api.raw("GET", "/livez", token="")).status == 401

    with_api(tmp_path, test, authentication_config=str(path))


# ---- audiences


def test_a_static_token_is_meant_for_this_server_alone(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await review(api, ADMIN_TOKEN))["audiences"] == ["one", "two"]
        assert (await review(api, ADMIN_TOKEN, "two", "other"))["audiences"] == ["two"]
        assert (await review(api, ADMIN_TOKEN, "other")) == {"user": {}, "error": "invalid bearer token"}

    with_api(tmp_path, test, api_audiences=("one", "two"))
