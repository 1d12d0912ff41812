"""From flags to the ways in which users of one server prove who they are."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path

from kubecosm.api.meta import uid_of
from kubecosm.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Object, Resource
from kubecosm.runtime.errors import StartupError, check_pem, startup

from ..config import Config
from ..configfiles import ConfigFile
from ..outside import KubeconfigWebhook, Outside
from ..rotatedfiles import RotatedFiles
from ..state import State
from .accounts import AccountTokens, TokenKeys, TokenUses
from .bootstraptokens import BootstrapTokens
from .configuration import Issuer, load_authentication
from .contract import TokenAuthenticator, TokenUnion
from .filter import AnonymousAccess, Authenticators
from .frontproxy import FrontProxy, Subject
from .jwks import ProviderKeys
from .metrics import AuthenticationMetrics
from .oidc import Claim, OidcTokens, Provider
from .secrettokens import SecretTokens
from .tokens import StaticTokens, load_tokens
from .webhook import VERSIONS, WebhookTokens


@dataclass(frozen=True)
class Identities:
    """How requests and TokenReviews find out who somebody is."""

    ways: Authenticators
    accounts: AccountTokens
    metrics: AuthenticationMetrics


def build_identities(config: Config, state: State) -> Identities:
    """Raises StartupError."""
    audiences = config.api_audiences or config.service_account_issuer[:1]
    static = StaticTokens(load_tokens(Path(config.token_auth_file)) if config.token_auth_file else {}, audiences)
    accounts = _accounts(config, state)
    before: list[TokenAuthenticator] = [static, accounts]
    if config.enable_bootstrap_token_auth:
        before.append(BootstrapTokens(lambda namespace, name: _find(state, SECRETS, namespace, name), state.clock.now, audiences))
    before += [_oidc(issuer, state, audiences) for issuer in _flagged_issuer(config)]
    behind = [_webhook(config, state, audiences)] if config.authentication_token_webhook_config_file else []
    metrics = AuthenticationMetrics(accounts.uses)
    metrics.token_caches += [webhook.metrics for webhook in behind]
    union = TokenUnion((*before, *behind), audiences)
    proxy = front_proxy(config)
    ways = Authenticators(union, static.users, AnonymousAccess(config.anonymous_auth), proxy, bool(config.client_ca_file))
    if proxy is not None:
        follow_authorities(config, state, proxy)
    path = config.authentication_config
    if path:

        def take_up() -> None:
            structured = load_authentication(path)
            for i, issuer in enumerate(structured.issuers):
                if issuer.provider.issuer in config.service_account_issuer:
                    overlap = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(config.service_account_issuer))}]"
                    raise StartupError(f"cannot use {path}: jwt[{i}].issuer.url: {overlap}")
            union.replace((*before, *(_oidc(issuer, state, audiences) for issuer in structured.issuers), *behind))
            ways.anonymous = structured.anonymous or AnonymousAccess(config.anonymous_auth)

        take_up()
        state.config_files.append(ConfigFile("authentication", path, take_up, state.clock))
    return Identities(ways, accounts, metrics)


def _find(state: State, row: Resource, namespace: str, name: str) -> Object | None:
    entry = state.caches.of(row.group, row.plural).get(f"{namespace}/{name}" if row.namespaced else name)
    return None if entry is None else entry.decode()


def _accounts(config: Config, state: State) -> AccountTokens:
    keys = TokenKeys(config.service_account_signing_key_file, config.service_account_key_file)
    check_pem("--service-account-signing-key-file", config.service_account_signing_key_file)
    check_pem("--service-account-key-file", *config.service_account_key_file)
    bound = {row.kind: row for row in (SERVICEACCOUNTS, PODS, SECRETS, NODES)}

    def find_uid(kind: str, namespace: str, name: str) -> str | None:
        found = _find(state, bound[kind], namespace, name)
        return None if found is None else uid_of(found)

    def holds_token(namespace: str, name: str, token: str) -> bool:
        secret = _find(state, SECRETS, namespace, name)
        held: str = ((secret or {}).get("data") or {}).get("token", "")
        return bool(held) and held == base64.b64encode(token.encode()).decode()

    uses = TokenUses()
    return AccountTokens(
        config.service_account_issuer, keys, find_uid, state.clock.now, holds_token, config.service_account_max_token_expiration,
        extends=config.service_account_extend_token_expiration, used=SecretTokens(state, _find, uses).used, uses=uses,
    )  # fmt: skip


def _flagged_issuer(config: Config) -> list[Issuer]:
    """The provider that the --oidc-* flags describe. Raises StartupError."""
    if not config.oidc_issuer_url:
        if config.oidc_client_id or config.oidc_ca_file:
            raise StartupError("--oidc-client-id and --oidc-ca-file need --oidc-issuer-url")
        return []
    if not config.oidc_issuer_url.startswith("https://"):
        raise StartupError("--oidc-issuer-url must begin with https://")
    if not config.oidc_client_id:
        raise StartupError("--oidc-client-id is needed with --oidc-issuer-url")
    prefix = config.oidc_username_prefix
    if not prefix and config.oidc_username_claim != "email":
        prefix = f"{config.oidc_issuer_url}#"
    groups = Claim(config.oidc_groups_claim, config.oidc_groups_prefix) if config.oidc_groups_claim else None
    required = dict(pair.partition("=")[::2] for pair in config.oidc_required_claim)
    username = Claim(config.oidc_username_claim, "" if prefix == "-" else prefix)
    provider = Provider(
        config.oidc_issuer_url, (config.oidc_client_id,), username, groups, required=required, algorithms=config.oidc_signing_algs
    )
    authority = ""
    if config.oidc_ca_file:
        with startup(f"read {config.oidc_ca_file}"):
            authority = Path(config.oidc_ca_file).read_text()
    return [Issuer(provider, authority)]


def _oidc(issuer: Issuer, state: State, audiences: tuple[str, ...]) -> OidcTokens:
    provider = issuer.provider
    try:
        context = ssl.create_default_context(cadata=issuer.authority) if issuer.authority else None
    except ssl.SSLError as error:
        raise StartupError(f"the authority of issuer {provider.issuer} is not a PEM certificate") from error
    client = Outside(context, {})
    state.closers.append(client.close)
    keys = ProviderKeys(provider.issuer, provider.discovery_url, client, state.clock)
    return OidcTokens(
        provider, keys, state.clock.now, audiences, client, lambda other: ProviderKeys(other, "", client, state.clock)
    )


def _webhook(config: Config, state: State, audiences: tuple[str, ...]) -> WebhookTokens:
    if config.authentication_token_webhook_version not in VERSIONS:
        raise StartupError(f"--authentication-token-webhook-version must be {' or '.join(VERSIONS)}")
    flag = "--authentication-token-webhook-config-file"
    webhook = KubeconfigWebhook(config.authentication_token_webhook_config_file, state.clock, flag)
    state.closers.append(webhook.close)
    return WebhookTokens(
        webhook, state.clock, version=config.authentication_token_webhook_version,
        cache_seconds=config.authentication_token_webhook_cache_ttl, api_audiences=audiences,
    )  # fmt: skip


def follow_authorities(config: Config, state: State, proxy: FrontProxy) -> None:
    """Have front proxies' authorities read again when their file, or that of the other clients' authorities, has changed."""

    def take_up() -> None:
        proxy.authorities = _proxy_authorities(config)

    paths = (config.requestheader_client_ca_file, config.client_ca_file)
    state.rotated_files.append(RotatedFiles("front proxies' authorities", paths, take_up))


def front_proxy(config: Config) -> FrontProxy | None:
    """None unless --requestheader-client-ca-file is given. Raises StartupError."""
    if not config.requestheader_client_ca_file:
        return None
    return FrontProxy(
        _proxy_authorities(config), config.requestheader_allowed_names, config.requestheader_username_headers,
        config.requestheader_group_headers, config.requestheader_extra_headers_prefix, config.requestheader_uid_headers,
    )  # fmt: skip


def _proxy_authorities(config: Config) -> frozenset[Subject]:
    """Raises StartupError."""
    mine = _subjects(config.requestheader_client_ca_file)
    if config.client_ca_file and mine & _subjects(config.client_ca_file):
        raise StartupError(
            "--requestheader-client-ca-file and --client-ca-file hold authorities of the same name: whose certificates are front proxies' "
            "is told by that name, so give them different ones"
        )
    return mine


def _subjects(path: str) -> frozenset[Subject]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with startup(f"read {path}"):
        context.load_verify_locations(path)
    return frozenset(entry["subject"] for entry in context.get_ca_certs())  # type: ignore[misc]
