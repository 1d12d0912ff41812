"""Validation of a PodSpec and of the pod template that wraps one. Imitates ValidatePodSpec and ValidatePodTemplateSpec."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api import names
from kubecosm.api.field import duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import (
    INT32_MAX,
    Errors,
    check,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_ip,
    check_qualified_name,
    inclusive_range,
    is_subdomain_with_underscore,
)
from ..gotypes import dump
from ..meta import check_annotations, check_labels
from .affinity import check_affinity, check_tolerations, check_topology_spread
from .containers import PodContext, check_containers, check_ephemeral_containers, check_init_containers
from .resources import check_pod_level, check_requirements
from .security import (
    APPARMOR_ANNOTATION,
    check_apparmor_annotations,
    check_host_users,
    check_os,
    check_pod_security_context,
    check_profiles_match_annotations,
    check_seccomp_annotations,
    check_windows_host_process,
)
from .volumes import check_volumes

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
NAMESERVERS_MAX = 3
SEARCH_PATHS_MAX = 32
SEARCH_CHARACTERS_MAX = 2048
_NO_CLAIMS: frozenset[str] = frozenset()


def check_pod_template(template: Object, path: str, errors: Errors) -> None:
    """A PodTemplateSpec; `path` is the template's. Labels are reported at `template.labels`, as Kubernetes does."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    annotations = metadata.get("annotations")
    if "labels" in metadata:
        check_labels(metadata["labels"], f"{path}.labels", errors)
    if annotations:
        check_annotations(annotations, f"{path}.annotations", errors)
        check_pod_annotations(annotations, spec, f"{path}.annotations", errors)
    check_pod_spec(spec, f"{path}.spec", errors)
    if annotations:
        check_profiles_match_annotations(annotations, spec, f"{path}.spec", errors)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))


def check_pod_annotations(annotations: Object, spec: Object, path: str, errors: Errors) -> None:
    """Annotations that mean something on pods (ValidatePodSpecificAnnotations)."""
    if names.ANNOTATION_CONFIG_MIRROR in annotations and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid_value(f"{path}[{names.ANNOTATION_CONFIG_MIRROR}]", annotations[names.ANNOTATION_CONFIG_MIRROR], detail))
    cost = annotations.get(names.ANNOTATION_POD_DELETION_COST)
    if cost is not None and not _is_deletion_cost(cost):
        errors.append(invalid_value(f"{path}[{names.ANNOTATION_POD_DELETION_COST}]", cost, "must be a 32bit integer"))
    check_seccomp_annotations(annotations, path, errors)
    if any(key.startswith(APPARMOR_ANNOTATION) for key in annotations):
        check_apparmor_annotations(annotations, spec, path, errors)


def _is_deletion_cost(text: str) -> bool:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0") or text == "-0":
        return False
    return -(2**31) <= int(text) < 2**31


def check_pod_spec(
    spec: Object, path: str, errors: Errors, *, pod_name: str = "", is_pod: bool = False, allow_invalid_values: bool = False
) -> None:
    """ValidatePodSpec. `pod_name` names the claims of ephemeral volumes; `allow_invalid_values` is for pods already so."""
    grace_period = spec.get("terminationGracePeriodSeconds")
    if grace_period is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    volumes = check_volumes(spec["volumes"], pod_name, f"{path}.volumes", errors) if spec.get("volumes") else {}
    claims = _check_claims(spec["resourceClaims"], f"{path}.resourceClaims", errors) if spec.get("resourceClaims") else _NO_CLAIMS
    pod = PodContext(volumes, claims, grace_period, spec.get("restartPolicy", ""), spec.get("hostUsers") is not False, is_pod)
    containers = spec.get("containers") or ()
    check_containers(containers, pod, f"{path}.containers", errors)
    if spec.get("initContainers"):
        check_init_containers(spec["initContainers"], containers, pod, f"{path}.initContainers", errors)
    if spec.get("ephemeralContainers"):
        check_ephemeral_containers(spec, pod, f"{path}.ephemeralContainers", errors)
    if "resources" in spec:
        check_pod_level(spec, claims, f"{path}.resources", errors)
    if spec.get("hostNetwork"):
        _check_host_network_ports(containers, is_pod, f"{path}.containers", errors)
    _check_policies(spec, path, errors)
    if "nodeSelector" in spec:
        check_labels(spec["nodeSelector"], f"{path}.nodeSelector", errors)
    if spec.get("securityContext") or spec.get("hostPID"):
        context = spec.get("securityContext") or {}
        check_pod_security_context(context, bool(spec.get("hostPID")), f"{path}.securityContext", errors, spec)
    if "affinity" in spec:
        check_affinity(spec["affinity"], f"{path}.affinity", errors, allow_invalid_values=allow_invalid_values)
    if "dnsConfig" in spec or spec.get("dnsPolicy") == "None":
        _check_dns_config(spec, f"{path}.dnsConfig", errors)
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        check_qualified_name(gate.get("conditionType", ""), f"{path}.readinessGates[{i}].conditionType", errors)
    if "schedulingGates" in spec:
        _check_scheduling_gates(spec["schedulingGates"], f"{path}.schedulingGates", errors)
    if "topologySpreadConstraints" in spec:
        check_topology_spread(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints", errors)
    check_windows_host_process(spec, path, errors)
    check_host_users(spec, path, errors)
    _check_identity(spec, path, errors)


def _check_policies(spec: Object, path: str, errors: Errors) -> None:
    for field, allowed in (("restartPolicy", RESTART_POLICIES), ("dnsPolicy", DNS_POLICIES)):
        value = spec.get(field, "")
        if value not in allowed:
            errors.append(not_supported(f"{path}.{field}", value, allowed) if value else required(f"{path}.{field}"))


def _check_identity(spec: Object, path: str, errors: Errors) -> None:
    """Names of accounts, nodes, hosts and classes, deadlines and the rest."""
    for field in ("serviceAccountName", "nodeName"):
        if spec.get(field):
            check_dns1123_subdomain(spec[field], f"{path}.{field}", errors)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= INT32_MAX:
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, inclusive_range(1, INT32_MAX)))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            check_dns1123_label(spec[field], f"{path}.{field}", errors)
    if spec.get("tolerations"):
        check_tolerations(spec["tolerations"], f"{path}.tolerations", errors)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        check_ip(alias.get("ip", ""), f"{path}.hostAliases[{i}].ip", errors)
        for j, name in enumerate(alias.get("hostnames") or ()):
            check_dns1123_subdomain(name, f"{path}.hostAliases[{i}].hostnames[{j}]", errors)
    if spec.get("priorityClassName"):
        check_dns1123_subdomain(spec["priorityClassName"], f"{path}.priorityClassName", errors)
    if "runtimeClassName" in spec:
        check_dns1123_subdomain(spec["runtimeClassName"], f"{path}.runtimeClassName", errors)
    policy = spec.get("preemptionPolicy")
    if policy is not None and policy not in PREEMPTION_POLICIES:
        where = f"{path}.preemptionPolicy"
        errors.append(not_supported(where, policy, PREEMPTION_POLICIES) if policy else required(where))
    if "overhead" in spec:
        check_requirements({"limits": spec["overhead"]}, _NO_CLAIMS, f"{path}.overhead", errors)
    if "os" in spec:
        check_os(spec, path, errors)


def _check_claims(claims: Sequence[Object], path: str, errors: Errors) -> frozenset[str]:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        where, name = f"{path}[{i}]", claim.get("name", "")
        if not name:
            errors.append(required(f"{where}.name"))
        elif name in seen:
            errors.append(duplicate(f"{where}.name", name))
        else:
            check_dns1123_label(name, f"{where}.name", errors)
            seen.add(name)
        shown = dump("PodResourceClaim", claim)
        count = sum(field in claim for field in ("resourceClaimName", "resourceClaimTemplateName"))
        if count > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_value(where, shown, detail))
        if not count:
            errors.append(invalid_value(where, shown, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
        for field in ("resourceClaimName", "resourceClaimTemplateName"):
            if field in claim:
                check_dns1123_subdomain(claim[field], f"{where}.{field}", errors)
    return frozenset(c["name"] for c in claims if c.get("name"))


def _check_host_network_ports(containers: Sequence[Object], is_pod: bool, path: str, errors: Errors) -> None:
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            host_port = port.get("hostPort", 0)
            if (is_pod or host_port) and host_port != port.get("containerPort", 0):
                detail = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid_value(f"{path}[{i}].ports[{j}].hostPort", host_port, detail))


def _check_scheduling_gates(gates: Sequence[Object], path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name", "")
        check_qualified_name(name, f"{path}[{i}]", errors)
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)


def _check_dns_config(spec: Object, path: str, errors: Errors) -> None:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            errors.append(required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.get("nameservers"):
            errors.append(required(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None"))
            return
    if config is None:
        return
    nameservers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(nameservers) > NAMESERVERS_MAX:
        errors.append(invalid_value(f"{path}.nameservers", nameservers, f"must not have more than {NAMESERVERS_MAX} nameservers"))
    for i, address in enumerate(nameservers):
        check_ip(address, f"{path}.nameservers[{i}]", errors)
    if len(searches) > SEARCH_PATHS_MAX:
        errors.append(invalid_value(f"{path}.searches", searches, f"must not have more than {SEARCH_PATHS_MAX} search paths"))
    if len(" ".join(searches)) > SEARCH_CHARACTERS_MAX:
        detail = f"must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        errors.append(invalid_value(f"{path}.searches", searches, detail))
    for i, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            check(is_subdomain_with_underscore(name), name, f"{path}.searches[{i}]", errors)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))
