"""The file of --authentication-config: an AuthenticationConfiguration, read strictly.

Imitates k8s.io/apiserver/pkg/apis/apiserver (types, validation). Left out: CEL expressions, which are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecosm.runtime.errors import StartupError, startup

from .filter import AnonymousAccess
from .oidc import Claim, Provider

API = "apiserver.config.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha1")
ISSUERS_MAX = 64


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
    _check_fields(issuer, f"{path}.issuer", ("url", "discoveryURL", "certificateAuthority", "audiences", "audienceMatchPolicy"))
    _check_fields(mappings, f"{path}.claimMappings", ("username", "groups", "uid", "extra"))
    url, audiences = issuer.get("url", ""), tuple(issuer.get("audiences") or ())
    if not url.startswith("https://"):
        raise ValueError(f"{path}.issuer.url: URL scheme must be https")
    if not audiences:
        raise ValueError(f"{path}.issuer.audiences: at least one is needed")
    if len(audiences) > 1 and issuer.get("audienceMatchPolicy") != "MatchAny":
        raise ValueError(f"{path}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    if entry.get("userValidationRules") or mappings.get("extra"):
        raise ValueError(f"{path}: userValidationRules and claimMappings.extra need CEL expressions, which are not supported here")
    username = _claim(mappings.get("username"), f"{path}.claimMappings.username")
    if username is None:
        raise ValueError(f"{path}.claimMappings.username: claim or expression is required")
    groups = _claim(mappings.get("groups"), f"{path}.claimMappings.groups")
    uid = _claim(mappings.get("uid"), f"{path}.claimMappings.uid", with_prefix=False)
    required = dict(_required(rule, f"{path}.claimValidationRules[{i}]") for i, rule in enumerate(entry.get("claimValidationRules") or ()))
    provider = Provider(
        url, audiences, username, groups, uid.name if uid else "", required, discovery_url=issuer.get("discoveryURL", "")
    )
    return Issuer(provider, issuer.get("certificateAuthority", ""))


def _claim(entry: Mapping[str, Any] | None, path: str, *, with_prefix: bool = True) -> Claim | None:
    if not entry:
        return None
    _check_fields(entry, path, ("claim", "prefix", "expression") if with_prefix else ("claim", "expression"))
    if entry.get("expression"):
        raise ValueError(f"{path}.expression: CEL expressions are not supported here: use claim")
    if with_prefix and "prefix" not in entry:
        raise ValueError(f'{path}.prefix: prefix is required when claim is set. It can be set to an empty string ("") to disable it')
    return Claim(entry["claim"], entry.get("prefix", ""))


def _required(rule: Mapping[str, Any], path: str) -> tuple[str, str]:
    _check_fields(rule, path, ("claim", "requiredValue", "expression", "message"))
    if rule.get("expression"):
        raise ValueError(f"{path}.expression: CEL expressions are not supported here: use claim and requiredValue")
    return rule["claim"], rule.get("requiredValue", "")


def _check_fields(entry: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown field {', '.join(unknown)}")
