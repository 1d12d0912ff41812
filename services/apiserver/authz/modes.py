"""From `--authorization-mode` or `--authorization-config` to who is asked, in the order given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.flags import parse_duration

from ..authn.configuration import load_document
from ..config import Config
from ..configfiles import ConfigFile
from ..outside import KubeconfigWebhook
from ..plainexpressions import Expression
from ..state import State
from .attributes import (
    AuthenticatedAuthorizer,
    Authorizer,
    CurrentAuthorizer,
    DenyingAuthorizer,
    MastersAuthorizer,
    PublicInfoAuthorizer,
    UnionAuthorizer,
)
from .bootstrap import node_rules
from .node.authorizer import NodeAuthorizer
from .node.graph import CachedGraph
from .policy import CachedPolicy
from .rbac import RbacAuthorizer
from .webhook import VERSIONS, WebhookAuthorizer, WebhookSettings

RBAC, NODE, WEBHOOK, ALLOW, DENY = "RBAC", "Node", "Webhook", "AlwaysAllow", "AlwaysDeny"
MODES = (NODE, RBAC, WEBHOOK, ALLOW, DENY)
CONFIG_VERSIONS = ("v1", "v1beta1", "v1alpha1")


def build_authorizer(config: Config, state: State) -> Authorizer:
    """Raises StartupError."""
    if not config.authorization_config:
        return UnionAuthorizer((MastersAuthorizer(), *_by_modes(config, state)))
    path = config.authorization_config

    def read() -> Authorizer:
        return UnionAuthorizer((MastersAuthorizer(), *_configured(path, state)))

    found = CurrentAuthorizer(read())

    def take_up() -> None:
        found.current = read()

    state.config_files.append(ConfigFile("authorization", path, take_up, state.clock))
    return found


def uses_rbac(config: Config) -> bool:
    """Whether the default roles and bindings are needed. Raises StartupError."""
    if not config.authorization_config:
        return RBAC in config.authorization_mode
    return any(entry.get("type") == RBAC for entry in _entries(config.authorization_config))


def _by_modes(config: Config, state: State) -> list[Authorizer]:
    if config.authorization_webhook_config_file and WEBHOOK not in config.authorization_mode:
        raise StartupError("--authorization-webhook-config-file needs --authorization-mode=Webhook")
    chain: list[Authorizer] = []
    for mode in config.authorization_mode:
        if mode not in MODES:
            raise StartupError(f"unknown --authorization-mode {mode}: choose from {', '.join(MODES)}")
        if mode != WEBHOOK:
            chain += _plain(mode, state)
            continue
        if not config.authorization_webhook_config_file:
            raise StartupError("--authorization-mode=Webhook needs --authorization-webhook-config-file")
        settings = WebhookSettings(
            config.authorization_webhook_version, config.authorization_webhook_cache_authorized_ttl,
            config.authorization_webhook_cache_unauthorized_ttl,
        )  # fmt: skip
        chain.append(_webhook(config.authorization_webhook_config_file, "--authorization-webhook-config-file", settings, state))
    return chain


def _plain(mode: str, state: State) -> Sequence[Authorizer]:
    if mode == RBAC:
        return (RbacAuthorizer(CachedPolicy(state.caches)),)
    if mode == NODE:
        return (NodeAuthorizer(CachedGraph(state.caches), node_rules),)
    return (DenyingAuthorizer(),) if mode == DENY else (AuthenticatedAuthorizer(), PublicInfoAuthorizer())


def _webhook(
    path: str, flag: str, settings: WebhookSettings, state: State, conditions: tuple[Expression, ...] = ()
) -> WebhookAuthorizer:
    if settings.version not in VERSIONS:
        raise StartupError(f"{flag}: the version of SubjectAccessReviews must be {' or '.join(VERSIONS)}")
    webhook = KubeconfigWebhook(path, state.clock, flag)
    state.closers.append(webhook.close)
    calls = state.authorization_metrics.calls_of(settings.name)
    return WebhookAuthorizer(webhook, state.clock, settings, calls, conditions)


def _entries(path: str) -> list[Mapping[str, Any]]:
    """The authorizers of an AuthorizationConfiguration. Raises StartupError."""
    entries = load_document(path, "AuthorizationConfiguration", CONFIG_VERSIONS).get("authorizers") or []
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise StartupError(f"cannot use {path}: authorizers: at least one authorization mode must be defined")
    return entries


def _configured(path: str, state: State) -> list[Authorizer]:
    chain: list[Authorizer] = []
    names = set()
    for i, entry in enumerate(_entries(path)):
        mode, where = entry.get("type", ""), f"{path}: authorizers[{i}]"
        name = entry.get("name") or mode.lower()
        if name in names:
            raise StartupError(f"cannot use {where}: the name {name} is taken")
        names.add(name)
        if mode != WEBHOOK:
            if mode not in MODES:
                raise StartupError(f"cannot use {where}.type: {mode!r} is none of {', '.join(MODES)}")
            chain += _plain(mode, state)
            continue
        chain.append(_configured_webhook({"name": name, **(entry.get("webhook") or {})}, where, state))
    return chain


def _configured_webhook(entry: Mapping[str, Any], where: str, state: State) -> WebhookAuthorizer:
    connection = entry.get("connectionInfo") or {}
    if connection.get("type") != "KubeConfigFile" or not connection.get("kubeConfigFile"):
        raise StartupError(f"cannot use {where}.webhook.connectionInfo: type must be KubeConfigFile, with a kubeConfigFile")
    policy = entry.get("failurePolicy", "")
    if policy not in ("NoOpinion", "Deny"):
        raise StartupError(f"cannot use {where}.webhook.failurePolicy: must be NoOpinion or Deny")
    try:
        settings = WebhookSettings(
            entry.get("subjectAccessReviewVersion", "v1"), _seconds(entry, "authorizedTTL", "5m"),
            _seconds(entry, "unauthorizedTTL", "30s"), _seconds(entry, "timeout", "30s"), denies_on_failure=policy == "Deny",
            name=entry.get("name") or "default",
        )  # fmt: skip
        conditions = tuple(
            Expression(one.get("expression", ""), ("request",), ("bool",)) for one in entry.get("matchConditions") or ()
        )
    except ValueError as error:
        raise StartupError(f"cannot use {where}.webhook: {error}") from error
    return _webhook(connection["kubeConfigFile"], f"{where}.webhook", settings, state, conditions)


def _seconds(entry: Mapping[str, Any], field: str, default: str) -> float:
    """A duration as Go writes it; 0 if such answers are not to be remembered."""
    flag = {"authorizedTTL": "cacheAuthorizedRequests", "unauthorizedTTL": "cacheUnauthorizedRequests"}.get(field, "")
    if flag and entry.get(flag) is False:
        return 0.0
    try:
        return parse_duration(entry.get(field) or default)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error
