"""What kinds that run pods from a template share: selectors, replica counts, rolling updates, status counts."""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api import selectors
from kubecosm.api.field import forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from .core.pod_spec import check_pod_template
from .formats import Errors, check_non_negative, is_percent
from .meta import check_label_selector
from .values import selector_value, sorted_map

MISMATCH = "`selector` does not match template `labels`"


def matcher(selector: Object | None) -> selectors.LabelSelector | None:
    """The compiled selector; None if it is malformed."""
    try:
        return selectors.from_label_selector(selector)
    except selectors.SelectorError:
        return None


def template_labels(template: Object) -> dict[str, str] | None:
    """The labels as a complaint shows them; templates without any mostly come with an empty map, which Go tells from none."""
    return sorted_map((template.get("metadata") or {}).get("labels") or {})


def check_selector(spec: Object, kind: str, invalid_detail: str, errors: Errors) -> selectors.LabelSelector | None:
    """spec.selector of Deployment, ReplicaSet, StatefulSet: set, well formed, not empty. Returns it compiled, None if malformed."""
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        check_label_selector(selector, "spec.selector", errors)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_value("spec.selector", selector_value(selector), f"empty selector is invalid for {kind}"))
    compiled = matcher(selector)
    if compiled is None:
        errors.append(invalid_value("spec.selector", selector_value(selector), invalid_detail))
    return compiled


def check_template_matches(template: Object, compiled: selectors.LabelSelector, path: str, errors: Errors) -> None:
    """The selector must select what the template makes."""
    if not compiled.is_everything and not compiled.matches((template.get("metadata") or {}).get("labels") or {}):
        errors.append(invalid_value(f"{path}.metadata.labels", template_labels(template), MISMATCH))


def check_replicated_template(template: Object, kind: str, path: str, errors: Errors) -> None:
    """A template whose pods run for ever."""
    check_pod_template(template, path, errors)
    check_always_restarting(template, kind, path, errors)


def check_always_restarting(template: Object, kind: str, path: str, errors: Errors) -> None:
    spec = template.get("spec") or {}
    if spec.get("restartPolicy", "") != "Always":
        errors.append(not_supported(f"{path}.spec.restartPolicy", spec.get("restartPolicy", ""), ("Always",)))
    if "activeDeadlineSeconds" in spec:
        errors.append(forbidden_field(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported"))


def int_or_percent(value: int | str) -> int:
    """The number in `3` or `25%`; 0 when malformed."""
    if isinstance(value, int):
        return value
    return 0 if is_percent(value) else int(value[:-1])


def check_counts(status: Object, fields: Iterable[str], errors: Errors, path: str = "status") -> None:
    for field in fields:
        check_non_negative(status.get(field, 0), f"{path}.{field}", errors)


def check_not_more(status: Object, few: str, many: str, errors: Errors, detail: str, path: str = "status") -> None:
    if status.get(few, 0) > status.get(many, 0):
        errors.append(invalid_value(f"{path}.{few}", status.get(few, 0), detail))
