"""Validation of containers: regular, init and ephemeral."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, not_found_value, not_supported, required, too_long
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_label, check_port, is_port_name
from .env import check_env, check_env_from
from .handlers import check_lifecycle, check_probes
from .paths import check_local_path, has_backsteps
from .resources import check_requirements
from .security import check_security_context

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
RESTART_RULES_MAX = 20
MOUNT_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
RECURSIVE_READ_ONLY = ("Disabled", "Enabled", "IfPossible")
EPHEMERAL_FORBIDDEN = ("ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules", "livenessProbe", "readinessProbe",
                       "startupProbe", "lifecycle")  # fmt: skip
_NOT_FOR_INIT = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class PodContext:
    """What judging a container needs to know of its pod."""

    volumes: Mapping[str, Object]
    claims: Collection[str]
    grace_period: int | None
    restart_policy: str
    host_users: bool
    is_pod: bool


def check_containers(containers: Sequence[Object], pod: PodContext, path: str, errors: Errors) -> None:
    """spec.containers."""
    if not containers:
        errors.append(required(path))
        return
    names: set[str] = set()
    for i, container in enumerate(containers):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, pod, where, errors)
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        names.add(name)
        if "lifecycle" in container:
            check_lifecycle(container["lifecycle"], pod.grace_period, f"{where}.lifecycle", errors)
        check_probes(container, pod.grace_period, where, errors)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            _check_restart(container, where, errors)
    check_host_port_conflicts(containers, path, errors)


def check_init_containers(
    containers: Sequence[Object], regular: Sequence[Object], pod: PodContext, path: str, errors: Errors
) -> None:
    """spec.initContainers; those with restartPolicy Always are sidecars and may have probes."""
    names = {c.get("name", "") for c in regular}
    for i, container in enumerate(containers):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, pod, where, errors)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            _check_restart(container, where, errors)
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        elif name:
            names.add(name)
        check_host_port_conflicts([container], path, errors)
        if container.get("restartPolicy") == "Always":
            if "lifecycle" in container:
                check_lifecycle(container["lifecycle"], pod.grace_period, f"{where}.lifecycle", errors)
            check_probes(container, pod.grace_period, where, errors)
        else:
            for field in _NOT_FOR_INIT:
                if field in container:
                    errors.append(forbidden_field(f"{where}.{field}", "may not be set for init containers without restartPolicy=Always"))


def check_ephemeral_containers(spec: Object, pod: PodContext, path: str, errors: Errors) -> None:
    """spec.ephemeralContainers: debugging aids that may not promise anything."""
    others = {c.get("name", "") for field in ("containers", "initContainers") for c in spec.get(field) or ()}
    names = set(others)
    for i, container in enumerate(spec["ephemeralContainers"]):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, pod, where, errors)
        check_image_whitespace(container, where, errors)
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        names.add(name)
        target = container.get("targetContainerName")
        if target and target not in others:
            errors.append(not_found_value(f"{where}.targetContainerName", target))
        for field in EPHEMERAL_FORBIDDEN:
            if container.get(field):
                errors.append(forbidden_field(f"{where}.{field}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    errors.append(forbidden_field(f"{where}.volumeMounts[{j}].{field}", "cannot be set for an Ephemeral Container"))


def check_image_whitespace(container: Object, path: str, errors: Errors) -> None:
    """Pods, unlike templates, may not pad their images."""
    image = container.get("image", "")
    if image and (image[0].isspace() or image[-1].isspace()):
        errors.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))


def _check_common(container: Object, pod: PodContext, path: str, errors: Errors) -> None:
    name = container.get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        check_dns1123_label(name, f"{path}.name", errors)
    if not container.get("image"):
        errors.append(required(f"{path}.image"))
    policy = container.get("terminationMessagePolicy", "")
    if policy not in MESSAGE_POLICIES:
        if policy:
            errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, MESSAGE_POLICIES))
        else:
            errors.append(required(f"{path}.terminationMessagePolicy"))
    if "ports" in container:
        _check_ports(container["ports"], f"{path}.ports", errors)
    if "env" in container:
        check_env(container["env"], f"{path}.env", errors)
    if "envFrom" in container:
        check_env_from(container["envFrom"], f"{path}.envFrom", errors)
    if "volumeMounts" in container:
        _check_mounts(container, pod.volumes, f"{path}.volumeMounts", errors)
    if "volumeDevices" in container:
        _check_devices(container, pod.volumes, f"{path}.volumeDevices", errors)
    check_pull_policy(container.get("imagePullPolicy", ""), f"{path}.imagePullPolicy", errors)
    if container.get("resources"):
        check_requirements(container["resources"], pod.claims, f"{path}.resources", errors)
    if "resizePolicy" in container:
        _check_resize_policy(container["resizePolicy"], pod.restart_policy, f"{path}.resizePolicy", errors)
    if "securityContext" in container:
        check_security_context(container["securityContext"], f"{path}.securityContext", errors, host_users=pod.host_users)


def check_pull_policy(policy: str, path: str, errors: Errors) -> None:
    if policy not in PULL_POLICIES:
        errors.append(not_supported(path, policy, PULL_POLICIES) if policy else required(path))


def _check_ports(ports: Sequence[Object], path: str, errors: Errors) -> None:
    names: set[str] = set()
    for i, port in enumerate(ports):
        where, name = f"{path}[{i}]", port.get("name")
        if name:
            complaints = is_port_name(name)
            for complaint in complaints:
                errors.append(invalid_value(f"{where}.name", name, complaint))
            if not complaints:
                if name in names:
                    errors.append(duplicate(f"{where}.name", name))
                names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            errors.append(required(f"{where}.containerPort"))
        elif not 1 <= number <= 65535:
            check_port(number, f"{where}.containerPort", errors)
        if port.get("hostPort"):
            check_port(port["hostPort"], f"{where}.hostPort", errors)
        check_protocol(port.get("protocol", ""), f"{where}.protocol", errors)


def check_protocol(protocol: str, path: str, errors: Errors) -> None:
    if protocol not in PROTOCOLS:
        errors.append(not_supported(path, protocol, PROTOCOLS) if protocol else required(path))


def check_host_port_conflicts(containers: Sequence[Object], path: str, errors: Errors) -> None:
    taken: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            number = port.get("hostPort")
            if not number:
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{number}"
            if key in taken:
                errors.append(duplicate(f"{path}[{i}].ports[{j}].hostPort", key))
            taken.add(key)


def _check_mounts(container: Object, volumes: Mapping[str, Object], path: str, errors: Errors) -> None:
    devices = {d.get("name", ""): d.get("devicePath", "") for d in container.get("volumeDevices") or ()}
    paths: set[str] = set()
    for i, mount in enumerate(container["volumeMounts"]):
        where, name, target = f"{path}[{i}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{where}.name"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(not_found_value(f"{where}.name", name))
        if not target:
            errors.append(required(f"{where}.mountPath"))
        if target in paths:
            errors.append(invalid_value(f"{where}.mountPath", target, "must be unique"))
        paths.add(target)
        if devices:
            if name in devices:
                errors.append(invalid_value(f"{where}.name", name, "must not already exist in volumeDevices"))
            if target in devices.values():
                errors.append(invalid_value(f"{where}.mountPath", target, "must not already exist as a path in volumeDevices"))
        if len(mount) > 2:
            _check_mount_options(mount, volume, container, where, path, errors)


def _check_mount_options(mount: Object, volume: Object | None, container: Object, where: str, path: str, errors: Errors) -> None:
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        check_local_path(sub, f"{path}.subPath", errors)
    if expression:
        if sub:
            errors.append(invalid_value(f"{where}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive"))
        check_local_path(expression, f"{path}.subPathExpr", errors)
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in MOUNT_PROPAGATIONS:
            errors.append(not_supported(f"{path}.mountPropagation", propagation, MOUNT_PROPAGATIONS))
        if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden_field(f"{path}.mountPropagation", detail))
    recursive = mount.get("recursiveReadOnly")
    if recursive is None or recursive == "Disabled":
        return
    if recursive not in RECURSIVE_READ_ONLY:
        errors.append(not_supported(f"{path}.recursiveReadOnly", recursive, RECURSIVE_READ_ONLY))
        return
    if not mount.get("readOnly"):
        errors.append(forbidden_field(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true"))
    if propagation not in (None, "None"):
        detail = "may only be specified when mountPropagation is None or not specified"
        errors.append(forbidden_field(f"{path}.recursiveReadOnly", detail))


def _check_devices(container: Object, volumes: Mapping[str, Object], path: str, errors: Errors) -> None:
    mounts = {m.get("name", ""): m.get("mountPath", "") for m in container.get("volumeMounts") or ()}
    names: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(container["volumeDevices"]):
        where, name, target = f"{path}[{i}]", device.get("name", ""), device.get("devicePath", "")
        volume = volumes.get(name)
        if not name:
            errors.append(required(f"{where}.name"))
        if name in names:
            errors.append(invalid_value(f"{where}.name", name, "must be unique"))
        if volume is None:
            errors.append(not_found_value(f"{where}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_value(f"{where}.name", name, detail))
        if not target:
            errors.append(required(f"{where}.devicePath"))
        if target in paths:
            errors.append(invalid_value(f"{where}.devicePath", target, "must be unique"))
        if target and has_backsteps(target):
            errors.append(invalid_value(f"{where}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths.add(target)
        if name in mounts:
            errors.append(invalid_value(f"{where}.name", name, "must not already exist in volumeMounts"))
        if target in mounts.values():
            errors.append(invalid_value(f"{where}.devicePath", target, "must not already exist as a path in volumeMounts"))
        if name:
            names.add(name)


_RESIZE_RESOURCES = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")


def _check_resize_policy(policies: Sequence[Object], pod_restart_policy: str, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, entry in enumerate(policies):
        name, policy = entry.get("resourceName", ""), entry.get("restartPolicy", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)
        if name not in _RESIZE_RESOURCES:
            errors.append(not_supported(path, name, _RESIZE_RESOURCES) if name else required(path))
        if policy not in _RESIZE_POLICIES:
            errors.append(not_supported(path, policy, _RESIZE_POLICIES) if policy else required(path))
        if pod_restart_policy == "Never" and policy != "NotRequired":
            errors.append(invalid_value(path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))


def _check_restart(container: Object, path: str, errors: Errors) -> None:
    """restartPolicy and restartPolicyRules of a container (ContainerRestartRules)."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is None:
        if rules:
            errors.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
        return
    if policy not in RESTART_POLICIES:
        errors.append(not_supported(f"{path}.restartPolicy", policy, RESTART_POLICIES))
    if len(rules) > RESTART_RULES_MAX:
        errors.append(too_long(f"{path}.restartPolicyRules", RESTART_RULES_MAX))
    for i, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{i}]"
        if rule.get("action", "") not in ("Restart", "RestartAllContainers"):
            errors.append(not_supported(f"{where}.action", rule.get("action", ""), ("Restart", "RestartAllContainers")))
        codes = rule.get("exitCodes")
        if codes is None:
            errors.append(required(f"{where}.exitCodes", "must be specified"))
        elif codes.get("operator", "") not in ("In", "NotIn"):
            errors.append(not_supported(f"{where}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn")))
