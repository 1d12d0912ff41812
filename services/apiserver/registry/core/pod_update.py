"""What may change in a pod after it was created. Imitates ValidatePodUpdate, ValidatePodStatusUpdate and their helpers."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, required
from kubecosm.api.names import ANNOTATION_CONFIG_MIRROR
from kubecosm.api.resources import Object

from ..formats import FIELD_IMMUTABLE, INT32_MAX, Errors, check_dns1123_subdomain, check_ip, check_qualified_name, inclusive_range, parse_ip
from ..gotypes import difference
from .affinity import check_node_affinity_added, check_tolerations
from .security import APPARMOR_ANNOTATION

UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SYSTEM_CONDITIONS = frozenset(("PodScheduled", "Ready", "Initialized"))


def check_annotation_updates(annotations: Object, old: Object, path: str, errors: Errors) -> None:
    """AppArmor and mirror annotations stay as they were."""
    for key, value in old.items():
        if annotations.get(key) == value:
            continue
        if key.startswith(APPARMOR_ANNOTATION):
            errors.append(forbidden_field(f"{path}[{key}]", "may not remove or update AppArmor annotations"))
        if key == ANNOTATION_CONFIG_MIRROR:
            errors.append(forbidden_field(f"{path}[{key}]", "may not remove or update mirror pod annotation"))
    for key in annotations.keys() - old.keys():
        if key.startswith(APPARMOR_ANNOTATION):
            errors.append(forbidden_field(f"{path}[{key}]", "may not add AppArmor annotations"))
        if key == ANNOTATION_CONFIG_MIRROR:
            errors.append(forbidden_field(f"{path}[{key}]", "may not add mirror pod annotation"))


def check_spec_update(spec: Object, old: Object, errors: Errors) -> None:
    """spec of a pod: only images, tolerations, gates and deadlines may change."""
    for field in ("containers", "initContainers"):
        if not _check_same_containers(spec.get(field) or (), old.get(field) or (), f"spec.{field}", errors):
            return
    if not _check_deadline(spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"), errors):
        return
    _check_added_tolerations(spec.get("tolerations") or [], old.get("tolerations") or [], "spec.tolerations", errors)
    _check_removed_gates(spec.get("schedulingGates") or (), old.get("schedulingGates") or (), "spec.schedulingGates", errors)
    if spec == old:
        return
    munged = _munge(spec, old, errors)
    if munged != old:
        changes = difference("PodSpec", old, munged)
        errors.append(forbidden_field("spec", f"pod updates may not change fields other than {UPDATABLE}\n{changes}"))


def _check_same_containers(containers: Sequence[Object], old: Sequence[Object], path: str, errors: Errors) -> bool:
    if len(containers) != len(old):
        errors.append(forbidden_field(path, "pod updates may not add or remove containers"))
        return False
    for i, container in enumerate(containers):
        image = container.get("image", "")
        if not image:
            errors.append(required(f"{path}[{i}].image"))
        if image.strip() != image:
            errors.append(invalid_value(f"{path}[{i}].image", image, "must not have leading or trailing whitespace"))
    return True


def _check_deadline(deadline: int | None, old: int | None, errors: Errors) -> bool:
    path = "spec.activeDeadlineSeconds"
    if deadline is None:
        if old is not None:
            errors.append(invalid_value(path, None, "must not update from a positive integer to nil value"))
        return True
    if not 0 <= deadline <= INT32_MAX:
        errors.append(invalid_value(path, deadline, inclusive_range(0, INT32_MAX)))
        return False
    if old is not None and old < deadline:
        errors.append(invalid_value(path, deadline, "must be less than or equal to previous value"))
        return False
    return True


def _check_added_tolerations(tolerations: Sequence[Object], old: Sequence[Object], path: str, errors: Errors) -> None:
    def shape(toleration: Object) -> Object:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    shapes = [shape(t) for t in tolerations]
    if any(shape(t) not in shapes for t in old):
        errors.append(forbidden_field(path, "existing toleration can not be modified except its tolerationSeconds"))
        return
    check_tolerations(tolerations, path, errors)


def _check_removed_gates(gates: Sequence[Object], old: Sequence[Object], path: str, errors: Errors) -> None:
    known = {gate.get("name") for gate in old}
    for i, gate in enumerate(gates):
        if gate.get("name") not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name', '')}'"
            errors.append(forbidden_field(f"{path}[{i}].name", detail))


def _munge(spec: Object, old: Object, errors: Errors) -> Object:
    """The new spec with everything that may change set back to its old value."""
    munged = dict(spec)
    for field in ("containers", "initContainers"):
        if munged.get(field):
            pairs = zip(munged[field], old[field], strict=True)
            munged[field] = [_with(container, "image", before.get("image")) for container, before in pairs]
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        munged = _with(munged, field, old.get(field))
    if old.get("terminationGracePeriodSeconds", 0) < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    return _munge_gated(munged, old, errors) if old.get("schedulingGates") else munged


def _munge_gated(munged: Object, old: Object, errors: Errors) -> Object:
    """A pod that is not yet to be scheduled may be narrowed down: node selectors and node affinity may grow."""
    if munged.get("nodeSelector") != old.get("nodeSelector"):
        selector = munged.get("nodeSelector") or {}
        for key, value in (old.get("nodeSelector") or {}).items():
            if selector.get(key) != value:
                detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
                errors.append(invalid_value("spec.nodeSelector", selector, detail))
                break
        munged = _with(munged, "nodeSelector", old.get("nodeSelector"))
    affinity, old_affinity = munged.get("affinity"), old.get("affinity")
    node, old_node = (affinity or {}).get("nodeAffinity"), (old_affinity or {}).get("nodeAffinity")
    if node == old_node:
        return munged
    check_node_affinity_added(node, old_node, "spec.affinity.nodeAffinity", errors)
    restored = _with(affinity or {}, "nodeAffinity", old_node)
    return _with(munged, "affinity", restored if restored or old_affinity is not None else None)


def _with(obj: Object, field: str, value: object) -> Object:
    """A copy with one field set, or left out when the value is None."""
    copy = {**obj, field: value}
    if value is None:
        del copy[field]
    return copy


def check_status_update(pod: Object, old: Object, errors: Errors) -> None:
    """status of a pod (ValidatePodStatusUpdate, without the metadata part)."""
    status, old_status = pod.get("status") or {}, old.get("status") or {}
    spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    for i, condition in enumerate(status.get("conditions") or ()):
        if condition.get("type") not in _SYSTEM_CONDITIONS:
            check_qualified_name(condition.get("type", ""), f"metadata.conditions[{i}].Type", errors)
    if spec.get("nodeName") != old_spec.get("nodeName"):
        errors.append(forbidden_field("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != old_status.get("nominatedNodeName"):
        check_dns1123_subdomain(nominated, "status.nominatedNodeName", errors)
    if status.get("qosClass", "") != old_status.get("qosClass", ""):
        errors.append(invalid_value("status.qosClass", status.get("qosClass", ""), FIELD_IMMUTABLE))
    policy = old_spec.get("restartPolicy", "")
    sidecars = {c.get("name") for c in old_spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    for field, own_policy in (("containerStatuses", policy), ("initContainerStatuses", policy), ("ephemeralContainerStatuses", "Never")):
        exempt = sidecars if field == "initContainerStatuses" else set()
        _check_transitions(status.get(field) or (), old_status.get(field) or (), own_policy, exempt, f"status.{field}", errors)
    _check_addresses(status, "podIPs", "", errors)
    _check_addresses(status, "hostIPs", "hostIP", errors)


def _check_transitions(
    statuses: Sequence[Object], old: Sequence[Object], policy: str, exempt: set[str | None], path: str, errors: Errors
) -> None:
    """What has terminated for good may not run again."""
    if policy == "Always":
        return
    for i, before in enumerate(old):
        terminated = (before.get("state") or {}).get("terminated")
        if terminated is None or before.get("name") in exempt:
            continue
        if terminated.get("exitCode", 0) != 0 and policy == "OnFailure":
            continue
        for after in statuses:
            if after.get("name") == before.get("name") and "terminated" not in (after.get("state") or {}):
                errors.append(forbidden_field(f"{path}[{i}].state", "may not be transitioned to non-terminated state"))


def _check_addresses(status: Object, field: str, single: str, errors: Errors) -> None:
    addresses = [entry.get("ip", "") for entry in status.get(field) or ()]
    path = f"status.{field}"
    if single and addresses and status.get(single, "") != addresses[0]:
        errors.append(invalid_value(f"{path}[0].ip", addresses[0], f"must be equal to `{single}`"))
    for i, address in enumerate(addresses):
        check_ip(address, f"{path}[{i}]", errors)
    if len(addresses) < 2:
        return
    versions = {ip.version for ip in map(parse_ip, addresses) if ip is not None}
    shown = [{"IP": address} for address in addresses]
    if len(versions) < 2 or len(addresses) > 2:
        errors.append(invalid_value(path, shown, "may specify no more than one IP for each IP family"))
    for i, address in enumerate(addresses):
        if address in addresses[:i]:
            errors.append(duplicate(f"{path}[{i}]", {"IP": address}))
