"""Ingresses and IngressClasses. Imitates pkg/apis/networking validation, defaults and strategies."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required, too_long
from kubecosm.api.names import ANNOTATION_INGRESS_CLASS
from kubecosm.api.resources import Object

from ..formats import (
    Errors,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_domain_prefixed_path,
    check_immutable,
    check_port,
    is_path_segment,
    is_port_name,
    is_wildcard_subdomain,
    parse_ip,
)
from ..strategy import SpecStrategy, Strategy

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
CONTROLLER_MAX = 250
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")


class IngressStrategy(Strategy):
    """An Ingress as users create and update it."""

    def default(self, obj: Object) -> None:
        obj.setdefault("spec", {})
        obj.setdefault("status", {}).setdefault("loadBalancer", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        annotation, name = (obj["metadata"].get("annotations") or {}).get(ANNOTATION_INGRESS_CLASS), spec.get("ingressClassName")
        if annotation is not None and name is not None and annotation != name:
            detail = "must match `ingressClassName` when both are specified"
            errors.append(invalid_value(f"metadata.annotations.{ANNOTATION_INGRESS_CLASS}", annotation, detail))
        _check_spec(spec, errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], errors)
        return errors


def _check_spec(spec: Object, errors: Errors) -> None:
    rules, backend = spec.get("rules") or (), spec.get("defaultBackend")
    if not rules and backend is None:
        errors.append(invalid_value("spec", [] if "rules" in spec else None, "either `defaultBackend` or `rules` must be specified"))
    if backend is not None:
        _check_backend(backend, "spec.defaultBackend", errors)
    for i, rule in enumerate(rules):
        _check_rule(rule, f"spec.rules[{i}]", errors)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            _check_host(host, f"spec.tls[{i}].hosts[{j}]", errors)
        if tls.get("secretName"):
            check_dns1123_subdomain(tls["secretName"], f"spec.tls[{i}].secretName", errors)
    if "ingressClassName" in spec:
        check_dns1123_subdomain(spec["ingressClassName"], "spec.ingressClassName", errors)


def _check_host(host: str, path: str, errors: Errors) -> None:
    if "*" in host:
        for complaint in is_wildcard_subdomain(host):
            errors.append(invalid_value(path, host, complaint))
    else:
        check_dns1123_subdomain(host, path, errors)


def _check_rule(rule: Object, path: str, errors: Errors) -> None:
    host = rule.get("host")
    if host:
        if parse_ip(host) is not None:
            errors.append(invalid_value(f"{path}.host", host, "must be a DNS name, not an IP address"))
        _check_host(host, f"{path}.host", errors)
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        errors.append(required(f"{path}.http.paths"))
    for i, entry in enumerate(http.get("paths") or ()):
        _check_path(entry, f"{path}.http.paths[{i}]", errors)


def _check_path(entry: Object, path: str, errors: Errors) -> None:
    kind, text = entry.get("pathType"), entry.get("path", "")
    if kind is None:
        errors.append(required(f"{path}.pathType", "pathType must be specified"))
        return
    where = f"{path}.path"
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            errors.append(invalid_value(where, text, "must be an absolute path"))
        for bad in _BAD_SEQUENCES:
            if bad in text:
                errors.append(invalid_value(where, text, f"must not contain '{bad}'"))
        for bad in _BAD_SUFFIXES:
            if text.endswith(bad):
                errors.append(invalid_value(where, text, f"cannot end with '{bad}'"))
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            errors.append(invalid_value(where, text, "must be an absolute path"))
    else:
        errors.append(not_supported(f"{path}.pathType", kind, PATH_TYPES))
    _check_backend(entry.get("backend") or {}, f"{path}.backend", errors)


def _check_backend(backend: Object, path: str, errors: Errors) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        errors.append(invalid_value(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        check_typed_reference(resource, f"{path}.resource", errors)
    elif service is not None:
        _check_service(service, path, errors)
    else:
        errors.append(invalid_value(path, "", "resource or service backend is required"))


def _check_service(service: Object, path: str, errors: Errors) -> None:
    if not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    else:
        check_dns1123_label(service["name"], f"{path}.service.name", errors)
    port = service.get("port") or {}
    name, number = port.get("name"), port.get("number")
    if name and number:
        errors.append(invalid_value(path, "", "cannot set both port name & port number"))
    elif name:
        for complaint in is_port_name(name):
            errors.append(invalid_value(f"{path}.service.port.name", name, complaint))
    elif number:
        check_port(number, f"{path}.service.port.number", errors)
    else:
        errors.append(required(path, "port name or number is required"))


def check_typed_reference(reference: Object, path: str, errors: Errors) -> None:
    """A reference by group, kind and name (validateIngressTypedLocalObjectReference)."""
    if reference.get("apiGroup"):
        check_dns1123_subdomain(reference["apiGroup"], f"{path}.apiGroup", errors)
    for field in ("kind", "name"):
        value = reference.get(field)
        if not value:
            errors.append(required(f"{path}.{field}", f"{field} is required"))
        else:
            for complaint in is_path_segment(value):
                errors.append(invalid_value(f"{path}.{field}", value, complaint))


class IngressClassStrategy(SpecStrategy):
    """An IngressClass."""

    def default(self, obj: Object) -> None:
        parameters = obj.setdefault("spec", {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        controller = obj["spec"].get("controller", "")
        if len(controller) > CONTROLLER_MAX:
            errors.append(too_long("spec.controller", CONTROLLER_MAX))
        check_domain_prefixed_path(controller, "spec.controller", errors)
        if "parameters" in obj["spec"]:
            _check_parameters(obj["spec"]["parameters"], "spec.parameters", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_immutable(obj["spec"].get("controller", ""), old["spec"].get("controller", ""), "spec.controller", errors)
        return errors + self.validate(obj)


def _check_parameters(parameters: Object, path: str, errors: Errors) -> None:
    check_typed_reference(parameters, path, errors)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        errors.append(required(f"{path}.scope"))
        return
    if scope not in ("Cluster", "Namespace"):
        errors.append(not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
        return
    if scope == "Namespace":
        if not namespace:
            errors.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            check_dns1123_label(namespace, f"{path}.namespace", errors)
    elif namespace is not None:
        errors.append(forbidden_field(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
