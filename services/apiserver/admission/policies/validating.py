"""ValidatingAdmissionPolicy: expressions that must hold for a write, refused, warned about or audited as bindings say.

Imitates apiserver/pkg/admission/plugin/policy/validating/{dispatcher,validator}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.resources import Object

from ...rest.unconverted import Unconverted
from ..chain import Attributes, Plugin
from ..expressions import BOOL, STRING, STRING_OR_NULL, Environment, EvaluationError, Program, Scope
from ..matching import Criteria, read_criteria
from ..metrics import AdmissionMetrics
from ..refusal import refuse
from .evaluation import Evaluator, Shared, Views, read_shared
from .index import Binding, Match, PolicyIndex
from .params import NotConfigured

if TYPE_CHECKING:
    from ..plugins import Parts

MESSAGE_BYTES_MAX = 5 * 1024
"""celconfig.MaxEvaluatedMessageExpressionSizeBytes."""
ANNOTATION_BYTES_MAX = 10 * 1024
FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
NO_ERROR, EVALUATION_ERROR = "no_error", "invalid_error"


@dataclass(frozen=True, slots=True)
class Validation:
    """One expression with what is said when it does not hold."""

    program: Program
    message: str
    message_program: Program | None
    reason: str


@dataclass(frozen=True)
class ValidatingPolicy:
    """A policy, read once; its expressions are compiled when first needed."""

    name: str
    criteria: Criteria
    ignores_failure: bool
    shared: Shared
    validations: tuple[Validation, ...]
    annotations: tuple[tuple[str, Program], ...]


def read_policy(obj: Object) -> ValidatingPolicy:
    spec = obj["spec"]
    shared = read_shared(spec)
    environment = shared.environment
    return ValidatingPolicy(
        obj["metadata"]["name"], read_criteria(spec.get("matchConstraints") or {}, "resourceRules"),
        spec.get("failurePolicy") == "Ignore", shared,
        tuple(_validation(each, environment) for each in spec.get("validations") or ()),
        tuple(
            (each["key"], Program(each.get("valueExpression", ""), environment, STRING_OR_NULL))
            for each in spec.get("auditAnnotations") or ()
        ),
    )  # fmt: skip


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


@dataclass
class Findings:
    """What a policy comes to: (binding, denial) of those who deny, and audit annotations."""

    denied: list[tuple[Binding | None, Denial]] = field(default_factory=list)
    annotations: dict[str, list[str]] = field(default_factory=dict)

    def annotate(self, key: str, value: str) -> None:
        values = self.annotations.setdefault(key, [])
        if value not in values:
            values.append(value)


class ValidatingAdmissionPolicyPlugin(Plugin):
    name = "ValidatingAdmissionPolicy"

    def __init__(self, index: PolicyIndex[ValidatingPolicy], evaluator: Evaluator, metrics: AdmissionMetrics) -> None:
        self._index = index
        self._evaluator = evaluator
        self._metrics = metrics

    def handles(self, resource: Any, subresource: str) -> bool:
        return self._index.may_concern(resource, subresource)

    def follow(self, interest_changed: Callable[[], None]) -> None:
        self._index.changed = interest_changed

    def start(self) -> None:
        self._index.start()

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises the error of the first denial. Waits only for webhooks that must convert the object."""
        views = Views(self._index.surroundings, attributes)
        matches = tuple(self._index.find(attributes))
        try:
            for match in matches:
                views.of(match.row)
        except Unconverted:
            return self._index.surroundings.converting(attributes, lambda: self._validate(attributes, matches, views))
        self._validate(attributes, matches, views)
        return None

    def _validate(self, attributes: Attributes, matches: Sequence[Match[ValidatingPolicy]], views: Views) -> None:
        first: tuple[ValidatingPolicy, Binding | None, Denial] | None = None
        for match in matches:
            views.of(match.row)
        for match in matches:
            findings = self._judge(match, attributes, views)
            if findings.denied and first is None:
                binding, denial = findings.denied[0]
                first = match.policy, binding, denial
            for key, values in findings.annotations.items():
                attributes.annotate(f"{match.policy.name}/{key}", ", ".join(values))
        if first is not None:
            raise refusal(attributes, *first)

    def _judge(self, match: Match[ValidatingPolicy], attributes: Attributes, views: Views) -> Findings:
        policy, findings = match.policy, Findings()
        surroundings = self._index.surroundings
        try:
            if not surroundings.selects(policy.criteria, attributes):
                return findings
            store = self._evaluator.param_store(policy.shared)
        except (NotConfigured, NotFound) as error:
            self._misconfigured(policy, None, f"failed to configure policy: {error}", findings)
            return findings
        for binding in match.bindings:
            try:
                if not self._index.binds(binding, attributes):
                    continue
                scopes = self._evaluator.scopes(policy.shared, store, binding, views.of(match.row))
            except (NotConfigured, NotFound) as error:
                self._misconfigured(policy, binding, f"failed to configure binding: {error}", findings)
                continue
            for scope in scopes:
                self._check(policy, binding, scope, attributes, findings)
        return findings

    @staticmethod
    def _misconfigured(policy: ValidatingPolicy, binding: Binding | None, message: str, findings: Findings) -> None:
        if not policy.ignores_failure:
            findings.denied.append((binding, Denial(message)))

    def _check(self, policy: ValidatingPolicy, binding: Binding, scope: Scope, attributes: Attributes, findings: Findings) -> None:
        """Evaluate everything of a policy with one parameter, and do with the outcome what the binding says."""
        clock = self._index.surroundings.state.clock
        started = clock.monotonic()
        denials = list(self._denials(policy, scope))
        for key, value in scope.annotations:
            findings.annotate(key, value)
        seconds = clock.monotonic() - started
        for denial in denials:
            self._enforce(policy, binding, denial, attributes, findings, seconds)

    def _denials(self, policy: ValidatingPolicy, scope: Scope) -> Iterable[Denial]:
        """Of the conditions, validations and audit annotations; what the annotations come to is left in the scope."""
        try:
            if not self._evaluator.conditions_met(policy.shared, scope):
                return
        except EvaluationError as error:
            yield Denial(str(error), is_error=True)
            return
        for index, validation in enumerate(policy.validations):
            try:
                holds = validation.program.evaluate(scope)
            except EvaluationError as error:
                yield Denial(str(error), index=index, is_error=True)
                continue
            if holds is not True:
                yield Denial(_message(validation, scope), validation.reason, index)
        for key, program in policy.annotations:
            try:
                value = program.evaluate(scope)
            except EvaluationError as error:
                yield Denial(str(error), index=-1, is_error=True)
                continue
            if isinstance(value, str) and value.strip():
                scope.annotations.append((key, value.strip()[:ANNOTATION_BYTES_MAX]))

    def _enforce(
        self, policy: ValidatingPolicy, binding: Binding, denial: Denial, attributes: Attributes, findings: Findings, seconds: float
    ) -> None:
        kind = EVALUATION_ERROR if denial.is_error else NO_ERROR
        if denial.is_error and policy.ignores_failure:
            return self._observe(policy, binding, "allow", kind, seconds)
        if denial.index < 0:
            findings.denied.append((binding, denial))
            return self._observe(policy, binding, "deny", kind, seconds)
        for action in binding.actions:
            if action == "Deny":
                findings.denied.append((binding, denial))
            elif action == "Warn":
                attributes.warn(f"Validation failed for {self.name} '{policy.name}' with binding '{binding.name}': {denial.message}")
            else:
                attributes.annotate(FAILURE_KEY, failure_value(policy.name, binding, denial))
            self._observe(policy, binding, action.lower(), kind, seconds)
        return None

    def _observe(self, policy: ValidatingPolicy, binding: Binding, action: str, error: str, seconds: float) -> None:
        self._metrics.checks.labels(error, action, policy.name, binding.name).inc()
        self._metrics.check_seconds.labels(error, action, policy.name, binding.name).observe(seconds)


def _message(validation: Validation, scope: Scope) -> str:
    """The evaluated message, else the fixed one, else the expression itself."""
    if validation.message_program is not None:
        try:
            message = validation.message_program.evaluate(scope)
        except EvaluationError:
            message = None
        if isinstance(message, str):
            message = message.strip()
            if message and "\n" not in message and len(message.encode()) <= MESSAGE_BYTES_MAX:
                return message
    return validation.message.strip() or f"failed expression: {validation.program.source.strip()}"


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


def build(parts: Parts) -> Plugin:
    index = PolicyIndex(
        parts.policies("validatingadmissionpolicies"), parts.policies("validatingadmissionpolicybindings"), parts.surroundings, read_policy
    )
    return ValidatingAdmissionPolicyPlugin(index, Evaluator(parts.surroundings), parts.metrics)
