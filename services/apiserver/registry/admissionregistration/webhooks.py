"""Mutating and validating webhook configurations. Imitates pkg/apis/admissionregistration validation and v1 defaults."""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_fully_qualified_name
from ..meta import check_label_selector
from ..strategy import Strategy
from .expressions import check_conditions
from .rules import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    check_client_config,
    check_match_conditions,
    check_review_versions,
    check_rule_with_operations,
    default_rules,
)

SIDE_EFFECTS = ("None", "NoneOnDryRun")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
TIMEOUT_SECONDS = 10
TIMEOUT_SECONDS_MAX = 30


class ValidatingWebhookStrategy(Strategy):
    """A ValidatingWebhookConfiguration."""

    allow_unconditional_update = False
    mutating = False

    def default(self, obj: Object) -> None:
        for webhook in obj.get("webhooks") or ():
            webhook.setdefault("failurePolicy", "Fail")
            webhook.setdefault("matchPolicy", "Equivalent")
            webhook.setdefault("namespaceSelector", {})
            webhook.setdefault("objectSelector", {})
            webhook.setdefault("timeoutSeconds", TIMEOUT_SECONDS)
            if self.mutating:
                webhook.setdefault("reinvocationPolicy", "Never")
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", 443)
            default_rules(webhook.get("rules") or ())

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        changed = obj.get("webhooks") != old.get("webhooks")
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + changed

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        names: set[str] = set()
        for i, webhook in enumerate(obj.get("webhooks") or ()):
            path, name = f"webhooks[{i}]", webhook.get("name", "")
            _check_webhook(webhook, path, errors)
            if self.mutating:
                policy = webhook.get("reinvocationPolicy")
                if policy is not None and policy not in REINVOCATION_POLICIES:
                    errors.append(not_supported(f"{path}.reinvocationPolicy", policy, REINVOCATION_POLICIES))
            check_review_versions(webhook.get("admissionReviewVersions") or (), f"{path}.admissionReviewVersions", errors)
            if name:
                if name in names:
                    errors.append(duplicate(f"{path}.name", name))
                names.add(name)
        return errors


class MutatingWebhookStrategy(ValidatingWebhookStrategy):
    """A MutatingWebhookConfiguration."""

    mutating = True


def _check_webhook(webhook: Object, path: str, errors: Errors) -> None:
    check_fully_qualified_name(webhook.get("name", ""), f"{path}.name", errors)
    for i, rule in enumerate(webhook.get("rules") or ()):
        check_rule_with_operations(rule, f"{path}.rules[{i}]", errors)
    for field, allowed in (("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)):
        value = webhook.get(field)
        if value is not None and value not in allowed:
            errors.append(not_supported(f"{path}.{field}", value, allowed))
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif effects not in SIDE_EFFECTS:
        errors.append(not_supported(f"{path}.sideEffects", effects, SIDE_EFFECTS))
    timeout = webhook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= TIMEOUT_SECONDS_MAX:
        detail = f"the timeout value must be between 1 and {TIMEOUT_SECONDS_MAX} seconds"
        errors.append(invalid_value(f"{path}.timeoutSeconds", timeout, detail))
    check_label_selector(webhook.get("namespaceSelector"), f"{path}.namespaceSelector", errors)
    check_label_selector(webhook.get("objectSelector"), f"{path}.objectSelector", errors)
    check_client_config(webhook.get("clientConfig") or {}, f"{path}.clientConfig", errors)
    if webhook.get("matchConditions"):
        check_match_conditions(webhook["matchConditions"], f"{path}.matchConditions", errors)
        check_conditions(webhook["matchConditions"], f"{path}.matchConditions", errors)


