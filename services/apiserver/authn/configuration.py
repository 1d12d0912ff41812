"""The file of --authentication-config: an AuthenticationConfiguration, read strictly.

Imitates k8s.io/apiserver/pkg/apis/apiserver (types, validation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubecosm.runtime.errors import StartupError, startup

from ..plainexpressions import Expression
from .filter import AnonymousAccess
from .oidc import Claim, Provider, Rule

API = "apiserver.config.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha1")
ISSUERS_MAX = 64
_ISSUER_FIELDS = ("url", "discoveryURL", "certificateAuthority", "audiences", "audienceMatchPolicy", "egressSelectorType")


@dataclass(frozen=True)
class Issuer:
    """A provider and whom to trust when it is asked (PEM; empty: the machine's own authorities)."""

    provider: Provider
    authority: str = ""


@dataclass(frozen=True)
class Configuration:
    issuers: tuple[Issuer, ...] = ()
    anonymous: AnonymousAccess | None = None
    """None: as the flag says."""


def load_document(path: str, kind: str, versions: tuple[str, ...]) -> dict[str, Any]:
    """A YAML or JSON file of apiserver.config.k8s.io. Raises StartupError."""
    import yaml

    with startup(f"read {path}"):
        text = Path(path).read_text()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"cannot use {path}: not YAML: {error}") from error
    known = [f"{API}/{version}" for version in versions]
    if not isinstance(document, dict) or document.get("kind") != kind or document.get("apiVersion") not in known:
        raise StartupError(f"cannot use {path}: it must be a {kind} of {' or '.join(known)}")
    return document


def load_authentication(path: str) -> Configuration:
    """Raises StartupError, which names the field."""
    document = load_document(path, "AuthenticationConfiguration", VERSIONS)
    try:
        entries = document.get("jwt") or []
        if len(entries) > ISSUERS_MAX:
            raise ValueError(f"jwt: at most {ISSUERS_MAX} issuers")
        issuers = tuple(_issuer(entry, f"jwt[{i}]") for i, entry in enumerate(entries))
        urls = [issuer.provider.issuer for issuer in issuers]
        if len(set(urls)) != len(urls):
            raise ValueError("jwt: two issuers have the same url")
        return Configuration(issuers, _anonymous(document.get("anonymous")))
    except (ValueError, TypeError, AttributeError) as error:
        raise StartupError(f"cannot use {path}: {error}") from error


def _anonymous(entry: Mapping[str, Any] | None) -> AnonymousAccess | None:
    if entry is None:
        return None
    _check_fields(entry, "anonymous", ("enabled", "conditions"))
    paths = [condition.get("path", "") for condition in entry.get("conditions") or ()]
    if paths and not entry.get("enabled"):
        raise ValueError("anonymous.conditions: enabled should be set to true when conditions are defined")
    return AnonymousAccess(bool(entry.get("enabled")), frozenset(paths))


def _issuer(entry: Mapping[str, Any], path: str) -> Issuer:
    _check_fields(entry, path, ("issuer", "claimValidationRules", "claimMappings", "userValidationRules"))
    issuer, mappings = entry.get("issuer") or {}, entry.get("claimMappings") or {}
    _check_fields(issuer, f"{path}.issuer", _ISSUER_FIELDS)
    _check_fields(mappings, f"{path}.claimMappings", ("username", "groups", "uid", "extra"))
    url, audiences = issuer.get("url", ""), tuple(issuer.get("audiences") or ())
    _check_urls(url, issuer.get("discoveryURL", ""), f"{path}.issuer")
    if issuer.get("egressSelectorType", "") not in ("", "controlplane", "cluster"):
        raise ValueError(f"{path}.issuer.egressSelectorType: egress selector must be either controlplane or cluster")
    if not audiences:
        raise ValueError(f"{path}.issuer.audiences: at least one is needed")
    if len(audiences) > 1 and issuer.get("audienceMatchPolicy") != "MatchAny":
        raise ValueError(f"{path}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    where = f"{path}.claimMappings"
    username = _claim(mappings.get("username"), f"{where}.username")
    if username is None:
        raise ValueError(f"{where}.username: claim or expression is required")
    rules = [(rule, f"{path}.claimValidationRules[{i}]") for i, rule in enumerate(entry.get("claimValidationRules") or ())]
    provider = Provider(
        url, audiences, username, _claim(mappings.get("groups"), f"{where}.groups", lists=True),
        _claim(mappings.get("uid"), f"{where}.uid", with_prefix=False),
        tuple(_extra(one, f"{where}.extra[{i}]") for i, one in enumerate(mappings.get("extra") or ())),
        tuple(_rule(rule, at, ("claims",)) for rule, at in rules if rule.get("expression")),
        tuple(_rule(rule, f"{path}.userValidationRules[{i}]", ("user",)) for i, rule in enumerate(entry.get("userValidationRules") or ())),
        dict(_required(rule, at) for rule, at in rules if not rule.get("expression")), discovery_url=issuer.get("discoveryURL", ""),
    )  # fmt: skip
    _check_email(provider, path)
    return Issuer(provider, issuer.get("certificateAuthority", ""))


def _check_urls(url: str, discovery_url: str, path: str) -> None:
    """Both in order, and different: a discovery URL is there for issuers that are found elsewhere."""
    for found, field in ((url, "url"), (discovery_url, "discoveryURL")):
        parts = urlsplit(found)
        if not found and field == "discoveryURL":
            return
        if parts.scheme != "https":
            raise ValueError(f"{path}.{field}: URL scheme must be https")
        if parts.username is not None:
            raise ValueError(f"{path}.{field}: URL must not contain a username or password")
        if parts.query or parts.fragment:
            raise ValueError(f"{path}.{field}: URL must not contain a {'query' if parts.query else 'fragment'}")
    if url.rstrip("/") == discovery_url.rstrip("/"):
        raise ValueError(f"{path}.discoveryURL: discoveryURL must be different from URL")


def _check_email(provider: Provider, path: str) -> None:
    """An address that nobody verified must not become a name."""
    username = provider.username.expression
    if username is None or not re.search(r"\bclaims\.email\b", username.source):
        return
    others = [claim.expression for _, claim in provider.extra] + [rule.expression for rule in provider.claim_rules]
    if not any(one is not None and "email_verified" in one.source for one in (username, *others)):
        raise ValueError(
            f"{path}.claimMappings.username.expression: claims.email_verified must be used in claimMappings.username.expression or "
            "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in "
            "claimMappings.username.expression"
        )


def _claim(entry: Mapping[str, Any] | None, path: str, *, with_prefix: bool = True, lists: bool = False) -> Claim | None:
    if not entry:
        return None
    _check_fields(entry, path, ("claim", "prefix", "expression") if with_prefix else ("claim", "expression"))
    if entry.get("expression"):
        if entry.get("claim") or entry.get("prefix"):
            raise ValueError(f"{path}: claim and prefix can't be set together with expression")
        results = ("string", "list") if lists else ("string",)
        return Claim("", "", _expression(entry["expression"], f"{path}.expression", ("claims",), results))
    if with_prefix and "prefix" not in entry:
        raise ValueError(f'{path}.prefix: prefix is required when claim is set. It can be set to an empty string ("") to disable it')
    return Claim(entry["claim"], entry.get("prefix", ""))


def _extra(entry: Mapping[str, Any], path: str) -> tuple[str, Claim]:
    _check_fields(entry, path, ("key", "valueExpression"))
    key = entry.get("key", "")
    if "/" not in key or key != key.lower():
        raise ValueError(f"{path}.key: must be a domain-prefix path (such as 'acme.io/foo') in lowercase")
    return key, Claim("", "", _expression(entry.get("valueExpression", ""), f"{path}.valueExpression", ("claims",), ("string", "list")))


def _rule(entry: Mapping[str, Any], path: str, names: tuple[str, ...]) -> Rule:
    _check_fields(entry, path, ("expression", "message"))
    return Rule(_expression(entry.get("expression", ""), f"{path}.expression", names, ("bool",)), entry.get("message", ""))


def _expression(source: str, path: str, names: tuple[str, ...], results: tuple[str, ...]) -> Expression:
    try:
        return Expression(source, names, results)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _required(rule: Mapping[str, Any], path: str) -> tuple[str, str]:
    _check_fields(rule, path, ("claim", "requiredValue"))
    if not rule.get("claim"):
        raise ValueError(f"{path}: claim or expression is required")
    return rule["claim"], rule.get("requiredValue", "")


def _check_fields(entry: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown field {', '.join(unknown)}")
