"""Roles and their bindings. Imitates pkg/apis/rbac/validation and v1 defaults."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_subdomain, is_path_segment
from ..meta import check_label_selector
from ..strategy import Strategy

GROUP = "rbac.authorization.k8s.io"


class _RBACStrategy(Strategy):
    allow_create_on_update = True

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_path_segment(name))


class RoleStrategy(_RBACStrategy):
    """A Role or, cluster-wide, a ClusterRole."""

    def default(self, obj: Object) -> None:
        obj.setdefault("rules", None)  # an empty list stays until ownership of the field is recorded

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        for i, rule in enumerate(obj.get("rules") or ()):
            _check_rule(rule, f"rules[{i}]", errors, namespaced=self.resource.namespaced)
        aggregation = obj.get("aggregationRule")
        if aggregation is not None:
            path = "aggregationRule.clusterRoleSelectors"
            selectors = aggregation.get("clusterRoleSelectors") or ()
            if not selectors:
                errors.append(required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
            for i, selector in enumerate(selectors):
                check_label_selector(selector, f"{path}[{i}]", errors)
        return errors


def _check_rule(rule: Object, path: str, errors: Errors, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            errors.append(invalid_value(f"{path}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid_value(f"{path}.nonResourceURLs", urls, detail))
        return
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))


class RoleBindingStrategy(_RBACStrategy):
    """A RoleBinding or, cluster-wide, a ClusterRoleBinding."""

    def default(self, obj: Object) -> None:
        reference = obj.setdefault("roleRef", {})
        if not reference.get("apiGroup"):
            reference["apiGroup"] = GROUP
        for subject in obj.get("subjects") or ():
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        reference = obj["roleRef"]
        if reference.get("apiGroup", "") != GROUP:
            errors.append(not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), (GROUP,)))
        kinds = ("Role", "ClusterRole") if self.resource.namespaced else ("ClusterRole",)
        if reference.get("kind", "") not in kinds:
            errors.append(not_supported("roleRef.kind", reference.get("kind", ""), kinds))
        name = reference.get("name")
        if not name:
            errors.append(required("roleRef.name"))
        else:
            for complaint in is_path_segment(name):
                errors.append(invalid_value("roleRef.name", name, complaint))
        for i, subject in enumerate(obj.get("subjects") or ()):
            _check_subject(subject, f"subjects[{i}]", errors, namespaced=self.resource.namespaced)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        reference = obj["roleRef"]
        if reference != old.get("roleRef"):
            shown = {"APIGroup": reference.get("apiGroup", ""), "Kind": reference.get("kind", ""), "Name": reference.get("name", "")}
            errors.append(invalid_value("roleRef", shown, "cannot change roleRef"))
        return errors


def _check_subject(subject: Object, path: str, errors: Errors, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name"), subject.get("kind", ""), subject.get("apiGroup", "")
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            check_dns1123_subdomain(name, f"{path}.name", errors)
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        errors.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
