"""Validation of the expressions in webhook configurations and policies: they must compile, and come to what is expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubecosm.api.field import invalid_value
from kubecosm.api.resources import Object

from ..formats import Errors

if TYPE_CHECKING:
    from ...admission.expressions import Environment


def check_expression(source: str, path: str, environment: Environment, results: tuple[str, ...], errors: Errors) -> None:
    """Complain about an expression that cannot be used; empty ones are complained about elsewhere."""
    from ...admission.expressions import Program  # imported here: few servers ever see an expression

    if source.strip() and (problem := Program(source, environment, results).problem):
        errors.append(invalid_value(path, source, problem))


def check_conditions(conditions: Sequence[Object], path: str, errors: Errors, *, has_params: bool = False) -> None:
    """matchConditions of a webhook or policy."""
    from ...admission.expressions import BOOL, Environment

    for i, condition in enumerate(conditions):
        check_expression(condition.get("expression", ""), f"{path}[{i}].expression", Environment(has_params), BOOL, errors)


def environment_of(spec: Object, errors: Errors) -> Environment:
    """What the expressions of a policy may name; complains about variables that cannot be computed."""
    from ...admission.expressions import ANY, Environment

    known: dict[str, str] = {}
    for i, variable in enumerate(spec.get("variables") or ()):
        environment = Environment("paramKind" in spec, variables=dict(known))
        check_expression(variable.get("expression", ""), f"spec.variables[{i}].expression", environment, ANY, errors)
        known[variable.get("name", "")] = variable.get("expression", "")
    return Environment("paramKind" in spec, variables=known)


def check_validations(spec: Object, errors: Errors) -> None:
    """Of a ValidatingAdmissionPolicy."""
    from ...admission.expressions import BOOL, STRING, STRING_OR_NULL

    environment = environment_of(spec, errors)
    for i, validation in enumerate(spec.get("validations") or ()):
        check_expression(validation.get("expression", ""), f"spec.validations[{i}].expression", environment, BOOL, errors)
        message = validation.get("messageExpression", "")
        check_expression(message, f"spec.validations[{i}].messageExpression", environment.for_messages(), STRING, errors)
    for i, annotation in enumerate(spec.get("auditAnnotations") or ()):
        value = annotation.get("valueExpression", "")
        check_expression(value, f"spec.auditAnnotations[{i}].valueExpression", environment, STRING_OR_NULL, errors)


def check_mutations(spec: Object, errors: Errors) -> None:
    """Of a MutatingAdmissionPolicy."""
    from ...admission.expressions import JSON_PATCH, OBJECT

    environment = environment_of(spec, errors).for_mutations()
    for i, mutation in enumerate(spec.get("mutations") or ()):
        for name, results in (("jsonPatch", JSON_PATCH), ("applyConfiguration", OBJECT)):
            source = (mutation.get(name) or {}).get("expression", "")
            check_expression(source, f"spec.mutations[{i}].{name}.expression", environment, results, errors)
