"""Validation of security contexts of pods and containers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_subdomain, is_user_or_group_id
from ..gotypes import dump
from .paths import check_local_path

PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
PROC_MOUNTS = ("Default", "Unmasked")
SECCOMP_POD_ANNOTATION = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER_ANNOTATION = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
LOCALHOST_PREFIX = "localhost/"
APPARMOR_PROFILE_MAX = 4095

_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_SYSCTL_SHOWN = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL_MAX = 253
_IPC_SYSCTLS = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")


def containers_of(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    """Every container with its path: init, regular, ephemeral (VisitContainersWithPath)."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            yield container, f"{path}.{field}[{i}]"


def _check_id(context: Object, field: str, path: str, errors: Errors) -> None:
    value = context.get(field)
    if value is not None:
        for complaint in is_user_or_group_id(value):
            errors.append(invalid_value(f"{path}.{field}", value, complaint))


def check_pod_security_context(context: Object, host_pid: bool, path: str, errors: Errors, spec: Object) -> None:
    """spec.securityContext of a pod (validatePodSpecSecurityContext)."""
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        _check_id(context, field, path, errors)
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        for complaint in is_user_or_group_id(group):
            errors.append(invalid_value(f"{path}.supplementalGroups[{i}]", group, complaint))
    if host_pid and spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{path}.shareProcessNamespace", True, detail))
    if context.get("sysctls"):
        _check_sysctls(context["sysctls"], spec, f"{path}.sysctls", errors)
    _check_choice(context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), path, errors)
    _check_profiles(context, path, errors)
    _check_choice(context, "supplementalGroupsPolicy", ("Merge", "Strict"), path, errors)
    _check_choice(context, "seLinuxChangePolicy", ("MountOption", "Recursive"), path, errors)


def _check_choice(context: Object, field: str, allowed: Sequence[str], path: str, errors: Errors) -> None:
    value = context.get(field)
    if value is not None and value not in allowed:
        errors.append(not_supported(f"{path}.{field}", value, allowed))


def _check_profiles(context: Object, path: str, errors: Errors) -> None:
    if "seccompProfile" in context:
        _check_seccomp(context["seccompProfile"], f"{path}.seccompProfile", errors)
    if "windowsOptions" in context:
        _check_windows_options(context["windowsOptions"], f"{path}.windowsOptions", errors)
    if "appArmorProfile" in context:
        _check_apparmor(context["appArmorProfile"], f"{path}.appArmorProfile", errors)


def _check_sysctls(sysctls: Iterable[Object], spec: Object, path: str, errors: Errors) -> None:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        where, name = f"{path}[{i}].name", sysctl.get("name", "")
        if not name:
            errors.append(required(where))
        elif len(name) > _SYSCTL_MAX or not _SYSCTL.fullmatch(name):
            errors.append(invalid_value(where, name, f"must have at most {_SYSCTL_MAX} characters and match regex {_SYSCTL_SHOWN}"))
        elif name in seen:
            errors.append(duplicate(where, name))
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(invalid_value(where, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and dotted.startswith(_IPC_SYSCTLS):
            errors.append(invalid_value(where, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)


def check_security_context(context: Object, path: str, errors: Errors, *, host_users: bool) -> None:
    """securityContext of a container (ValidateSecurityContext)."""
    _check_id(context, "runAsUser", path, errors)
    _check_id(context, "runAsGroup", path, errors)
    mount = context.get("procMount")
    if mount is not None:
        if mount not in PROC_MOUNTS:
            errors.append(not_supported(f"{path}.procMount", mount, PROC_MOUNTS))
        if host_users and mount == "Unmasked":
            errors.append(invalid_value(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    if "seccompProfile" in context:
        _check_seccomp(context["seccompProfile"], f"{path}.seccompProfile", errors)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_value(path, dump("SecurityContext", context), detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_value(path, dump("SecurityContext", context), detail))
    if "windowsOptions" in context:
        _check_windows_options(context["windowsOptions"], f"{path}.windowsOptions", errors)
    if "appArmorProfile" in context:
        _check_apparmor(context["appArmorProfile"], f"{path}.appArmorProfile", errors)


def _check_seccomp(profile: Object, path: str, errors: Errors) -> None:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in PROFILE_TYPES:
        errors.append(not_supported(f"{path}.type", kind, PROFILE_TYPES))
    if kind == "Localhost":
        if local is None:
            errors.append(required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            check_local_path(local, f"{path}.localhostProfile", errors)
    elif local is not None:
        shown = dump("SeccompProfile", profile)
        errors.append(invalid_value(f"{path}.localhostProfile", shown, "can only be set when seccomp type is Localhost"))


def _check_apparmor(profile: Object, path: str, errors: Errors) -> None:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    where = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None or not local.strip():
            if local is not None and local != local.strip():
                errors.append(invalid_value(where, local, "must not be padded with whitespace"))
            else:
                errors.append(required(where, "must be set when AppArmor type is Localhost"))
        elif local != local.strip():
            errors.append(invalid_value(where, local, "must not be padded with whitespace"))
        if local is not None and len(local) > APPARMOR_PROFILE_MAX:
            errors.append(too_long(where, APPARMOR_PROFILE_MAX))
    elif kind in PROFILE_TYPES:
        if local is not None:
            errors.append(invalid_value(where, local, "can only be set when AppArmor type is Localhost"))
    elif not kind:
        errors.append(required(f"{path}.type", "type is required when appArmorProfile is set"))
    else:
        errors.append(not_supported(f"{path}.type", kind, PROFILE_TYPES))


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DNS = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*")
_BAD_USER = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS = re.compile(r"[. ]+")
_CREDENTIAL_SPEC_MAX = 64 * 1024


def _check_windows_options(options: Object, path: str, errors: Errors) -> None:
    if "gmsaCredentialSpecName" in options:
        check_dns1123_subdomain(options["gmsaCredentialSpecName"], f"{path}.gmsaCredentialSpecName", errors)
    spec = options.get("gmsaCredentialSpec")
    if spec == "":
        errors.append(invalid_value(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec cannot be an empty string"))
    elif spec is not None and len(spec) > _CREDENTIAL_SPEC_MAX:
        errors.append(invalid_value(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec size must be under 64 KiB"))
    user = options.get("runAsUserName")
    if user is not None:
        for detail in _user_complaints(user):
            errors.append(invalid_value(f"{path}.runAsUserName", user, f"runAsUserName{detail}"))


def _user_complaints(name: str) -> list[str]:
    if not name:
        return [" cannot be an empty string"]
    if _CONTROL.search(name):
        return [" cannot contain control characters"]
    if name.count("\\") > 1:
        return [" cannot contain more than one backslash"]
    domain, backslash, user = name.rpartition("\\")
    complaints = []
    if len(domain) >= 256:
        complaints.append("'s Domain length must be under 256 characters")
    if backslash and not (_NETBIOS.fullmatch(domain) or _DNS.fullmatch(domain)):
        complaints.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        complaints.append("'s User cannot be empty")
    elif len(user) > 104:
        complaints.append("'s User length must not be longer than 104 characters")
    if _DOTS.fullmatch(user):
        complaints.append("'s User cannot contain only periods or spaces")
    if _BAD_USER.search(user):
        complaints.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return complaints


def check_windows_host_process(spec: Object, path: str, errors: Errors) -> None:
    """HostProcess containers come all together, on the host network (validateWindowsHostProcessPod)."""
    context = spec.get("securityContext") or {}
    of_pod = (context.get("windowsOptions") or {}).get("hostProcess")
    total = hosted = 0
    for container, where in containers_of(spec, path):
        total += 1
        own = ((container.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
        if of_pod is not None and own is not None and of_pod != own:
            shown = "true" if of_pod else "false"
            detail = f"pod hostProcess value must be identical if both are specified, was {shown}"
            errors.append(invalid_value(f"{where}.securityContext.windowsOptions.hostProcess", own, detail))
        hosted += bool(of_pod if own is None else own)
    if not hosted:
        return
    if hosted != total:
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid_value(path, "", detail))
    if not spec.get("hostNetwork"):
        errors.append(invalid_value(f"{path}.hostNetwork", False, "hostNetwork must be true if pod contains any hostProcess containers"))


def check_host_users(spec: Object, path: str, errors: Errors) -> None:
    """A user namespace cannot be shared with the host's other namespaces."""
    if spec.get("hostUsers") is not False:
        return
    for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(field):
            errors.append(forbidden_field(f"{path}.{shown}", "when `hostUsers` is false"))


_WINDOWS_POD_FIELDS = (
    "securityContext.appArmorProfile", "securityContext.seLinuxOptions", "hostUsers", "hostPID", "hostIPC",
    "securityContext.seccompProfile", "securityContext.fsGroup", "securityContext.fsGroupChangePolicy", "securityContext.sysctls",
    "shareProcessNamespace", "securityContext.runAsUser", "securityContext.runAsGroup", "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy", "securityContext.seLinuxChangePolicy",
)  # fmt: skip
_WINDOWS_CONTAINER_FIELDS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip


def check_os(spec: Object, path: str, errors: Errors) -> None:
    """spec.os, and the fields that the other operating system does not know."""
    name = spec["os"].get("name")
    if not name:
        errors.append(required(f"{path}.os.name", "cannot be empty"))
    elif name not in ("linux", "windows"):
        errors.append(not_supported(f"{path}.os", name, ("linux", "windows")))
    elif name == "linux":
        detail = "windows options cannot be set for a linux pod"
        if "windowsOptions" in (spec.get("securityContext") or {}):
            errors.append(forbidden_field(f"{path}.securityContext.windowsOptions", detail))
        for container, where in containers_of(spec, path):
            if "windowsOptions" in (container.get("securityContext") or {}):
                errors.append(forbidden_field(f"{where}.securityContext.windowsOptions", detail))
    else:
        _check_windows(spec, path, errors)


def _check_windows(spec: Object, path: str, errors: Errors) -> None:
    detail = "cannot be set for a windows pod"
    context = spec.get("securityContext") or {}
    for field in _WINDOWS_POD_FIELDS:
        inner = field.removeprefix("securityContext.")
        holder = context if inner != field else spec
        if holder.get(inner) not in (None, False, []) or (inner in ("hostUsers", "shareProcessNamespace") and inner in holder):
            errors.append(forbidden_field(f"{path}.{field}", detail))
    for container, where in containers_of(spec, path):
        own = container.get("securityContext") or {}
        for field in _WINDOWS_CONTAINER_FIELDS:
            if field in own:
                errors.append(forbidden_field(f"{where}.securityContext.{field}", detail))


def check_seccomp_annotations(annotations: Object, path: str, errors: Errors) -> None:
    """The deprecated annotations must name a profile."""
    for key, value in annotations.items():
        if key != SECCOMP_POD_ANNOTATION and not key.startswith(SECCOMP_CONTAINER_ANNOTATION):
            continue
        if value.startswith(LOCALHOST_PREFIX):
            check_local_path(value.removeprefix(LOCALHOST_PREFIX), f"{path}.{key}", errors)
        elif value not in ("runtime/default", "docker/default", "unconfined"):
            errors.append(invalid_value(f"{path}.{key}", value, "must be a valid seccomp profile"))


def check_apparmor_annotations(annotations: Object, spec: Object, path: str, errors: Errors) -> None:
    for key, value in annotations.items():
        if not key.startswith(APPARMOR_ANNOTATION):
            continue
        name = key.removeprefix(APPARMOR_ANNOTATION)
        if not any(container.get("name") == name for container, _ in containers_of(spec, "")):
            errors.append(invalid_value(f"{path}[{key}]", name, "container not found"))
        if value not in ("", "runtime/default", "unconfined") and not value.startswith(LOCALHOST_PREFIX):
            errors.append(invalid_value(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{value}"'))


def check_profiles_match_annotations(annotations: Object, spec: Object, path: str, errors: Errors) -> None:
    """Fields and the deprecated annotations may not contradict each other."""
    context = spec.get("securityContext") or {}
    found: list[FieldError] = []
    if "seccompProfile" in context and SECCOMP_POD_ANNOTATION in annotations:
        _match("seccomp", context["seccompProfile"], annotations[SECCOMP_POD_ANNOTATION], f"{path}.securityContext.seccompProfile", found)
    for container, where in containers_of(spec, path):
        own = (container.get("securityContext") or {}).get("seccompProfile")
        value = annotations.get(SECCOMP_CONTAINER_ANNOTATION + container.get("name", ""))
        if own is not None and value is not None:
            _match("seccomp", own, value, f"{where}.securityContext.seccompProfile", found)
    if (spec.get("os") or {}).get("name") != "windows":
        for container, where in containers_of(spec, path):
            profile = (container.get("securityContext") or {}).get("appArmorProfile", context.get("appArmorProfile"))
            value = annotations.get(APPARMOR_ANNOTATION + container.get("name", ""))
            if profile is not None and value is not None:
                _match("apparmor", profile, value, f"{where}.securityContext.appArmorProfile", found)
    errors.extend(found)


def _match(what: str, profile: Object, annotation: str, path: str, errors: Errors) -> None:
    kind = profile.get("type")
    expected = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}.get(kind or "")
    if kind == "Localhost":
        if not annotation.startswith(LOCALHOST_PREFIX):
            errors.append(forbidden_field(f"{path}.type", f"{what} type in annotation and field must match"))
        elif profile.get("localhostProfile") != annotation.removeprefix(LOCALHOST_PREFIX):
            errors.append(forbidden_field(f"{path}.localhostProfile", f"{what} profile in annotation and field must match"))
    elif expected is not None and annotation not in expected:
        errors.append(forbidden_field(f"{path}.type", f"{what} type in annotation and field must match"))
