"""The audit policy: which requests are recorded, how much of them, and at which stages.

Imitates apiserver/pkg/audit/policy (reader.go, checker.go) and the validation of audit.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubecosm.runtime.errors import StartupError, startup

from ..authn.user import User
from ..http.info import PathInfo

NONE, METADATA, REQUEST, REQUEST_RESPONSE = "None", "Metadata", "Request", "RequestResponse"
LEVELS = (NONE, METADATA, REQUEST, REQUEST_RESPONSE)
RECEIVED, STARTED, COMPLETE, PANIC = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
STAGES = (RECEIVED, STARTED, COMPLETE, PANIC)
GROUP_VERSION = "audit.k8s.io/v1"
HEADS = {level: f'{{"kind":"Event","apiVersion":"{GROUP_VERSION}","level":"{level}","auditID":'.encode() for level in LEVELS}
_RULE_FIELDS = frozenset((
    "level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs", "omitStages", "omitManagedFields",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is recorded of one request."""

    level: str
    omitted: frozenset[str] = frozenset()
    omit_managed_fields: bool = False

    @property
    def has_request(self) -> bool:
        return self.level in (REQUEST, REQUEST_RESPONSE)

    @property
    def has_response(self) -> bool:
        return self.level == REQUEST_RESPONSE

    @property
    def head(self) -> bytes:
        """How its events begin, as JSON; the id follows."""
        return HEADS[self.level]


NOTHING = Verdict(NONE)


@dataclass(frozen=True, slots=True)
class _Rule:
    verdict: Verdict
    users: Sequence[str]
    groups: Sequence[str]
    verbs: Sequence[str]
    namespaces: Sequence[str]
    resources: Sequence[dict[str, Any]]
    paths: Sequence[str]

    def matches(self, user: User, verb: str, info: PathInfo) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and not any(group in self.groups for group in user.groups):
            return False
        if self.verbs and verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._matches_resource(info)
        if self.paths:
            return not info.is_resource and any(_matches_path(pattern, info.path) for pattern in self.paths)
        return True

    def _matches_resource(self, info: PathInfo) -> bool:
        if not info.is_resource or (self.namespaces and info.namespace not in self.namespaces):
            return False
        return not self.resources or any(_matches_kind(entry, info) for entry in self.resources)


def _matches_path(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _matches_kind(entry: dict[str, Any], info: PathInfo) -> bool:
    if (entry.get("group") or "") != info.group:
        return False
    resources, names = entry.get("resources") or (), entry.get("resourceNames") or ()
    if not resources:
        return True
    if names and info.name not in names:
        return False
    combined = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    wanted = {"*", combined, f"{info.resource}/*"}
    if info.subresource:
        wanted.add(f"*/{info.subresource}")
    return any(resource in wanted for resource in resources)


class Policy:
    """The first rule that matches counts; without one, nothing is recorded."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._rules = rules
        self.looks_at_names = any(entry.get("resourceNames") for rule in rules for entry in rule.resources)
        """Whether requests that differ only in the name may be recorded differently."""

    def of(self, user: User, verb: str, info: PathInfo) -> Verdict:
        return next((rule.verdict for rule in self._rules if rule.matches(user, verb, info)), NOTHING)


def load_policy(path: Path) -> Policy:
    """Raises StartupError that names the file and the field."""
    with startup(f"read the audit policy {path}"):
        text = path.read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"invalid audit policy {path}: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "Policy" or document.get("apiVersion") != GROUP_VERSION:
        raise StartupError(f"invalid audit policy {path}: expected apiVersion: {GROUP_VERSION} and kind: Policy")
    rules = document.get("rules") or []
    if not rules:
        raise StartupError(f"loaded illegal policy with 0 rules from file {path}")
    return Policy([_rule(entry, i, document, path) for i, entry in enumerate(rules)])


def _rule(entry: dict[str, Any], index: int, document: dict[str, Any], path: Path) -> _Rule:
    def wrong(what: str) -> StartupError:
        return StartupError(f"invalid audit policy {path}: rules[{index}].{what}")

    if unknown := set(entry) - _RULE_FIELDS:
        raise wrong(f"{sorted(unknown)[0]}: unknown field")
    level = entry.get("level", "")
    if level not in LEVELS:
        raise wrong(f"level: Unsupported value: {level!r}: supported values: {', '.join(LEVELS)}")
    omitted = frozenset([*(document.get("omitStages") or ()), *(entry.get("omitStages") or ())])
    if bad := omitted - set(STAGES):
        raise wrong(f"omitStages: Invalid value: {sorted(bad)[0]!r}: allowed stages are {', '.join(STAGES)}")
    paths, resources, namespaces = (entry.get(f) or () for f in ("nonResourceURLs", "resources", "namespaces"))
    if paths and (resources or namespaces):
        raise wrong("nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs")
    own = entry.get("omitManagedFields")
    verdict = Verdict(level, omitted, bool(document.get("omitManagedFields") if own is None else own))
    users, groups, verbs = (entry.get(f) or () for f in ("users", "userGroups", "verbs"))
    return _Rule(verdict, users, groups, verbs, namespaces, resources, paths)
