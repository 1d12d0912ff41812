"""Services: defaults, validation and updates. Imitates ValidateService(Update), SetDefaults_Service and pkg/registry/core/service."""

from __future__ import annotations

import random
from collections.abc import Iterable

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.names import ANNOTATION_LOAD_BALANCER_SOURCE_RANGES, ANNOTATION_TOPOLOGY_HINTS, ANNOTATION_TOPOLOGY_MODE
from kubecosm.api.resources import Object

from ..formats import (
    Errors,
    check_cidr,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_ip,
    check_non_special_ip,
    check_port,
    check_port_or_name,
    check_qualified_name,
    is_dns1123_label,
    mask_trailing_dash,
    parse_ip,
)
from ..meta import check_labels
from ..strategy import Finish, Settings, StatusStrategy, Strategy, keep_field
from .containers import check_protocol
from .service_alloc import Allocator
from .service_ips import check_cluster_ips, check_cluster_ips_update, check_families_update, is_headless
from .service_update import clear_type_dependents, normalize_cluster_ips, patch_allocated

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
AFFINITIES = ("ClientIP", "None")
TRAFFIC_POLICIES = ("Cluster", "Local")
TRAFFIC_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
AFFINITY_TIMEOUT_SECONDS = 10800
AFFINITY_TIMEOUT_SECONDS_MAX = 86400
_WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")


def is_externally_accessible(spec: Object) -> bool:
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


class ServiceStrategy(Strategy):
    """A Service as users create and update it; holds the cluster's Service addresses and node ports."""

    allow_create_on_update = True
    tracks_generation = False
    is_stateful = True

    def start(self, settings: Settings, rng: random.Random, stored: Iterable[Object]) -> None:
        self.allocator = Allocator(settings, rng)
        for service in stored:
            self.allocator.hold(service)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_dns1123_label(mask_trailing_dash(name) if prefix else name))

    def default(self, obj: Object) -> None:
        _default_spec(obj.setdefault("spec", {}))
        for ingress in ((obj.setdefault("status", {}).setdefault("loadBalancer", {})).get("ingress")) or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")

    def begin_create(self, obj: Object, *, dry_run: bool) -> Finish:
        normalize_cluster_ips(obj["spec"], None)
        return self.allocator.allocate(obj, None, dry_run=dry_run)

    def begin_update(self, obj: Object, old: Object, *, dry_run: bool) -> Finish:
        patch_allocated(obj["spec"], old["spec"])
        normalize_cluster_ips(obj["spec"], old["spec"])
        clear_type_dependents(obj["spec"], old["spec"])
        return self.allocator.allocate(obj, old, dry_run=dry_run)

    def after_delete(self, obj: Object) -> None:
        self.allocator.release(obj)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_service(obj, None, errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        spec, before = obj["spec"], old["spec"]
        check_cluster_ips_update(spec, before, errors)
        check_families_update(spec, before, errors)
        _check_load_balancer_class(spec, before, errors)
        if needs_health_check(spec) and needs_health_check(before) and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
            errors.append(forbidden_field("spec.healthCheckNodePort", "field is immutable"))
        _check_service(obj, old, errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("spec.clusterIP", "spec.type")

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        spec = obj["spec"]
        warnings = []
        if ANNOTATION_TOPOLOGY_HINTS in (obj["metadata"].get("annotations") or {}):
            warnings.append(f"annotation {ANNOTATION_TOPOLOGY_HINTS} is deprecated, please use {ANNOTATION_TOPOLOGY_MODE} instead")
        if spec.get("type") == "ExternalName" and spec.get("externalIPs"):
            warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
        if spec.get("type") != "LoadBalancer" and spec.get("loadBalancerIP"):
            warnings.append('spec.loadBalancerIP is ignored when spec.type is not "LoadBalancer"')
        return warnings


def _default_spec(spec: Object) -> None:
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if "timeoutSeconds" not in client:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT_SECONDS}}
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if is_externally_accessible(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in _WITH_CLUSTER_IP and "internalTrafficPolicy" not in spec:
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and "allocateLoadBalancerNodePorts" not in spec:
        spec["allocateLoadBalancerNodePorts"] = True


def _check_service(service: Object, old: Object | None, errors: Errors) -> None:
    spec, annotations = service["spec"], service["metadata"].get("annotations") or {}
    mode, hints = annotations.get(ANNOTATION_TOPOLOGY_MODE), annotations.get(ANNOTATION_TOPOLOGY_HINTS)
    if mode is not None and hints is not None and mode != hints:
        detail = f"must match annotations[{ANNOTATION_TOPOLOGY_HINTS}] when both are specified"
        errors.append(invalid_value(f"metadata.annotations[{ANNOTATION_TOPOLOGY_MODE}]", mode, detail))
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    if not ports and not is_headless(spec) and kind != "ExternalName":
        errors.append(required("spec.ports"))
    _check_by_type(spec, kind, errors)
    names: set[str] = set()
    for i, port in enumerate(ports):
        _check_port(port, len(ports) > 1, names, f"spec.ports[{i}]", errors)
    if "selector" in spec:
        check_labels(spec["selector"], "spec.selector", errors)
    _check_affinity(spec, errors)
    check_cluster_ips(spec, errors)
    for i, address in enumerate(spec.get("externalIPs") or ()):
        if check_ip(address, f"spec.externalIPs[{i}]", errors):
            check_non_special_ip(address, f"spec.externalIPs[{i}]", errors)
    if kind not in TYPES:
        errors.append(not_supported("spec.type", kind, TYPES) if kind else required("spec.type"))
    _check_port_uniqueness(kind, ports, errors)
    _check_source_ranges(spec, kind, annotations, errors)
    allocates = spec.get("allocateLoadBalancerNodePorts")
    if allocates is not None and kind != "LoadBalancer":
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'"))
    if allocates is None and kind == "LoadBalancer":
        errors.append(required("allocateLoadBalancerNodePorts"))
    _check_load_balancer_class(spec, None, errors)
    _check_traffic(spec, kind, errors)


def _check_by_type(spec: Object, kind: str, errors: Errors) -> None:
    if kind in ("LoadBalancer", "NodePort"):
        if is_headless(spec):
            errors.append(invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    elif kind == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                errors.append(forbidden_field(f"spec.{field}", "may not be set for ExternalName services"))
        name = spec.get("externalName", "").removesuffix(".")
        if name:
            check_dns1123_subdomain(name, "spec.externalName", errors)
        else:
            errors.append(required("spec.externalName"))


def _check_port(port: Object, name_required: bool, names: set[str], path: str, errors: Errors) -> None:
    name = port.get("name", "")
    if not name:
        if name_required:
            errors.append(required(f"{path}.name"))
    else:
        check_dns1123_label(name, f"{path}.name", errors)
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
    check_port(port.get("port", 0), f"{path}.port", errors)
    check_protocol(port.get("protocol", ""), f"{path}.protocol", errors)
    check_port_or_name(port.get("targetPort", 0), f"{path}.targetPort", errors)
    if "appProtocol" in port:
        check_qualified_name(port["appProtocol"], f"{path}.appProtocol", errors)


def _check_affinity(spec: Object, errors: Errors) -> None:
    affinity, config, path = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig"), "spec.sessionAffinityConfig"
    if affinity not in AFFINITIES:
        errors.append(not_supported("spec.sessionAffinity", affinity, AFFINITIES) if affinity else required("spec.sessionAffinity"))
    if affinity == "None" and config is not None:
        errors.append(forbidden_field(path, "must not be set when session affinity is None"))
    if affinity != "ClientIP":
        return
    why = "when session affinity type is ClientIP"
    client = (config or {}).get("clientIP")
    if config is None:
        errors.append(required(path, why))
    elif client is None:
        errors.append(required(f"{path}.clientIP", why))
    elif "timeoutSeconds" not in client:
        errors.append(required(f"{path}.clientIP.timeoutSeconds", why))
    elif not 0 < client["timeoutSeconds"] <= AFFINITY_TIMEOUT_SECONDS_MAX:
        detail = f"must be greater than 0 and less than {AFFINITY_TIMEOUT_SECONDS_MAX}"
        errors.append(invalid_value(f"{path}.clientIP.timeoutSeconds", client["timeoutSeconds"], detail))


def _shown_port(**fields: object) -> dict[str, object]:
    """A Go ServicePort of which only some fields are set."""
    return {"Name": "", "Protocol": "", "AppProtocol": None, "Port": 0, "TargetPort": 0, "NodePort": 0, **fields}


def _check_port_uniqueness(kind: str, ports: list[Object], errors: Errors) -> None:
    if kind == "ClusterIP":
        for i, port in enumerate(ports):
            if port.get("nodePort"):
                errors.append(forbidden_field(f"spec.ports[{i}].nodePort", "may not be used when `type` is 'ClusterIP'"))
    taken: set[tuple[str, int]] = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("nodePort", 0))
        if key[1]:
            if key in taken:
                errors.append(duplicate(f"spec.ports[{i}].nodePort", key[1]))
            taken.add(key)
    taken = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port", 0))
        if key in taken:
            errors.append(duplicate(f"spec.ports[{i}]", _shown_port(Protocol=key[0], Port=key[1])))
        taken.add(key)


def _check_source_ranges(spec: Object, kind: str, annotations: Object, errors: Errors) -> None:
    only = "may only be used when `type` is 'LoadBalancer'"
    ranges, path = spec.get("loadBalancerSourceRanges"), "spec.LoadBalancerSourceRanges"
    if ranges:
        if kind != "LoadBalancer":
            errors.append(forbidden_field(path, only))
        for i, value in enumerate(ranges):
            check_cidr(value.strip(), f"{path}[{i}]", errors)
    elif ANNOTATION_LOAD_BALANCER_SOURCE_RANGES in annotations:
        path = f"metadata.annotations[{ANNOTATION_LOAD_BALANCER_SOURCE_RANGES}]"
        if kind != "LoadBalancer":
            errors.append(forbidden_field(path, only))
        value = annotations[ANNOTATION_LOAD_BALANCER_SOURCE_RANGES].strip()
        for part in value.split(",") if value else ():
            check_cidr(part.strip(), path, errors)


def _check_load_balancer_class(spec: Object, old: Object | None, errors: Errors) -> None:
    name, balanced, path = spec.get("loadBalancerClass"), spec.get("type") == "LoadBalancer", "spec.loadBalancerClass"
    if old is not None:
        if balanced and old.get("type") == "LoadBalancer" and name != old.get("loadBalancerClass"):
            errors.append(invalid_value(path, name, "may not change once set"))
        return
    if name is not None:
        if balanced:
            check_qualified_name(name, path, errors)
        else:
            errors.append(forbidden_field(path, "may only be used when `type` is 'LoadBalancer'"))


def _check_traffic(spec: Object, kind: str, errors: Errors) -> None:
    external, path = spec.get("externalTrafficPolicy", ""), "spec.externalTrafficPolicy"
    if not is_externally_accessible(spec):
        if external:
            errors.append(invalid_value(path, external, "may only be set for externally-accessible services"))
    elif external not in TRAFFIC_POLICIES:
        errors.append(not_supported(path, external, TRAFFIC_POLICIES) if external else required(path))
    port, path = spec.get("healthCheckNodePort", 0), "spec.healthCheckNodePort"
    if not needs_health_check(spec):
        if port:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errors.append(invalid_value(path, port, detail))
    elif not port:
        errors.append(required(path))
    else:
        check_port(port, path, errors)
    internal, path = spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy"
    if internal is None:
        if kind in _WITH_CLUSTER_IP:
            errors.append(required(path))
    elif internal not in TRAFFIC_POLICIES:
        errors.append(not_supported(path, internal, TRAFFIC_POLICIES))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in TRAFFIC_DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", distribution, TRAFFIC_DISTRIBUTIONS))


class ServiceStatusStrategy(StatusStrategy):
    """services/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        path = "status.loadBalancer.ingress"
        entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        if entries and obj["spec"].get("type") != "LoadBalancer":
            errors.append(forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'"))
            return errors
        for i, entry in enumerate(entries):
            _check_ingress(entry, f"{path}[{i}]", errors)
        return errors


def _check_ingress(entry: Object, path: str, errors: Errors) -> None:
    address, mode, host = entry.get("ip"), entry.get("ipMode"), entry.get("hostname")
    if address:
        check_ip(address, f"{path}.ip", errors)
    if mode is None:
        if address:
            errors.append(required(f"{path}.ipMode", "must be specified when `ip` is set"))
    elif not address:
        errors.append(forbidden_field(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif mode not in ("Proxy", "VIP"):
        errors.append(not_supported(f"{path}.ipMode", mode, ("Proxy", "VIP")))
    if host:
        check_dns1123_subdomain(host, f"{path}.hostname", errors)
        if parse_ip(host) is not None:
            errors.append(invalid_value(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
