"""The cells of what rules the API: bindings, webhooks, policies, priorities, certificates. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kubecosm.api.resources import Object

from .texts import NONE, UNSET, age, condition, human_duration, labels_text, name_of, part, shortened

_SUBJECTS = ("User", "Group", "ServiceAccount")


def bindings(obj: Object, now: datetime) -> list[Any]:
    """RoleBindings and ClusterRoleBindings."""
    role = obj.get("roleRef") or {}
    named: dict[str, list[str]] = {kind: [] for kind in _SUBJECTS}
    for subject in obj.get("subjects") or ():
        if (kind := subject.get("kind")) in named:
            name = subject.get("name", "")
            named[kind].append(f"{subject.get('namespace', '')}/{name}" if kind == "ServiceAccount" else name)
    return [name_of(obj), f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *(", ".join(named[kind]) for kind in _SUBJECTS)]


def certificate_signing_requests(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    duration = NONE if seconds is None else human_duration(timedelta(seconds=seconds))
    word = "Denied" if condition(obj, "Denied") else "Approved" if condition(obj, "Approved") else "Pending"
    if condition(obj, "Failed"):
        word += ",Failed"
    if part(obj, "status", "certificate"):
        word += ",Issued"
    return [name_of(obj), age(obj, now), spec.get("signerName") or NONE, spec.get("username", ""), duration, word]


def cluster_trust_bundles(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), part(obj, "spec", "signerName") or NONE]


_CERTIFICATE_FIELDS = ("podName", "serviceAccountName", "nodeName", "signerName")


def pod_certificate_requests(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    ends: list[str] = [c["type"] for c in part(obj, "status", "conditions") or () if c.get("type") in ("Issued", "Denied", "Failed")]
    state = ends[-1] if ends else "Pending"
    return [name_of(obj), *(spec.get(name, "") for name in _CERTIFICATE_FIELDS), state, labels_text(spec.get("unverifiedUserAnnotations"))]


def webhooks(obj: Object, now: datetime) -> list[Any]:
    """Both kinds of webhook configurations."""
    return [name_of(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def validating_policies(obj: Object, now: datetime) -> list[Any]:
    return _policy(obj, "validations", now)


def mutating_policies(obj: Object, now: datetime) -> list[Any]:
    return _policy(obj, "mutations", now)


def _policy(obj: Object, field: str, now: datetime) -> list[Any]:
    kind = part(obj, "spec", "paramKind")
    text = UNSET if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"
    return [name_of(obj), len(part(obj, "spec", field) or ()), text, age(obj, now)]


def policy_bindings(obj: Object, now: datetime) -> list[Any]:
    """Bindings of validating and of mutating policies."""
    reference = part(obj, "spec", "paramRef") or {}
    text = UNSET
    if reference.get("name"):
        text = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        text = _go_selector(reference["selector"])
    return [name_of(obj), part(obj, "spec", "policyName") or "", text, age(obj, now)]


def _go_selector(selector: Object) -> str:
    """LabelSelector.String() of the generated Go code."""
    labels = "".join([f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items())])
    expressions = "".join([_go_requirement(expression) for expression in selector.get("matchExpressions") or ()])
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"


def _go_requirement(expression: Object) -> str:
    key, operator, values = expression.get("key", ""), expression.get("operator", ""), " ".join(expression.get("values") or ())
    return f"LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"


def flow_schemas(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    method = part(spec, "distinguisherMethod", "type") or NONE
    dangling = (condition(obj, "Dangling") or {}).get("status", "?")
    level = part(spec, "priorityLevelConfiguration", "name") or ""
    return [name_of(obj), level, spec.get("matchingPrecedence", 0), method, age(obj, now), dangling]


def priority_levels(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    limited, queuing = spec.get("limited"), part(spec, "limited", "limitResponse", "queuing")
    shares = NONE if limited is None else limited.get("nominalConcurrencyShares", 0)
    queues = [NONE] * 3 if queuing is None else [queuing.get(name, 0) for name in ("queues", "handSize", "queueLengthLimit")]
    return [name_of(obj), spec.get("type", ""), shares, *queues, age(obj, now)]


def api_services(obj: Object, now: datetime) -> list[Any]:
    service = part(obj, "spec", "service")
    backend = "Local" if service is None else f"{service.get('namespace', '')}/{service.get('name', '')}"
    available = condition(obj, "Available")
    word = "Unknown" if available is None else available.get("status", "")
    if available is not None and word != "True":
        word = f"{word} ({available.get('reason', '')})"
    return [name_of(obj), backend, word, age(obj, now)]


def storage_versions(obj: Object, now: datetime) -> list[Any]:
    status = obj.get("status") or {}
    servers = [f"{s.get('apiServerID', '')}={s.get('encodingVersion', '')}" for s in status.get("storageVersions") or ()]
    common = status.get("commonEncodingVersion")
    return [name_of(obj), UNSET if common is None else common, shortened(servers), age(obj, now)]


def storage_version_migrations(obj: Object, now: datetime) -> list[Any]:
    resource = part(obj, "spec", "resource") or {}
    group = resource.get("group")
    status = "Unknown"
    for found in part(obj, "status", "conditions") or ():
        if found.get("status") == "True" and found.get("type") in ("Running", "Failed", "Succeeded"):
            status = found["type"]
    return [name_of(obj), f"{resource.get('resource', '')}.{group}" if group else resource.get("resource", ""), status]
