"""Admission policies in CEL and their bindings: shape, defaults and validation.

Imitates pkg/apis/admissionregistration validation and v1 defaults.
"""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_subdomain, check_qualified_name, is_c_identifier
from ..meta import check_label_selector
from ..strategy import Strategy
from .expressions import check_conditions, check_mutations, check_validations
from .rules import FAILURE_POLICIES, check_match_conditions, check_match_resources, default_match_resources

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
ACTIONS = ("Audit", "Deny", "Warn")
PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
KEY_MAX = 253


class _PolicyStrategy(Strategy):
    allow_unconditional_update = False

    def prepare_for_create(self, obj: Object) -> None:
        if self.has_status:
            obj["status"] = {}
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        if "status" in old:
            obj["status"] = old["status"]
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + (obj.get("spec") != old.get("spec"))


class ValidatingAdmissionPolicyStrategy(_PolicyStrategy):
    """A ValidatingAdmissionPolicy."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("failurePolicy", "Fail")
        if "matchConstraints" in spec:
            default_match_resources(spec["matchConstraints"])
        obj.setdefault("status", {})

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        _check_common(spec, errors)
        validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
        if not validations and not annotations:
            detail = "validations or auditAnnotations must be non-empty"
            errors += [required("spec.validations", detail), required("spec.auditAnnotations", detail)]
        for i, validation in enumerate(validations):
            _check_validation(validation, f"spec.validations[{i}]", errors)
        keys: set[str] = set()
        for i, annotation in enumerate(annotations):
            path, key = f"spec.auditAnnotations[{i}]", annotation.get("key", "")
            check_qualified_name(f"{obj['metadata'].get('name', '')}/{key}", f"{path}.key", errors)
            if not annotation.get("valueExpression", "").strip():
                errors.append(required(f"{path}.valueExpression"))
            if key in keys:
                errors.append(duplicate(f"{path}.key", key))
            keys.add(key)
        check_validations(spec, errors)
        return errors


def _check_common(spec: Object, errors: Errors) -> None:
    policy = spec.get("failurePolicy")
    if policy is None:
        errors.append(required("spec.failurePolicy"))
    elif policy not in FAILURE_POLICIES:
        errors.append(not_supported("spec.failurePolicy", policy, FAILURE_POLICIES))
    if "paramKind" in spec:
        for field in ("apiVersion", "kind"):
            if not spec["paramKind"].get(field):
                errors.append(required(f"spec.paramKind.{field}"))
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required("spec.matchConstraints"))
    else:
        check_match_resources(match, "spec.matchConstraints", errors)
        if not match.get("resourceRules"):
            errors.append(required("spec.matchConstraints.resourceRules"))
    if spec.get("matchConditions"):
        check_match_conditions(spec["matchConditions"], "spec.matchConditions", errors)
        check_conditions(spec["matchConditions"], "spec.matchConditions", errors, has_params="paramKind" in spec)
    names: set[str] = set()
    for i, variable in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{i}]", variable.get("name", "")
        if not name.strip():
            errors.append(required(f"{path}.name"))
        else:
            for complaint in is_c_identifier(name):
                errors.append(invalid_value(f"{path}.name", name, f"name is not a valid CEL identifier: {complaint}"))
        if not variable.get("expression", "").strip():
            errors.append(required(f"{path}.expression", "expression is not specified"))
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)


def _check_validation(validation: Object, path: str, errors: Errors) -> None:
    if not validation.get("expression", "").strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    message = validation.get("message", "")
    if message and not message.strip():
        errors.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid_value(f"{path}.message", message, "message must not contain line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in REASONS:
        errors.append(not_supported(f"{path}.reason", reason, REASONS))


class BindingStrategy(_PolicyStrategy):
    """What the bindings of both kinds of policies share; a MutatingAdmissionPolicyBinding has nothing else."""

    def default(self, obj: Object) -> None:
        match = obj.setdefault("spec", {}).get("matchResources")
        if match is not None:
            default_match_resources(match)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_binding(obj["spec"], errors)
        return errors


class ValidatingAdmissionPolicyBindingStrategy(BindingStrategy):
    """A ValidatingAdmissionPolicyBinding."""

    def validate(self, obj: Object) -> list[FieldError]:
        errors, actions = super().validate(obj), obj["spec"].get("validationActions") or []
        for i, action in enumerate(actions):
            if action not in ACTIONS:
                errors.append(not_supported(f"spec.validationActions[{i}]", action, ACTIONS))
            if action in actions[:i]:
                errors.append(duplicate(f"spec.validationActions[{i}]", action))
        if "Deny" in actions and "Warn" in actions:
            detail = (
                "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers "
                "serves no purpose)"
            )
            errors.append(invalid_value("spec.validationActions", actions, detail))
        if not actions:
            errors.append(required("spec.validationActions", "at least one validation action is required"))
        return errors


def _check_binding(spec: Object, errors: Errors) -> None:
    name = spec.get("policyName")
    if not name:
        errors.append(required("spec.policyName"))
    else:
        check_dns1123_subdomain(name, "spec.policyName", errors)
    if "paramRef" in spec:
        _check_param_ref(spec["paramRef"], "spec.paramRef", errors)
    if "matchResources" in spec:
        check_match_resources(spec["matchResources"], "spec.matchResources", errors)


def _check_param_ref(reference: Object, path: str, errors: Errors) -> None:
    name, selector, action = reference.get("name"), reference.get("selector"), reference.get("parameterNotFoundAction")
    if name:
        check_dns1123_subdomain(name, f"{path}.name", errors)
        if selector is not None:
            errors.append(forbidden_field(f"{path}.name", "name and selector are mutually exclusive"))
    if selector is not None:
        check_label_selector(selector, f"{path}.selector", errors)
        if name:
            errors.append(forbidden_field(f"{path}.selector", "name and selector are mutually exclusive"))
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    if action is None:
        errors.append(required(f"{path}.parameterNotFoundAction"))
    elif action not in ("Allow", "Deny"):
        errors.append(not_supported(f"{path}.parameterNotFoundAction", action, ("Allow", "Deny")))


class MutatingAdmissionPolicyStrategy(_PolicyStrategy):
    """A MutatingAdmissionPolicy."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("failurePolicy", "Fail")
        if "matchConstraints" in spec:
            default_match_resources(spec["matchConstraints"])

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        _check_common(spec, errors)
        mutations = spec.get("mutations") or ()
        if not mutations:
            errors.append(required("spec.mutations", "mutations must contain at least one item"))
        for i, mutation in enumerate(mutations):
            path, kind = f"spec.mutations[{i}]", mutation.get("patchType", "")
            if not kind:
                errors.append(required(f"{path}.patchType"))
            elif kind not in PATCH_TYPES:
                errors.append(not_supported(f"{path}.patchType", kind, PATCH_TYPES))
            else:
                field = "jsonPatch" if kind == "JSONPatch" else "applyConfiguration"
                if not (mutation.get(field) or {}).get("expression", "").strip():
                    errors.append(required(f"{path}.{field}.expression"))
        policy = spec.get("reinvocationPolicy", "")
        if policy not in REINVOCATION_POLICIES:
            path = "spec.reinvocationPolicy"
            errors.append(not_supported(path, policy, REINVOCATION_POLICIES) if policy else required(path))
        check_mutations(spec, errors)
        return errors
