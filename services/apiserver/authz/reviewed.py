"""What a SubjectAccessReview asks about, as Attributes. Pure. Imitates pkg/registry/authorization/util and pkg/apis/authorization."""

from __future__ import annotations

from typing import Any

from kubecosm.api.field import FieldError, invalid, invalid_value, required
from kubecosm.api.resources import Object, Resource
from kubecosm.api.selectors import (
    EXISTS,
    IN,
    NOT_EXISTS,
    NOT_IN,
    FieldRequirement,
    FieldSelector,
    LabelSelector,
    Requirement,
    SelectorError,
    parse_fields,
    parse_labels,
)

from ..authn.user import User
from .attributes import Attributes

LABEL_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS}


def reviewed_user(row: Resource, spec: Object) -> User:
    """Raises Invalid if nobody is asked about."""
    user, groups = spec.get("user", ""), tuple(spec.get("groups") or ())
    if not user and not groups:
        raise invalid(row, "", [invalid_value("spec.user", "", "at least one of user or group must be specified")])
    return User(user, groups, spec.get("uid", ""), {name: tuple(values) for name, values in (spec.get("extra") or {}).items()})


def reviewed_attributes(row: Resource, spec: Object, user: User) -> tuple[Attributes, str]:
    """What is asked, and what of it could not be understood. Raises Invalid."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    found: list[FieldError] = []
    if resource is not None and path is not None:
        found.append(invalid_value("spec.nonResourceAttributes", path, "cannot be specified in combination with resourceAttributes"))
    if resource is None and path is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(invalid_value("spec.resourceAttributes", None, why))
    for field in ("fieldSelector", "labelSelector"):
        found += _check_selector((resource or {}).get(field), f"spec.resourceAttributes.{field}")
    if found:
        raise invalid(row, "", found)
    if resource is None:
        assert path is not None
        return Attributes(user, path.get("verb", ""), is_resource=False, path=path.get("path", "")), ""
    fields, about_fields = _fields(resource.get("fieldSelector"))
    labels, about_labels = _labels(resource.get("labelSelector"))
    attributes = Attributes(
        user, resource.get("verb", ""), resource.get("namespace", ""), resource.get("group", ""), resource.get("version", ""),
        resource.get("resource", ""), resource.get("subresource", ""), resource.get("name", ""), fields=fields, labels=labels,
    )  # fmt: skip
    return attributes, ", ".join(filter(None, (about_fields, about_labels)))


def _check_selector(selector: Object | None, path: str) -> list[FieldError]:
    if selector is None:
        return []
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements")
    if raw and requirements:
        return [invalid_value(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")]
    if not raw and not requirements:
        return [required(f"{path}.requirements", f"when {path} is specified, requirements or rawSelector is required")]
    return []


def _fields(selector: Object | None) -> tuple[FieldSelector | None, str]:
    if selector is None:
        return None, ""
    try:
        if selector.get("rawSelector"):
            return parse_fields(selector["rawSelector"]), ""
        return FieldSelector(tuple(_field_requirement(one) for one in selector["requirements"])), ""
    except (SelectorError, ValueError) as error:
        return None, f"spec.resourceAttributes.fieldSelector ignored due to parse error: {error}"


def _field_requirement(one: Any) -> FieldRequirement:
    """Raises ValueError for what field selectors cannot say."""
    values = one.get("values") or []
    if one.get("operator") not in ("In", "NotIn") or len(values) != 1:
        raise ValueError(f"{one.get('operator')} with {len(values)} values is not supported")
    return FieldRequirement(one.get("key", ""), values[0], one["operator"] == "NotIn")


def _labels(selector: Object | None) -> tuple[LabelSelector | None, str]:
    if selector is None:
        return None, ""
    try:
        if selector.get("rawSelector"):
            return parse_labels(selector["rawSelector"]), ""
        return LabelSelector(tuple(_label_requirement(one) for one in selector["requirements"])), ""
    except (SelectorError, ValueError) as error:
        return None, f"spec.resourceAttributes.labelSelector ignored due to parse error: {error}"


def _label_requirement(one: Any) -> Requirement:
    """Raises ValueError for an operator that there is not."""
    if one.get("operator") not in LABEL_OPERATORS:
        raise ValueError(f'"{one.get("operator")}" is not a valid label selector operator')
    return Requirement(one.get("key", ""), LABEL_OPERATORS[one["operator"]], tuple(sorted(one.get("values") or ())))
