"""Validation of clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, which depend on each other."""

from __future__ import annotations

from kubecosm.api.field import duplicate, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_ip, parse_ip

FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_IPS = "spec.clusterIPs"
_FAMILIES = "spec.ipFamilies"


def is_headless(spec: Object) -> bool:
    return spec.get("clusterIPs") == ["None"]


def family_of(address: str) -> str:
    ip = parse_ip(address)
    return "IPv6" if ip is not None and ip.version == 6 else "IPv4"


def check_cluster_ips(spec: Object, errors: Errors) -> None:
    """ValidateServiceClusterIPsRelatedFields."""
    if spec.get("type") == "ExternalName":
        return
    single, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if single:
        if not addresses:
            errors.append(required(_IPS))
        elif addresses[0] != single:
            errors.append(invalid_value(_IPS, addresses, "first value must match `clusterIP`"))
    elif addresses:
        errors.append(invalid_value(_IPS, addresses, "must be empty when `clusterIP` is not specified"))
    families = spec.get("ipFamilies") or []
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.append(not_supported(f"{_FAMILIES}[{i}]", family, FAMILIES))
        if family in families[:i]:
            errors.append(duplicate(f"{_FAMILIES}[{i}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES))
    if _check_each(addresses, errors):
        _check_together(addresses, families, errors)


def _check_each(addresses: list[str], errors: Errors) -> bool:
    """Whether every address is well formed."""
    well_formed = True
    for i, address in enumerate(addresses):
        if i == 0 and address == "None":
            if len(addresses) > 1:
                well_formed = False
                errors.append(invalid_value(_IPS, addresses, "'None' must be the first and only value"))
        elif not check_ip(address, f"{_IPS}[{i}]", errors):
            well_formed = False
    if len(addresses) > 2:
        errors.append(invalid_value(_IPS, addresses, "may only hold up to 2 values"))
    return well_formed


def _check_together(addresses: list[str], families: list[str], errors: Errors) -> None:
    if len(addresses) > 1 and len({family_of(address) for address in addresses}) < 2:
        errors.append(invalid_value(_IPS, addresses, "may specify no more than one IP for each IP family"))
    if addresses == ["None"]:
        return
    for i, (address, family) in enumerate(zip(addresses, families, strict=False)):
        if family in FAMILIES and family_of(address) != family:
            errors.append(invalid_value(f"{_IPS}[{i}]", address, f"expected an {family} value as indicated by `ipFamilies[{i}]`"))


def check_cluster_ips_update(spec: Object, old: Object, errors: Errors) -> None:
    """The first address stays; a second may come, or go with ipFamilyPolicy SingleStack (validateUpgradeDowngradeClusterIPs)."""
    if "ExternalName" in (spec.get("type"), old.get("type")) or (is_headless(spec) and is_headless(old)):
        return
    now, before = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    if len(now) == len(before):
        for i, (address, old_address) in enumerate(zip(now, before, strict=True)):
            if address != old_address:
                errors.append(invalid_value(f"{_IPS}[{i}]", now, "may not change once set"))
        return
    if len(before) > len(now):
        if not now:
            errors.append(invalid_value(f"{_IPS}[0]", spec.get("clusterIPs"), "primary clusterIP can not be unset"))
        if now and now[0] != before[0]:
            errors.append(invalid_value(f"{_IPS}[0]", now, "may not change once set"))
        if len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
            detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
            errors.append(invalid_value("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    elif before and now[0] != before[0]:
        errors.append(invalid_value(f"{_IPS}[0]", now, "may not change once set"))


def check_families_update(spec: Object, old: Object, errors: Errors) -> None:
    """The first family stays (validateUpgradeDowngradeIPFamilies)."""
    if "ExternalName" in (spec.get("type"), old.get("type")) or is_headless(spec) or is_headless(old):
        return
    now, before = spec.get("ipFamilies") or [], old.get("ipFamilies") or []
    where = f"{_FAMILIES}[0]"
    if len(now) == len(before):
        errors.extend(invalid_value(where, now, "may not change once set") for a, b in zip(now, before, strict=True) if a != b)
        return
    if len(before) > len(now):
        if not spec.get("clusterIPs"):
            errors.append(invalid_value(where, now, "primary ipFamily can not be unset"))
        if now and now[0] != before[0]:
            errors.append(invalid_value(where, spec.get("clusterIPs"), "may not change once set"))
        if len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
            detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
            errors.append(invalid_value("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    elif before and now[0] != before[0]:
        errors.append(invalid_value(where, spec.get("clusterIPs"), "may not change once set"))
