"""What the kinds of resource.k8s.io have in common: names, bounded lists without repeats, selectors, configurations, taints.

Imitates pkg/apis/resource/validation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, not_supported, required, too_long, too_many
from kubecosm.api.resources import Object
from kubecosm.api.validation import regex_error

from ..core.volume_sources import check_csi_driver_name
from ..formats import Errors, check, check_dns1123_label, check_dns1123_subdomain, is_label_value
from ..meta import check_label_name

SELECTORS_MAX = CONFIGURATIONS_MAX = REQUESTS_MAX = CONSTRAINTS_MAX = 32
EXPRESSION_LENGTH_MAX = PARAMETERS_LENGTH_MAX = 10 * 1024
POOL_NAME_LENGTH_MAX = 253
ID_LENGTH_MAX = 32
TAINT_EFFECTS = ("NoExecute", "NoSchedule", "None")
TOLERATION_OPERATORS = ("Equal", "Exists")
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_C_IDENTIFIER_RE = re.compile(_C_IDENTIFIER)

Item = Callable[[Any, str, Errors], None]
"""Checks one entry: (entry, path, errors)."""

check_driver_name = check_csi_driver_name


def check_list(items: Sequence[Any], most: int, path: str, errors: Errors, item: Item) -> None:
    """Every entry, then how many there are (validateSlice); `most` below zero means any number."""
    for i, entry in enumerate(items):
        item(entry, f"{path}[{i}]", errors)
    if 0 <= most < len(items):
        errors.append(too_many(path, len(items), most))


def check_set(items: Sequence[Any], most: int, path: str, errors: Errors, item: Item, key: str = "") -> None:
    """A list without repeats (validateSet): of whole entries, or of their field `key`."""
    check_list(items, most, path, errors, item)
    seen: set[str] = set()
    for i, entry in enumerate(items):
        value = entry.get(key, "") if key else entry
        if value in seen:
            errors.append(duplicate(f"{path}[{i}].{key}" if key else f"{path}[{i}]", value))
        seen.add(value)


def check_pool_name(name: str, path: str, errors: Errors) -> None:
    """Subdomains joined by slashes."""
    if not name:
        errors.append(required(path))
        return
    if len(name) > POOL_NAME_LENGTH_MAX:
        errors.append(too_long(path, POOL_NAME_LENGTH_MAX))
    for part in name.split("/"):
        check_dns1123_subdomain(part, path, errors)


def check_qualified_name(name: str, path: str, errors: Errors) -> None:
    """An identifier, maybe with a domain before it."""
    if not name:
        errors.append(required(path, "name required"))
        return
    parts = name.split("/")
    if len(parts) == 1:
        _check_identifier(name, path, errors)
    elif len(parts) == 2:
        if parts[0]:
            check_driver_name(parts[0], path, errors)
        else:
            errors.append(required(path, "the domain must not be empty"))
        if parts[1]:
            _check_identifier(parts[1], path, errors)
        else:
            errors.append(required(path, "the name must not be empty"))


def check_attribute_name(name: str, path: str, errors: Errors) -> None:
    """A qualified name that has a domain."""
    check_qualified_name(name, path, errors)
    if name and "/" not in name:
        errors.append(invalid_value(path, name, "must include a domain"))


def _check_identifier(name: str, path: str, errors: Errors) -> None:
    if len(name) > ID_LENGTH_MAX:
        errors.append(too_long(path, ID_LENGTH_MAX))
    if not _C_IDENTIFIER_RE.fullmatch(name):
        what = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
        errors.append(invalid_value(path, name, regex_error(what, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")))


def check_selectors(selectors: Sequence[Object], path: str, errors: Errors) -> None:
    check_list(selectors, SELECTORS_MAX, path, errors, _check_selector)


def _check_selector(selector: Object, path: str, errors: Errors) -> None:
    cel = selector.get("cel")
    if cel is None:
        errors.append(required(f"{path}.cel"))
        return
    expression, where = cel.get("expression", ""), f"{path}.cel.expression"
    if len(expression) > EXPRESSION_LENGTH_MAX:
        errors.append(too_long(where, EXPRESSION_LENGTH_MAX))
        return
    from kubecosm.cel import devices  # imported here: only who has selectors pays for CEL

    if problem := devices.problem_of(expression):
        errors.append(invalid_value(where, expression, problem))
    elif devices.most_cost(expression) > devices.COST_MAX:
        errors.append(forbidden_field(where, "too complex, exceeds cost limit"))


def check_configuration(configuration: Object, path: str, errors: Errors) -> None:
    """`opaque` parameters for a driver."""
    opaque = configuration.get("opaque")
    if opaque is None:
        errors.append(required(f"{path}.opaque"))
        return
    check_driver_name(opaque.get("driver", ""), f"{path}.opaque.driver", errors)
    where, parameters = f"{path}.opaque.parameters", opaque.get("parameters")
    if parameters is None:
        errors.append(required(where))
    elif len(json.dumps(parameters, separators=(",", ":"))) > PARAMETERS_LENGTH_MAX:
        errors.append(too_long(where, PARAMETERS_LENGTH_MAX))
    elif not isinstance(parameters, dict):
        errors.append(invalid_value(where, "<value omitted>", "must be a valid JSON object"))


def check_taint(taint: Object, path: str, errors: Errors) -> None:
    check_label_name(taint.get("key", ""), f"{path}.key", errors)
    value, effect = taint.get("value", ""), taint.get("effect", "")
    check(is_label_value(value), value, f"{path}.value", errors)
    if not effect:
        errors.append(required(f"{path}.effect"))
    elif effect not in TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))


def check_toleration(toleration: Object, path: str, errors: Errors) -> None:
    key, value = toleration.get("key", ""), toleration.get("value", "")
    operator, effect = toleration.get("operator", ""), toleration.get("effect", "")
    if key:
        check_label_name(key, f"{path}.key", errors)
    if operator == "Exists":
        if value:
            errors.append(invalid_value(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        check(is_label_value(value), value, f"{path}.value", errors)
    elif not operator:
        errors.append(required(f"{path}.operator"))
    else:
        errors.append(not_supported(f"{path}.operator", operator, TOLERATION_OPERATORS))
    if effect and effect not in TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))


def check_label(name: str, path: str, errors: Errors) -> None:
    check_dns1123_label(name, path, errors)
