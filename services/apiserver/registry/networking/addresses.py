"""ServiceCIDRs and IPAddresses. Imitates ValidateServiceCIDR and ValidateIPAddress."""

from __future__ import annotations

import ipaddress

from kubecosm.api.field import FieldError, duplicate, invalid_value, required, too_many
from kubecosm.api.resources import Object

from ..formats import FIELD_IMMUTABLE, Errors, is_dns1123_label, is_path_segment, parse_cidr, parse_ip
from ..strategy import Strategy

RANGES_MAX = 2


class ServiceCIDRStrategy(Strategy):
    """A ServiceCIDR: a range that Service addresses come from."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        obj.setdefault("spec", {})
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        ranges = obj["spec"].get("cidrs") or []
        if not ranges:
            errors.append(required("spec.cidrs", "at least one CIDR required"))
        if len(ranges) > RANGES_MAX:
            errors.append(too_many("spec.cidrs", len(ranges), RANGES_MAX))
        versions = [parsed.version for parsed in map(parse_cidr, ranges) if parsed is not None]
        if len(versions) == RANGES_MAX and len(set(versions)) == 1:
            detail = "may specify no more than one CIDR for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            errors.append(invalid_value("spec.cidrs", ranges, detail))
        for i, text in enumerate(ranges):
            _check_range(text, f"spec.cidrs[{i}]", errors)
            if text in ranges[:i]:
                errors.append(duplicate(f"spec.cidrs[{i}]", text))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        now, before = obj["spec"].get("cidrs") or [], old["spec"].get("cidrs") or []
        if now[: len(before)] != before or not now:
            errors.append(invalid_value("spec.cidrs[0]", now[0] if now else "", FIELD_IMMUTABLE))
        return errors + (self.validate(obj) if len(now) != len(before) else [])


def _check_range(text: str, path: str, errors: Errors) -> None:
    parsed = parse_cidr(text)
    if parsed is None:
        errors.append(invalid_value(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
    elif str(parsed.network) != text:
        errors.append(invalid_value(path, text, f'must be in canonical form ("{parsed.network}")'))


class IPAddressStrategy(Strategy):
    """An IPAddress: the record that one address is taken."""

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        address = parse_ip(name)
        if address is None:
            return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
        canonical = str(ipaddress.ip_address(str(address)))
        return [] if canonical == name else [f'must be in canonical form ("{canonical}")']

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        reference = (obj.get("spec") or {}).get("parentRef")
        if reference is None:
            errors.append(required("spec.parentRef"))
            return errors
        for field in ("resource", "name"):
            value = reference.get(field)
            if not value:
                errors.append(required(f"spec.parentRef.{field}"))
            else:
                for complaint in is_path_segment(value):
                    errors.append(invalid_value(f"spec.parentRef.{field}", value, complaint))
        if reference.get("namespace"):
            for complaint in is_dns1123_label(reference["namespace"]):
                errors.append(invalid_value("spec.parentRef.namespace", reference["namespace"], complaint))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        if obj.get("spec") != old.get("spec"):
            reference = (obj.get("spec") or {}).get("parentRef")
            errors.append(invalid_value("spec.parentRef", reference, FIELD_IMMUTABLE))
        return errors + self.validate(obj)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        reference = (obj.get("spec") or {}).get("parentRef") or {}
        return {f"spec.parentRef.{field}": reference.get(field, "") for field in ("group", "resource", "namespace", "name")}

    def selectable_field_names(self) -> tuple[str, ...]:
        return tuple(self.selectable_fields({}))
