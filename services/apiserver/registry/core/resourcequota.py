"""ResourceQuotas. Imitates ValidateResourceQuota(Update)."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import FIELD_IMMUTABLE, Errors
from ..strategy import StatusStrategy, Strategy, keep_field
from .pod_defaults import round_up_quantity
from .resources import QUOTA_RESOURCES, check_quantity, is_quota_huge_page, quota_resource_complaints

SCOPES = frozenset((
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity", "VolumeAttributesClass",
))  # fmt: skip
_POD_COMPUTE = frozenset((
    "pods", "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage", "limits.cpu",
    "limits.memory", "limits.ephemeral-storage",
))  # fmt: skip
_CLAIMS = frozenset(("persistentvolumeclaims", "requests.storage"))
_EXISTS_ONLY = frozenset(("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"))
_CONFLICTS = (frozenset(("BestEffort", "NotBestEffort")), frozenset(("Terminating", "NotTerminating")))
_MUST_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


class ResourceQuotaStrategy(Strategy):
    """A ResourceQuota as users create and update it."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if "hard" in spec:
            spec["hard"] = {name: round_up_quantity(value) for name, value in spec["hard"].items()}
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        _check_amounts(spec.get("hard") or {}, "spec.hard", errors)
        _check_scopes(spec, errors)
        if "scopeSelector" in spec:
            _check_scope_selector(spec, errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        scopes = obj["spec"].get("scopes")
        if set(scopes or ()) != set(old["spec"].get("scopes") or ()):
            errors.append(invalid_value("spec.scopes", scopes, FIELD_IMMUTABLE))
        return errors


def _check_amounts(amounts: dict[str, str], path: str, errors: Errors) -> None:
    for name, value in amounts.items():
        where = f"{path}[{name}]"
        for complaint in quota_resource_complaints(name):
            errors.append(invalid_value(where, name, complaint))
        check_quantity(name, value, where, errors)


def _fits(scope: str, resource: str) -> bool:
    """Whether a scope says something about a standard resource (IsResourceQuotaScopeValidForResource)."""
    if resource not in QUOTA_RESOURCES and not is_quota_huge_page(resource):
        return True
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in _CLAIMS
    return resource in _POD_COMPUTE or is_quota_huge_page(resource)


def _check_scopes(spec: Object, errors: Errors) -> None:
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in SCOPES:
            errors.append(invalid_value("spec.scopes", scopes, "unsupported scope"))
        for resource in sorted(spec.get("hard") or {}):
            if not _fits(scope, resource):
                errors.append(invalid_value("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in _CONFLICTS:
        if pair <= set(scopes):
            errors.append(invalid_value("spec.scopes", scopes, "conflicting scopes"))


def _check_scope_selector(spec: Object, errors: Errors) -> None:
    path = "spec.scopeSelector.matchExpressions"
    seen: set[str] = set()
    for requirement in spec["scopeSelector"].get("matchExpressions") or ():
        scope, operator, values = requirement.get("scopeName", ""), requirement.get("operator", ""), requirement.get("values") or []
        if scope not in SCOPES:
            errors.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        for resource in sorted(spec.get("hard") or {}):
            if not _fits(scope, resource):
                errors.append(invalid_value(path, _shown(spec["scopeSelector"]), "unsupported scope applied to resource"))
        if scope in _EXISTS_ONLY and operator != "Exists":
            errors.append(invalid_value(f"{path}.operator", operator, _MUST_EXIST))
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{path}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid_value(f"{path}.values", values, detail))
        else:
            errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
        seen.add(scope)
    for pair in _CONFLICTS:
        if pair <= seen:
            errors.append(invalid_value(path.rpartition(".")[0], spec.get("scopes"), "conflicting scopes"))


def _shown(selector: Object) -> Object:
    expressions = selector.get("matchExpressions")
    return {
        "MatchExpressions": None if expressions is None else [
            {"ScopeName": e.get("scopeName", ""), "Operator": e.get("operator", ""), "Values": e.get("values")} for e in expressions
        ]
    }  # fmt: skip


class ResourceQuotaStatusStrategy(StatusStrategy):
    """resourcequotas/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        status = obj.get("status") or {}
        _check_amounts(status.get("hard") or {}, "status.hard", errors)
        _check_amounts(status.get("used") or {}, "status.used", errors)
        return errors
