"""StatefulSets. Imitates ValidateStatefulSetSpec, SetDefaults_StatefulSet and pkg/registry/apps/statefulset."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.claim import default_claim
from ..core.claim_spec import check_claim_spec
from ..core.pod_defaults import default_pod_template
from ..core.pod_spec import check_pod_template
from ..formats import Errors, check_at_most_100_percent, check_int_or_percent, check_non_negative, is_dns1123_label, mask_trailing_dash
from ..gotypes import dump
from ..strategy import StatusStrategy
from ..templated import TemplatedStrategy
from ..workloads import check_always_restarting, check_counts, check_not_more, check_selector, check_template_matches, int_or_percent
from .deployment import REVISION_HISTORY_LIMIT, check_collisions

MANAGEMENT_POLICIES = ("OrderedReady", "Parallel")
RETENTION_POLICIES = ("Delete", "Retain")
UPDATABLE = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy",
             "minReadySeconds")  # fmt: skip
_UPDATE_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_COUNTS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


class StatefulSetStrategy(TemplatedStrategy):
    """A StatefulSet as users create and update it."""

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_dns1123_label(mask_trailing_dash(name) if prefix else name))

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
            strategy.setdefault("rollingUpdate", {})
        if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
            strategy["rollingUpdate"].setdefault("partition", 0)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for field in ("whenDeleted", "whenScaled"):
            if not retention.get(field):
                retention[field] = "Retain"
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", REVISION_HISTORY_LIMIT)
        spec.setdefault("serviceName", "")
        spec.setdefault("selector", None)
        default_pod_template(spec.setdefault("template", {}))
        for claim in spec.get("volumeClaimTemplates") or ():
            claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
            default_claim(claim)
        status = obj.setdefault("status", {})
        status.setdefault("replicas", 0)
        status.setdefault("availableReplicas", 0)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}
        obj["metadata"]["generation"] = 1
        _drop_disabled_fields(obj, None)

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        _drop_disabled_fields(obj, old)
        super().prepare_for_update(obj, old)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        spec, before = obj["spec"], old["spec"]
        if any(spec.get(f) != before.get(f) for f in spec.keys() | before.keys() if f not in UPDATABLE):
            errors.append(forbidden_field("spec", _UPDATE_FORBIDDEN))
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {}


def _rolling_update(obj: Object | None) -> Object:
    found: Object = (((obj or {}).get("spec") or {}).get("updateStrategy") or {}).get("rollingUpdate") or {}
    return found


def _drop_disabled_fields(obj: Object, old: Object | None) -> None:
    """maxUnavailable is a beta whose feature gate (MaxUnavailableStatefulSet) is off in 1.36: what is not stored already is not taken."""
    if "maxUnavailable" not in _rolling_update(old):
        _rolling_update(obj).pop("maxUnavailable", None)


def _check_spec(spec: Object, errors: Errors) -> None:
    policy = spec.get("podManagementPolicy", "")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in MANAGEMENT_POLICIES:
        errors.append(invalid_value("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    _check_update_strategy(spec["updateStrategy"], "spec.updateStrategy", errors)
    for field, value in spec["persistentVolumeClaimRetentionPolicy"].items():
        if value not in RETENTION_POLICIES:
            where = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            errors.append(not_supported(where, value, ("Retain", "Delete")))
    check_non_negative(spec["replicas"], "spec.replicas", errors)
    check_non_negative(spec.get("minReadySeconds", 0), "spec.minReadySeconds", errors)
    if "ordinals" in spec:
        check_non_negative(spec["ordinals"].get("start", 0), "spec.ordinals.start", errors)
    compiled = check_selector(spec, "statefulset", "", errors)
    template, claims = spec["template"], spec.get("volumeClaimTemplates") or []
    if compiled is not None:
        check_template_matches(template, compiled, "spec.template", errors)
        check_pod_template(_with_claims(template, claims), "spec.template", errors)
    check_always_restarting(template, "StatefulSet", "spec.template", errors)
    for i, claim in enumerate(claims):
        check_claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec", errors)


def _with_claims(template: Object, claims: list[Object]) -> Object:
    """The template as its pods will be: the claims are volumes too (and hide those of the same name)."""
    if not claims:
        return template
    names = [(claim.get("metadata") or {}).get("name", "") for claim in claims]
    spec = template.get("spec") or {}
    own = [volume for volume in spec.get("volumes") or () if volume.get("name") not in names]
    added = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names if name]
    return {**template, "spec": {**spec, "volumes": [*own, *added]}}


def _check_update_strategy(strategy: Object, path: str, errors: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            shown = dump("RollingUpdateStatefulSet", rolling)
            errors.append(invalid_value(f"{path}.rollingUpdate", shown, "only allowed for updateStrategy 'RollingUpdate'"))
    elif kind == "RollingUpdate":
        if rolling is not None:
            check_non_negative(rolling.get("partition", 0), f"{path}.rollingUpdate.partition", errors)
            if "maxUnavailable" in rolling:
                _check_max_unavailable(rolling["maxUnavailable"], f"{path}.rollingUpdate.maxUnavailable", errors)
    else:
        errors.append(invalid_value(path, dump("StatefulSetUpdateStrategy", strategy), "must be 'RollingUpdate' or 'OnDelete'"))


def _check_max_unavailable(value: int | str, path: str, errors: Errors) -> None:
    check_int_or_percent(value, path, errors)
    if int_or_percent(value) == 0:
        errors.append(invalid_value(path, value, "cannot be 0"))
    check_at_most_100_percent(value, path, errors)


class StatefulSetStatusStrategy(StatusStrategy):
    """statefulsets/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        status = obj.get("status") or {}
        check_counts(status, _COUNTS, errors)
        check_non_negative(status.get("observedGeneration", 0), "status.observedGeneration", errors)
        check_collisions(status, old.get("status") or {}, errors)
        for field in _COUNTS[1:]:
            check_not_more(status, field, "replicas", errors, "cannot be greater than status.replicas")
        check_not_more(status, "availableReplicas", "readyReplicas", errors, "cannot be greater than status.readyReplicas")
        return errors
