"""Validation of a JobSpec, as Jobs and CronJobs have it. Imitates validateJobSpec."""

from __future__ import annotations

from kubecosm.api.field import duplicate, invalid_value, not_supported, required, too_long, too_many
from kubecosm.api.resources import Object

from ..core.pod_spec import check_pod_template
from ..formats import Errors, check_domain_prefixed_path, check_non_negative, check_qualified_name
from .intervals import IntervalError, count_indexes

PARALLELISM_MAX = 100_000
FAILED_INDEXES_MAX = 100_000
FAILED_INDEXES_WITH_MANY_COMPLETIONS_MAX = 10_000
MANY_COMPLETIONS = 100_000
PARALLELISM_WITH_MANY_COMPLETIONS_MAX = 10_000
POLICY_RULES_MAX = 20
EXIT_CODES_MAX = 255
POD_CONDITIONS_MAX = 20
SUCCESS_RULES_MAX = 20
SUCCEEDED_INDEXES_BYTES_MAX = 64 * 1024
MANAGED_BY_MAX = 63
COMPLETION_MODES = ("NonIndexed", "Indexed")
_NUMBERS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex")
_NOT_INDEXED = "requires indexed completion mode"
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


def size_warnings(spec: Object, path: str) -> list[str]:
    """A warning of a Job that is too large to be sure of all its indexes."""
    if (spec.get("completions") or 0) <= MANY_COMPLETIONS or (spec.get("parallelism") or 0) <= PARALLELISM_WITH_MANY_COMPLETIONS_MAX:
        return []
    return [
        f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
        "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
    ]


def check_job_spec(spec: Object, path: str, errors: Errors) -> None:
    """Everything but the selector."""
    for field in _NUMBERS:
        if field in spec:
            check_non_negative(spec[field], f"{path}.{field}", errors)
    if "maxFailedIndexes" in spec:
        check_non_negative(spec["maxFailedIndexes"], f"{path}.maxFailedIndexes", errors)
        if "backoffLimitPerIndex" not in spec:
            errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if "managedBy" in spec:
        check_domain_prefixed_path(spec["managedBy"], f"{path}.managedBy", errors)
        if len(spec["managedBy"]) > MANAGED_BY_MAX:
            errors.append(too_long(f"{path}.managedBy", MANAGED_BY_MAX))
    _check_completion_mode(spec, path, errors)
    if "podFailurePolicy" in spec:
        _check_failure_policy(spec, f"{path}.podFailurePolicy", errors)
    if "successPolicy" in spec:
        _check_success_policy(spec, f"{path}.successPolicy", errors)
    _check_replacement_policy(spec, f"{path}.podReplacementPolicy", errors)
    template = spec.get("template") or {}
    check_pod_template(template, f"{path}.template", errors)
    policy, where = (template.get("spec") or {}).get("restartPolicy", ""), f"{path}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        errors.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(where, policy, ("OnFailure", "Never")))
    elif "podFailurePolicy" in spec and policy != "Never":
        errors.append(invalid_value(where, policy, 'only "Never" is supported when podFailurePolicy is specified'))


def _check_completion_mode(spec: Object, path: str, errors: Errors) -> None:
    mode = spec.get("completionMode")
    if mode is not None and mode not in COMPLETION_MODES:
        errors.append(not_supported(f"{path}.completionMode", mode, COMPLETION_MODES))
    if mode != "Indexed":
        if mode in (None, "NonIndexed"):
            for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
                if field in spec:
                    errors.append(invalid_value(f"{path}.{field}", spec[field], _NOT_INDEXED))
        return
    completions, parallelism, failed = spec.get("completions"), spec.get("parallelism"), spec.get("maxFailedIndexes")
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism is not None and parallelism > PARALLELISM_MAX:
        detail = f"must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed"
        errors.append(invalid_value(f"{path}.parallelism", parallelism, detail))
    if completions is not None and failed is not None and failed > completions:
        errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > FAILED_INDEXES_MAX:
        errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {FAILED_INDEXES_MAX}"))
    if "backoffLimitPerIndex" in spec and completions is not None and completions > MANY_COMPLETIONS:
        if failed is None:
            detail = f"must be specified when completions is above {MANY_COMPLETIONS}"
            errors.append(required(f"{path}.maxFailedIndexes", detail))
        elif failed > FAILED_INDEXES_WITH_MANY_COMPLETIONS_MAX:
            most = FAILED_INDEXES_WITH_MANY_COMPLETIONS_MAX
            detail = f"must be less than or equal to {most} when completions are above {MANY_COMPLETIONS}"
            errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, detail))


def _check_failure_policy(spec: Object, path: str, errors: Errors) -> None:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > POLICY_RULES_MAX:
        errors.append(too_many(f"{path}.rules", len(rules), POLICY_RULES_MAX))
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    names = {c.get("name") for field in ("containers", "initContainers") for c in pod_spec.get(field) or ()}
    for i, rule in enumerate(rules):
        _check_failure_rule(rule, spec, names, f"{path}.rules[{i}]", errors)


def _check_failure_rule(rule: Object, spec: Object, names: set[str | None], path: str, errors: Errors) -> None:
    action = rule.get("action", "")
    if not action:
        errors.append(required(f"{path}.action", 'valid values: "Count", "FailIndex", "FailJob", "Ignore"'))
    elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
        errors.append(invalid_value(f"{path}.action", action, "requires the backoffLimitPerIndex to be set"))
    elif action not in _ACTIONS:
        errors.append(not_supported(f"{path}.action", action, _ACTIONS))
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
    if codes is not None:
        _check_exit_codes(codes, names, f"{path}.onExitCodes", errors)
    if len(conditions) > POD_CONDITIONS_MAX:
        errors.append(too_many(f"{path}.onPodConditions", len(conditions), POD_CONDITIONS_MAX))
    for i, pattern in enumerate(conditions):
        where = f"{path}.onPodConditions[{i}]"
        check_qualified_name(pattern.get("type", ""), f"{where}.type", errors)
        if pattern.get("status", "") not in ("False", "True", "Unknown"):
            errors.append(not_supported(f"{where}.status", pattern.get("status", ""), ("False", "True", "Unknown")))
    if codes is not None and conditions:
        errors.append(invalid_value(path, None, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if codes is None and not conditions:
        errors.append(invalid_value(path, None, "specifying one of OnExitCodes and OnPodConditions is required"))


def _check_exit_codes(codes: Object, names: set[str | None], path: str, errors: Errors) -> None:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    if operator not in ("In", "NotIn"):
        errors.append(
            required(f"{path}.operator", 'valid values: "In", "NotIn"') if not operator
            else not_supported(f"{path}.operator", operator, ("In", "NotIn"))
        )  # fmt: skip
    name = codes.get("containerName")
    if name is not None and name not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_value(f"{path}.containerName", name, detail))
    if not values:
        errors.append(invalid_value(f"{path}.values", codes.get("values"), "at least one value is required"))
    elif len(values) > EXIT_CODES_MAX:
        errors.append(too_many(f"{path}.values", len(values), EXIT_CODES_MAX))
    ordered = True
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            errors.append(invalid_value(f"{path}.values[{i}]", value, "must not be 0 for the In operator"))
        if value in values[:i]:
            errors.append(duplicate(f"{path}.values[{i}]", value))
        ordered = ordered and (i == 0 or values[i - 1] <= value)
    if not ordered:
        errors.append(invalid_value(f"{path}.values", values, "must be ordered"))


def _check_success_policy(spec: Object, path: str, errors: Errors) -> None:
    policy = spec["successPolicy"]
    if spec.get("completionMode") != "Indexed":
        errors.append(invalid_value(path, policy, _NOT_INDEXED))
        return
    rules = policy.get("rules") or ()
    if not rules:
        errors.append(required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified"))
    if len(rules) > SUCCESS_RULES_MAX:
        errors.append(too_many(f"{path}.rules", len(rules), SUCCESS_RULES_MAX))
    for i, rule in enumerate(rules):
        where, count, indexes = f"{path}.rules[{i}]", rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and indexes is None:
            errors.append(required(where, "at least one of succeededCount or succeededIndexes must be specified"))
        total = _check_succeeded_indexes(indexes, spec.get("completions"), f"{where}.succeededIndexes", errors)
        if count is not None:
            check_non_negative(count, f"{where}.succeededCount", errors)
            completions = spec.get("completions")
            if completions is not None and count > completions:
                detail = f"must be less than or equal to {completions} (the number of specified completions)"
                errors.append(invalid_value(f"{where}.succeededCount", count, detail))
            if total is not None and count > total:
                detail = f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                errors.append(invalid_value(f"{where}.succeededCount", count, detail))


def _check_succeeded_indexes(text: str | None, completions: int | None, path: str, errors: Errors) -> int | None:
    """How many indexes the rule names; None if it names none, or nobody can tell."""
    if text is not None and len(text) > SUCCEEDED_INDEXES_BYTES_MAX:
        errors.append(too_long(path, SUCCEEDED_INDEXES_BYTES_MAX))
    if text is None or completions is None:
        return None
    try:
        return count_indexes(text, completions)
    except IntervalError as error:
        errors.append(invalid_value(path, text, f"error parsing succeededIndexes: {error}"))
        return 0


def _check_replacement_policy(spec: Object, path: str, errors: Errors) -> None:
    policy = spec.get("podReplacementPolicy")
    if policy is None:
        return
    if "podFailurePolicy" in spec:
        if policy != "Failed":
            errors.append(not_supported(path, policy, ("Failed",)))
    elif policy not in ("Failed", "TerminatingOrFailed"):
        errors.append(not_supported(path, policy, ("Failed", "TerminatingOrFailed")))
