"""APIServices. Imitates kube-aggregator's ValidateAPIService and its strategy."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_subdomain, is_dns1035_label, is_port
from ..strategy import Strategy, keep_field

GROUP_PRIORITY_MAX = 20000
VERSION_PRIORITY_MAX = 1000


class APIServiceStrategy(Strategy):
    """An APIService as users create and update it."""

    allow_unconditional_update = False
    tracks_generation = False

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return []  # judged together with the group and version it must consist of

    def default(self, obj: Object) -> None:
        service = obj.setdefault("spec", {}).get("service")
        if service is not None:
            service.setdefault("port", 443)
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        if "service" not in obj["spec"]:
            obj["status"]["conditions"] = [_local_condition(obj["metadata"]["creationTimestamp"])]

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec, name = obj["spec"], obj["metadata"].get("name", "")
        group, version = spec.get("group", ""), spec.get("version", "")
        if name != f"{version}.{group}":
            errors.append(invalid_value("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{version}.{group}"'))
        if not group and version != "v1":
            errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
        if group:
            check_dns1123_subdomain(group, "spec.group", errors)
        for complaint in is_dns1035_label(version):
            errors.append(invalid_value("spec.version", version, complaint))
        for field, most in (("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)):
            if not 0 < spec.get(field, 0) <= most:
                errors.append(invalid_value(f"spec.{field}", spec.get(field, 0), f"must be positive and less than {most}"))
        _check_service(spec, errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {}


def _local_condition(now: str) -> Object:
    return {
        "type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local",
        "message": "Local APIServices are always available",
    }  # fmt: skip


def _check_service(spec: Object, errors: Errors) -> None:
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    if service is None:
        if bundle:
            errors.append(invalid_value("spec.caBundle", f"{len(bundle) * 3 // 4} bytes", "local APIServices may not have a caBundle"))
        if insecure:
            errors.append(invalid_value("spec.insecureSkipTLSVerify", True, "local APIServices may not have insecureSkipTLSVerify"))
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            errors.append(required(f"spec.service.{field}"))
    for complaint in is_port(service.get("port", 443)):
        errors.append(invalid_value("spec.service.port", service["port"], f"port is not valid: {complaint}"))
    if insecure and bundle:
        errors.append(invalid_value("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
