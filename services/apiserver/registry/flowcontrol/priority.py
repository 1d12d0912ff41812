"""FlowSchemas and PriorityLevelConfigurations. Imitates pkg/apis/flowcontrol validation and v1 defaults."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_label, check_dns1123_subdomain
from ..strategy import StatusStrategy, Strategy

MATCHING_PRECEDENCE = 1000
MATCHING_PRECEDENCE_MAX = 10000
CONCURRENCY_SHARES = 30
QUEUES, HAND_SIZE, QUEUE_LENGTH_LIMIT = 64, 8, 50
QUEUES_MAX = 10_000_000
SUBJECT_KINDS = ("Group", "ServiceAccount", "User")
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
NON_RESOURCE_VERBS = ("connect", "delete", "get", "head", "options", "patch", "post", "put", "trace")
_SUBJECT_FIELDS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}


class FlowSchemaStrategy(Strategy):
    """A FlowSchema."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = MATCHING_PRECEDENCE
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        precedence = spec["matchingPrecedence"]
        if precedence <= 0:
            errors.append(invalid_value("spec.matchingPrecedence", precedence, "must be a positive value"))
        if precedence > MATCHING_PRECEDENCE_MAX:
            detail = f"must not be greater than {MATCHING_PRECEDENCE_MAX}"
            errors.append(invalid_value("spec.matchingPrecedence", precedence, detail))
        if precedence == 1 and obj["metadata"].get("name") != "exempt":
            detail = "only the schema named 'exempt' may have matchingPrecedence 1"
            errors.append(invalid_value("spec.matchingPrecedence", precedence, detail))
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type", "") not in ("ByNamespace", "ByUser"):
            shown = {"Type": method.get("type", "")}
            errors.append(not_supported("spec.distinguisherMethod", shown, ("ByNamespace", "ByUser")))
        name = (spec.get("priorityLevelConfiguration") or {}).get("name")
        if name:
            check_dns1123_subdomain(name, "spec.priorityLevelConfiguration.name", errors)
        else:
            errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
        for i, rule in enumerate(spec.get("rules") or ()):
            _check_rule(rule, f"spec.rules[{i}]", errors)
        return errors


def _check_rule(rule: Object, path: str, errors: Errors) -> None:
    subjects, resources, others = (rule.get(f) or () for f in ("subjects", "resourceRules", "nonResourceRules"))
    if not subjects:
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    for i, subject in enumerate(subjects):
        _check_subject(subject, f"{path}.subjects[{i}]", errors)
    if not resources and not others:
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for i, entry in enumerate(resources):
        _check_resource_rule(entry, f"{path}.resourceRules[{i}]", errors)
    for i, entry in enumerate(others):
        _check_non_resource_rule(entry, f"{path}.nonResourceRules[{i}]", errors)


def _check_subject(subject: Object, path: str, errors: Errors) -> None:
    kind = subject.get("kind", "")
    own = _SUBJECT_FIELDS.get(kind)
    if own is None:
        errors.append(not_supported(f"{path}.kind", kind, SUBJECT_KINDS))
        return
    value = subject.get(own)
    if value is None:
        errors.append(required(f"{path}.{own}", f"{own} is required when subject kind is '{kind}'"))
    elif kind == "ServiceAccount":
        for field, check in (("name", check_dns1123_subdomain), ("namespace", check_dns1123_label)):
            if not value.get(field):
                errors.append(required(f"{path}.{own}.{field}"))
            elif value[field] != "*" or field == "namespace":
                check(value[field], f"{path}.{own}.{field}", errors)
    elif not value.get("name"):
        errors.append(required(f"{path}.{own}.name"))
    for other in ("user", "group", "serviceAccount"):
        if other != own and other in subject:
            wanted = next(k for k, f in _SUBJECT_FIELDS.items() if f == other)
            errors.append(forbidden_field(f"{path}.{other}", f"{other} is forbidden when subject kind is not '{wanted}'"))


def _check_all_or_some(values: Sequence[str], what: str, empty: str, path: str, errors: Errors) -> None:
    if not values:
        errors.append(required(path, empty))
    elif len(values) > 1 and "*" in values:
        errors.append(invalid_value(path, list(values), f"if '*' is present, must not specify other {what}"))


def _check_verbs(verbs: list[str], supported: tuple[str, ...], path: str, errors: Errors) -> None:
    _check_all_or_some(verbs, "verbs", "verbs must contain at least one value", path, errors)
    if "*" not in verbs and any(verb not in supported for verb in verbs):
        errors.append(not_supported(path, verbs, supported))


def _check_resource_rule(rule: Object, path: str, errors: Errors) -> None:
    _check_verbs(rule.get("verbs") or [], VERBS, f"{path}.verbs", errors)
    groups, resources, namespaces = (rule.get(f) or [] for f in ("apiGroups", "resources", "namespaces"))
    _check_all_or_some(groups, "api groups", "resource rules must supply at least one api group", f"{path}.apiGroups", errors)
    _check_all_or_some(resources, "resources", "resource rules must supply at least one resource", f"{path}.resources", errors)
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(f"{path}.namespaces", detail))
    elif len(namespaces) > 1 and "*" in namespaces:
        errors.append(invalid_value(f"{path}.namespaces", namespaces, "if '*' is present, must not specify other namespaces"))
    for i, namespace in enumerate(namespaces):
        if namespace != "*":
            check_dns1123_label(namespace, f"{path}.namespaces[{i}]", errors)


def _check_non_resource_rule(rule: Object, path: str, errors: Errors) -> None:
    _check_verbs(rule.get("verbs") or [], NON_RESOURCE_VERBS, f"{path}.verbs", errors)
    urls = rule.get("nonResourceURLs") or []
    _check_all_or_some(urls, "non-resource URLs", "nonResourceURLs must contain at least one value", f"{path}.nonResourceURLs", errors)
    for i, url in enumerate(urls):
        if url not in ("*", "/") and (not url.startswith("/") or "//" in url or "*" in url[:-1]):
            errors.append(invalid_value(f"{path}.nonResourceURLs[{i}]", url, "must be an absolute path, with '*' at most at its end"))


class PriorityLevelConfigurationStrategy(Strategy):
    """A PriorityLevelConfiguration."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        exempt, limited = spec.get("exempt"), spec.get("limited")
        for level, shares in ((exempt, 0), (limited, CONCURRENCY_SHARES)):
            if level is not None:
                _fill(level, nominalConcurrencyShares=shares, lendablePercent=0)
        if limited is not None:
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for field, value in (("handSize", HAND_SIZE), ("queues", QUEUES), ("queueLengthLimit", QUEUE_LENGTH_LIMIT)):
                    queuing[field] = queuing.get(field) or value
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec, kind = obj["spec"], obj["spec"].get("type", "")
        if kind == "Exempt":
            if "limited" in spec:
                errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
        elif kind == "Limited":
            if "exempt" in spec:
                errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
            if "limited" not in spec:
                errors.append(required("spec.limited", "must not be empty when type is Limited"))
            else:
                _check_limited(spec["limited"], errors)
        else:
            errors.append(not_supported("spec.type", kind, ("Exempt", "Limited")))
        return errors


def _fill(level: Object, **values: int) -> None:
    """Give fields that are absent or null a value."""
    for field, value in values.items():
        if level.get(field) is None:
            level[field] = value


def _check_limited(limited: Object, errors: Errors) -> None:
    path, response = "spec.limited", limited.get("limitResponse") or {}
    shares = limited["nominalConcurrencyShares"]
    if shares < 0:
        errors.append(invalid_value(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    kind, queuing = response.get("type", ""), response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            errors.append(forbidden_field(f"{path}.limitResponse.queuing", "must be nil if limited.limitResponse.type is not Limited"))
    elif kind == "Queue":
        if queuing is None:
            errors.append(required(f"{path}.limitResponse.queuing", "must not be empty if limited.limitResponse.type is Limited"))
        else:
            _check_queuing(queuing, f"{path}.limitResponse.queuing", errors)
    else:
        errors.append(not_supported(f"{path}.limitResponse.type", kind, ("Queue", "Reject")))
    lendable = limited["lendablePercent"]
    if not 0 <= lendable <= 100:
        errors.append(invalid_value(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        detail = "if specified, must be a non-negative integer"
        errors.append(invalid_value(f"{path}.borrowingLimitPercent", borrowing, detail))


def _check_queuing(queuing: Object, path: str, errors: Errors) -> None:
    queues, hand = queuing["queues"], queuing["handSize"]
    if queuing["queueLengthLimit"] <= 0:
        errors.append(invalid_value(f"{path}.queueLengthLimit", queuing["queueLengthLimit"], "must be positive"))
    if queues <= 0:
        errors.append(invalid_value(f"{path}.queues", queues, "must be positive"))
    elif queues > QUEUES_MAX:
        errors.append(invalid_value(f"{path}.queues", queues, f"must not be greater than {QUEUES_MAX}"))
    if hand <= 0:
        errors.append(invalid_value(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        detail = f"should not be greater than queues ({queues})"
        errors.append(invalid_value(f"{path}.handSize", hand, detail))


class FlowControlStatusStrategy(StatusStrategy):
    """The status of either kind: conditions unique by type."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        seen: set[str] = set()
        for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
            kind = condition.get("type", "")
            if not kind:
                errors.append(required(f"status.conditions[{i}].type"))
            elif kind in seen:
                errors.append(duplicate(f"status.conditions[{i}].type", kind))
            seen.add(kind)
        return errors
