"""Validation of environment variables and the field references they and downward API volumes make."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kubecosm.api.field import invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check, check_qualified_name, is_config_key, is_dns1123_subdomain, is_env_name, mask_trailing_dash
from .resources import amount

ENV_FIELD_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
VOLUME_FIELD_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
RESOURCE_FIELDS = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_HUGE_PAGE_FIELDS = ("requests.hugepages-", "limits.hugepages-")
_KNOWN_FIELD_LABELS = frozenset((
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
))  # fmt: skip
_SUBSCRIPT = re.compile(r"(.*?)\['(.*)'\]", re.DOTALL)

_MEMORY_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_VALUE_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_NO_SOURCE = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"


def check_env(variables: Sequence[Object], path: str, errors: Errors) -> None:
    """A container's env."""
    for i, variable in enumerate(variables):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            check(is_env_name(name), name, f"{path}[{i}].name", errors)
        if "valueFrom" in variable:
            _check_value_from(variable, f"{path}[{i}].valueFrom", errors)


def _check_value_from(variable: Object, path: str, errors: Errors) -> None:
    source = variable["valueFrom"]
    if "fieldRef" in source:
        check_field_ref(source["fieldRef"], ENV_FIELD_PATHS, f"{path}.fieldRef", errors)
    if "resourceFieldRef" in source:
        check_resource_field_ref(source["resourceFieldRef"], f"{path}.resourceFieldRef", errors, in_volume=False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            _check_key_selector(source[kind], f"{path}.{kind}", errors)
    if "fileKeyRef" in source:
        _check_file_key(source["fileKeyRef"], f"{path}.fileKeyRef", errors)
    count = sum(kind in source for kind in _VALUE_SOURCES)
    if not count:
        errors.append(invalid_value(path, "", _NO_SOURCE))
    elif variable.get("value"):
        errors.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))


def _check_key_selector(selector: Object, path: str, errors: Errors) -> None:
    name, key = selector.get("name", ""), selector.get("key")
    check(is_dns1123_subdomain(name), name, f"{path}.name", errors)
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        check(is_config_key(key), key, f"{path}.key", errors)


def _check_file_key(selector: Object, path: str, errors: Errors) -> None:
    for field in ("volumeName", "path", "key"):
        if not selector.get(field):
            errors.append(required(f"{path}.{field}"))


def check_field_ref(reference: Object, field_paths: Sequence[str], path: str, errors: Errors) -> None:
    """An ObjectFieldSelector (validateObjectFieldSelector)."""
    if not reference.get("apiVersion"):
        errors.append(required(f"{path}.apiVersion"))
        return
    field = reference.get("fieldPath")
    if not field:
        errors.append(required(f"{path}.fieldPath"))
        return
    match = _SUBSCRIPT.fullmatch(field)
    base = match[1] if match else field
    unknown = _label_conversion_error(reference["apiVersion"], field, base, has_subscript=match is not None)
    if unknown:
        errors.append(invalid_value(f"{path}.fieldPath", field, f"error converting fieldPath: {unknown}"))
    elif match is None:
        if base not in field_paths:
            errors.append(not_supported(f"{path}.fieldPath", base, field_paths))
    elif base == "metadata.annotations":
        check_qualified_name(match[2].lower(), path, errors)
    elif base == "metadata.labels":
        check_qualified_name(match[2], path, errors)
    else:
        errors.append(invalid_value(path, base, "does not support subscript"))


def _label_conversion_error(version: str, field: str, base: str, *, has_subscript: bool) -> str:
    """ConvertDownwardAPIFieldLabel of pkg/apis/core/pods; empty if the field is known."""
    if version != "v1":
        return f"unsupported pod version: {version}"
    if has_subscript:
        if base in ("metadata.annotations", "metadata.labels"):
            return ""
        return f"field label does not support subscript: {field}"
    return "" if base in _KNOWN_FIELD_LABELS or base == "spec.host" else f"field label not supported: {field}"


def check_resource_field_ref(reference: Object, path: str, errors: Errors, *, in_volume: bool) -> None:
    """A ResourceFieldSelector (validateContainerResourceFieldSelector)."""
    resource = reference.get("resource", "")
    if in_volume and not reference.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in RESOURCE_FIELDS and not resource.startswith(_HUGE_PAGE_FIELDS):
        errors.append(not_supported(f"{path}.resource", resource, RESOURCE_FIELDS))
    divisor = reference.get("divisor", "0")
    if amount(divisor).nanos:
        _check_divisor(resource, divisor, f"{path}.divisor", errors)


def _check_divisor(resource: str, divisor: str, path: str, errors: Errors) -> None:
    what, allowed = "", _MEMORY_DIVISORS
    if resource in ("limits.cpu", "requests.cpu"):
        if divisor not in ("1m", "1"):
            errors.append(invalid_value(path, resource, "only divisor's values 1m and 1 are supported with the cpu resource"))
        return
    if resource in ("limits.memory", "requests.memory"):
        what = "memory"
    elif resource in ("limits.ephemeral-storage", "requests.ephemeral-storage"):
        what = "local ephemeral storage"
    elif resource.startswith(_HUGE_PAGE_FIELDS):
        what = "hugepages"
    if what and divisor not in allowed:
        detail = f"only divisor's values {', '.join(allowed)} are supported with the {what} resource"
        errors.append(invalid_value(path, resource, detail))


def check_env_from(sources: Sequence[Object], path: str, errors: Errors) -> None:
    """A container's envFrom."""
    for i, source in enumerate(sources):
        prefix = source.get("prefix")
        if prefix:
            check(is_env_name(prefix), prefix, f"{path}[{i}].prefix", errors)
        count = 0
        for kind in ("configMapRef", "secretRef"):
            if kind in source:
                count += 1
                _check_env_source(source[kind], f"{path}[{i}].{kind}", errors)
        if not count:
            errors.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))


def _check_env_source(source: Object, path: str, errors: Errors) -> None:
    name = source.get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        check(is_dns1123_subdomain(mask_trailing_dash(name)), name, f"{path}.name", errors)
