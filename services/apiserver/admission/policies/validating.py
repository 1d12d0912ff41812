"""ValidatingAdmissionPolicy: expressions that must hold for a write, refused, warned about or audited as bindings say.

Imitates apiserver/pkg/admission/plugin/policy/validating/{dispatcher,validator}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..chain import Attributes
from ..expressions import (
    BOOL,
    POLICY_COST_MAX,
    STRING,
    STRING_OR_NULL,
    Environment,
    EvaluationError,
    OutOfBudget,
    Program,
    Scope,
    evaluated,
)
from ..metrics import NO_ERROR, error_type
from ..refusal import refuse
from ..views import Views
from ..waiting import Waits, begin
from .index import Binding
from .plugin import Invocation, Misconfigured, Policy, PolicyPlugin, read_fields

if TYPE_CHECKING:
    from ..plugins import Parts

MESSAGE_BYTES_MAX = 5 * 1024
"""celconfig.MaxEvaluatedMessageExpressionSizeBytes."""
ANNOTATION_BYTES_MAX = 10 * 1024
FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}


@dataclass(frozen=True, slots=True)
class Validation:
    """One expression with what is said when it does not hold."""

    program: Program
    message: str
    message_program: Program | None
    reason: str


@dataclass(frozen=True)
class ValidatingPolicy(Policy):
    """Its annotations are (key, what makes the value)."""

    validations: tuple[Validation, ...]
    annotations: tuple[tuple[str, Program], ...]


def read_policy(obj: Object) -> ValidatingPolicy:
    spec, fields = obj["spec"], read_fields(obj)
    environment = fields[3]
    annotations = (
        (each["key"], Program(each.get("valueExpression", ""), environment, STRING_OR_NULL)) for each in spec.get("auditAnnotations") or ()
    )
    validations = (_validation(each, environment) for each in spec.get("validations") or ())
    return ValidatingPolicy(*fields, tuple(validations), tuple(annotations))


def _validation(validation: Object, environment: Environment) -> Validation:
    message = validation.get("messageExpression")
    return Validation(
        Program(validation.get("expression", ""), environment, BOOL), validation.get("message", ""),
        Program(message, environment.for_messages(), STRING) if message else None, validation.get("reason") or "Invalid",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Denial:
    """An expression that did not hold, or could not be evaluated."""

    message: str
    reason: str = ""
    index: int = 0
    """Which validation; negative: an audit annotation, which is denied whatever the binding's actions."""
    is_error: bool = False
    seconds: float = 0.0
    """What the evaluation took."""


@dataclass
class Findings:
    """What the policies come to: who denies, and audit annotations by their keys."""

    denied: list[tuple[ValidatingPolicy, Binding | None, Denial]] = field(default_factory=list)
    annotations: dict[str, list[str]] = field(default_factory=dict)

    def annotate(self, key: str, value: str) -> None:
        values = self.annotations.setdefault(key, [])
        if value not in values:
            values.append(value)


class ValidatingAdmissionPolicyPlugin(PolicyPlugin[ValidatingPolicy]):
    name = "ValidatingAdmissionPolicy"
    policies, bindings = "validatingadmissionpolicies", "validatingadmissionpolicybindings"

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises the error of the first denial. Waits only where webhooks convert or authorize."""
        return begin(self._validate(attributes))

    def _validate(self, attributes: Attributes) -> Waits[None]:
        findings, views = Findings(), Views(self._surroundings, attributes)
        for one in (yield from self._planned(attributes)):
            if isinstance(one, Misconfigured):
                if not one.policy.ignores_failure:
                    findings.denied.append((one.policy, one.binding, Denial(one.why)))
                continue
            for param in one.params:
                yield from self._check(one, param, views, attributes, findings)
        for key, values in findings.annotations.items():
            attributes.annotate(key, ", ".join(values))
        if findings.denied:
            raise refusal(attributes, *findings.denied[0])

    def _check(
        self, invocation: Invocation[ValidatingPolicy], param: Object | None, views: Views, attributes: Attributes, findings: Findings
    ) -> Waits[None]:
        """Evaluate everything of a policy with one parameter, and do with the outcome what the binding says."""
        policy = invocation.policy
        view = yield from views.of(invocation.row)
        annotations: list[tuple[str, str]] = []
        try:
            if not (yield from self._applies(policy, view, param)):
                return
            scope = self._scope(policy, view, param)
            denials = yield from self._judge(policy, scope)
            denials += yield from self._annotations(policy, replace(scope, budget=POLICY_COST_MAX), annotations)
        except EvaluationError as error:  # a condition, or nothing is left to spend: nothing else counts
            denials, annotations = [Denial(str(error), is_error=True)], []
        for key, value in annotations:
            findings.annotate(f"{policy.name}/{key}", value)
        for denial in denials:
            self._enforce(policy, invocation.binding, denial, attributes, findings)

    def _judge(self, policy: ValidatingPolicy, scope: Scope) -> Waits[list[Denial]]:
        """Of the validations. Raises OutOfBudget."""
        failed: list[Denial] = []
        for index, validation in enumerate(policy.validations):
            started = self._clock.monotonic()
            try:
                holds = yield from evaluated(validation.program, scope)
            except OutOfBudget:
                raise
            except EvaluationError as error:
                failed.append(Denial(str(error), "", index, True, self._clock.monotonic() - started))
                continue
            if holds is not True:
                failed.append(Denial("", validation.reason, index, False, self._clock.monotonic() - started))
        for place, denial in enumerate(failed):
            if not denial.is_error:
                failed[place] = yield from _with_message(denial, policy.validations[denial.index], scope)
        return failed

    def _annotations(self, policy: ValidatingPolicy, scope: Scope, into: list[tuple[str, str]]) -> Waits[list[Denial]]:
        """Of the audit annotations; what they come to is put `into` a list. Raises OutOfBudget."""
        failed: list[Denial] = []
        for key, program in policy.annotations:
            started = self._clock.monotonic()
            try:
                value = yield from evaluated(program, scope)
            except OutOfBudget:
                raise
            except EvaluationError as error:
                failed.append(Denial(str(error), "", -1, True, self._clock.monotonic() - started))
                continue
            if isinstance(value, str) and value.strip():
                into.append((key, value.strip()[:ANNOTATION_BYTES_MAX]))
        return failed

    def _enforce(self, policy: ValidatingPolicy, binding: Binding, denial: Denial, attributes: Attributes, findings: Findings) -> None:
        """Deny, warn or audit, as the binding says."""
        if denial.is_error and policy.ignores_failure:
            return self._observe(policy, binding, "allow", denial)
        if denial.index < 0:
            findings.denied.append((policy, binding, denial))
            return self._observe(policy, binding, "deny", denial)
        for action in binding.actions:
            if action == "Deny":
                findings.denied.append((policy, binding, denial))
            elif action == "Warn":
                attributes.warn(f"Validation failed for {self.name} '{policy.name}' with binding '{binding.name}': {denial.message}")
            else:
                attributes.annotate(FAILURE_KEY, failure_value(policy.name, binding, denial))
            self._observe(policy, binding, action.lower(), denial)
        return None

    def _observe(self, policy: ValidatingPolicy, binding: Binding, action: str, denial: Denial) -> None:
        labels = error_type(denial.message) if denial.is_error else NO_ERROR, action, policy.name, binding.name
        self._metrics.checks.labels(*labels).inc()
        self._metrics.check_seconds.labels(*labels).observe(denial.seconds)


def _with_message(denial: Denial, validation: Validation, scope: Scope) -> Waits[Denial]:
    """With the evaluated message, else the fixed one, else the expression itself."""
    message: object = ""
    if validation.message_program is not None:
        try:
            message = yield from evaluated(validation.message_program, scope)
        except OutOfBudget as error:
            return replace(denial, message=f"failed messageExpression: {error}", reason="", is_error=True)
        except EvaluationError:
            message = ""
    text = message.strip() if isinstance(message, str) else ""
    if "\n" in text or len(text.encode()) > MESSAGE_BYTES_MAX:
        text = ""
    return replace(denial, message=text or validation.message.strip() or f"failed expression: {validation.program.source.strip()}")


def failure_value(policy: str, binding: Binding, denial: Denial) -> str:
    """The audit annotation of a failed validation."""
    value = {
        "message": denial.message, "policy": policy, "binding": binding.name, "expressionIndex": denial.index,
        "validationActions": list(binding.actions),
    }  # fmt: skip
    return orjson.dumps([value]).decode()


def refusal(attributes: Attributes, policy: ValidatingPolicy, binding: Binding | None, denial: Denial) -> ApiError:
    by = f"ValidatingAdmissionPolicy '{policy.name}'" + (f" with binding '{binding.name}'" if binding else "")
    message = f"{by} denied request: {denial.message}"
    base, reason = refuse(attributes, message), denial.reason or "Invalid"
    details = {**(base.details or {}), "causes": [{"message": message}]}
    return ApiError(base.message, reason=reason, code=CODES.get(reason, 422), details=details)


def build(parts: Parts) -> ValidatingAdmissionPolicyPlugin:
    return ValidatingAdmissionPolicyPlugin(parts, read_policy)
