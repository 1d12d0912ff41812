"""Defaults and validation that webhooks and admission policies share: rules, match resources, clients."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.field import duplicate, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_qualified_name, is_dns1035_label, is_port
from ..meta import check_label_selector

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REVIEW_VERSIONS = ("v1", "v1beta1")
MATCH_CONDITIONS_MAX = 64


def default_rules(rules: Sequence[Object]) -> None:
    for rule in rules:
        rule.setdefault("scope", "*")


def default_match_resources(match: Object) -> None:
    """SetDefaults_MatchResources."""
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for field in ("resourceRules", "excludeResourceRules"):
        default_rules(match.get(field) or ())


def check_rule_with_operations(rule: Object, path: str, errors: Errors) -> None:
    """Operations and what they are about (validateRuleWithOperations)."""
    operations = rule.get("operations") or ()
    if not operations:
        errors.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        errors.append(invalid_value(f"{path}.operations", list(operations), "if '*' is present, must not specify other operations"))
    for i, operation in enumerate(operations):
        if operation not in OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{i}]", operation, OPERATIONS))
    _check_rule(rule, path, errors)


def _check_rule(rule: Object, path: str, errors: Errors) -> None:
    groups, versions, resources = (rule.get(f) or [] for f in ("apiGroups", "apiVersions", "resources"))
    if not groups:
        errors.append(required(f"{path}.apiGroups"))
    if len(groups) > 1 and "*" in groups:
        errors.append(invalid_value(f"{path}.apiGroups", groups, "if '*' is present, must not specify other API groups"))
    if not versions:
        errors.append(required(f"{path}.apiVersions"))
    if len(versions) > 1 and "*" in versions:
        errors.append(invalid_value(f"{path}.apiVersions", versions, "if '*' is present, must not specify other API versions"))
    errors.extend(required(f"{path}.apiVersions[{i}]") for i, version in enumerate(versions) if not version)
    _check_resources(resources, f"{path}.resources", errors)
    scope = rule.get("scope")
    if scope is not None and scope not in SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, SCOPES))


def _check_resources(resources: list[str], path: str, errors: Errors) -> None:
    if not resources:
        errors.append(required(path))
    # */x and x/* already say what x/y says; Kubernetes refuses the surplus
    with_sub = [resource.split("/", 1) for resource in resources if "/" in resource]
    wildcards = {sub for resource, sub in with_sub if resource == "*"}
    whole = {resource for resource, sub in with_sub if sub == "*"}
    for i, resource in enumerate(resources):
        if not resource:
            errors.append(required(f"{path}[{i}]"))
        if resource == "*/*" and len(resources) > 1:
            errors.append(invalid_value(path, resources, "if '*/*' is present, must not specify other resources"))
        name, slash, sub = resource.partition("/")
        if slash and name != "*" and sub in wildcards:
            errors.append(invalid_value(f"{path}[{i}]", resource, f"if '*/{sub}' is present, must not specify {resource}"))
        if slash and sub != "*" and name in whole:
            errors.append(invalid_value(f"{path}[{i}]", resource, f"if '{name}/*' is present, must not specify {resource}"))
    if len(resources) > 1 and "*" in resources and any("/" not in r and r != "*" for r in resources):
        errors.append(invalid_value(path, resources, "if '*' is present, must not specify other resources without subresources"))


def check_match_resources(match: Object, path: str, errors: Errors) -> None:
    """matchConstraints of a policy or matchResources of a binding."""
    for field in ("matchPolicy",):
        if field not in match:
            errors.append(required(f"{path}.{field}"))
        elif match[field] not in MATCH_POLICIES:
            errors.append(not_supported(f"{path}.{field}", match[field], MATCH_POLICIES))
    for field in ("namespaceSelector", "objectSelector"):
        if field not in match:
            errors.append(required(f"{path}.{field}"))
        else:
            check_label_selector(match[field], f"{path}.{field}", errors)
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(field) or ()):
            check_rule_with_operations(rule, f"{path}.{field}[{i}]", errors)


def check_match_conditions(conditions: Sequence[Object], path: str, errors: Errors) -> None:
    if len(conditions) > MATCH_CONDITIONS_MAX:
        errors.append(invalid_value(path, len(conditions), f"must have at most {MATCH_CONDITIONS_MAX} items"))
    names: set[str] = set()
    for i, condition in enumerate(conditions):
        name, expression = condition.get("name", ""), condition.get("expression", "")
        if not expression.strip():
            errors.append(required(f"{path}[{i}].expression"))
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            check_qualified_name(name, f"{path}[{i}].name", errors)
            if name in names:
                errors.append(duplicate(f"{path}[{i}].name", name))
            names.add(name)


def check_client_config(config: Object, path: str, errors: Errors) -> None:
    """A webhook is reached by URL or by Service (webhook.ValidateWebhookURL/Service)."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    if url is not None:
        _check_url(url, f"{path}.url", errors)
    if service is not None:
        _check_service(service, f"{path}.service", errors)


def _check_url(url: str, path: str, errors: Errors) -> None:
    form = "; desired format: https://host[/path]"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme != "https":
        errors.append(invalid_value(path, scheme if separator else "", "'https' is the only allowed URL scheme" + form))
        rest = rest if separator else ""
    host = rest.partition("/")[0].partition("?")[0]
    if not host:
        errors.append(invalid_value(path, host, "host must be specified" + form))
    if "@" in host:
        errors.append(invalid_value(path, host.partition("@")[0], "user information is not permitted in the URL"))
    if "#" in rest:
        errors.append(invalid_value(path, rest.partition("#")[2], "fragments are not permitted in the URL"))
    if "?" in rest:
        errors.append(invalid_value(path, rest.partition("?")[2], "query parameters are not permitted in the URL"))


def _check_service(service: Object, path: str, errors: Errors) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            errors.append(required(f"{path}.{field}", f"{path.rpartition('.')[2]} {field} is required"))
    for complaint in is_port(service.get("port", 443)):
        errors.append(invalid_value(f"{path}.port", service["port"], f"port is not valid: {complaint}"))
    url_path = service.get("path")
    if url_path is None or url_path == "/":
        return
    if not url_path.startswith("/"):
        errors.append(invalid_value(f"{path}.path", url_path, "must start with a '/'"))
    for i, step in enumerate(url_path.strip("/").split("/")):
        if not step:
            errors.append(invalid_value(f"{path}.path", url_path, f"segment[{i}] may not be empty"))


def check_review_versions(versions: Sequence[str], path: str, errors: Errors) -> None:
    known = ", ".join(REVIEW_VERSIONS)
    if not versions:
        errors.append(required(path, f"must specify one of {known}"))
        return
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.append(invalid_value(f"{path}[{i}]", version, "duplicate version"))
            continue
        for complaint in is_dns1035_label(version):
            errors.append(invalid_value(f"{path}[{i}]", version, complaint))
            break
    if not any(version in REVIEW_VERSIONS for version in versions):
        errors.append(invalid_value(path, list(versions), f"must include at least one of {known}"))
