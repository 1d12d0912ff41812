"""Validation of probes and lifecycle hooks."""

from __future__ import annotations

from kubecosm.api.field import forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import NEGATIVE, Errors, check_port, check_port_or_name, is_http_header

HTTP_SCHEMES = ("HTTP", "HTTPS")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_LIFECYCLE_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def check_probes(container: Object, grace_period: int | None, path: str, errors: Errors) -> None:
    """Liveness, readiness and startup probe."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is None:
            continue
        where = f"{path}.{name}"
        _check_probe(probe, grace_period, where, errors)
        if name == "readinessProbe":
            if "terminationGracePeriodSeconds" in probe:
                detail = "must not be set for readinessProbes"
                errors.append(invalid_value(f"{where}.terminationGracePeriodSeconds", probe["terminationGracePeriodSeconds"], detail))
        elif probe.get("successThreshold", 0) != 1:
            errors.append(invalid_value(f"{where}.successThreshold", probe.get("successThreshold", 0), "must be 1"))


def _check_probe(probe: Object, grace_period: int | None, path: str, errors: Errors) -> None:
    _check_handler(probe, _PROBE_HANDLERS, grace_period, path, errors)
    for field in _PROBE_NUMBERS:
        value = probe.get(field, 0)
        if value < 0:
            errors.append(invalid_value(f"{path}.{field}", value, NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))


def check_lifecycle(lifecycle: Object, grace_period: int | None, path: str, errors: Errors) -> None:
    """postStart and preStop."""
    for name in ("postStart", "preStop"):
        if name in lifecycle:
            _check_handler(lifecycle[name], _LIFECYCLE_HANDLERS, grace_period, f"{path}.{name}", errors)


def _check_handler(handler: Object, kinds: tuple[str, ...], grace_period: int | None, path: str, errors: Errors) -> None:
    found = False
    for kind in kinds:
        action = handler.get(kind)
        if action is None:
            continue
        where = f"{path}.{kind}"
        if found:
            errors.append(forbidden_field(where, "may not specify more than 1 handler type"))
            continue
        found = True
        if kind == "exec":
            if not action.get("command"):
                errors.append(required(f"{where}.command"))
        elif kind == "httpGet":
            _check_http_get(action, where, errors)
        elif kind == "tcpSocket":
            check_port_or_name(action.get("port", 0), f"{where}.port", errors)
        elif kind == "grpc":
            check_port(action.get("port", 0), f"{where}.port", errors)
        else:
            _check_sleep(action.get("seconds", 0), grace_period, where, errors)
    if not found:
        errors.append(required(path, "must specify a handler type"))


def _check_http_get(action: Object, path: str, errors: Errors) -> None:
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    check_port_or_name(action.get("port", 0), f"{path}.port", errors)
    if action.get("scheme", "") not in HTTP_SCHEMES:
        errors.append(not_supported(f"{path}.scheme", action.get("scheme", ""), HTTP_SCHEMES))
    for header in action.get("httpHeaders") or ():
        for complaint in is_http_header(header.get("name", "")):
            errors.append(invalid_value(f"{path}.httpHeaders", header.get("name", ""), complaint))


def _check_sleep(seconds: int, grace_period: int | None, path: str, errors: Errors) -> None:
    if grace_period is not None and (seconds < 0 or seconds > grace_period):
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
        errors.append(invalid_value(path, seconds, detail))
