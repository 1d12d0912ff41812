"""What the levels forbid: one row per check, one function per version of it in which something changed.

A check looks at a pod's metadata and spec and answers what it finds wrong: the reason, and in which containers or fields (the detail).
Imitates k8s.io/pod-security-admission/policy of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

from ...registry.core.security import APPARMOR_ANNOTATION, SECCOMP_CONTAINER_ANNOTATION, SECCOMP_POD_ANNOTATION
from .policy import BASELINE, PRIVILEGED, Standard


class Finding(NamedTuple):
    """One thing that a level forbids."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


CheckPod = Callable[[Object, Object], Finding | None]
"""From metadata and spec to what is wrong."""

CAPABILITIES_BASELINE = frozenset((
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
    "SETUID", "SYS_CHROOT",
))  # fmt: skip
SELINUX_TYPES_1_0 = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
SELINUX_TYPES_1_31 = SELINUX_TYPES_1_0 | {"container_engine_t"}
SYSCTLS_1_0 = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
))  # fmt: skip
SYSCTLS_1_27 = SYSCTLS_1_0 | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_1_29 = SYSCTLS_1_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SYSCTLS_1_32 = SYSCTLS_1_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
SYSCTLS = ((0, SYSCTLS_1_0), (27, SYSCTLS_1_27), (29, SYSCTLS_1_29), (32, SYSCTLS_1_32))
VOLUMES_RESTRICTED = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip
PROFILES = ("RuntimeDefault", "Localhost")
SECCOMP_ANNOTATION_VALUES = ("runtime/default", "docker/default")
LOCALHOST = "localhost/"

# ---- wording


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _containers_named(names: Sequence[str]) -> str:
    return f"{_plural('container', 'containers', len(names))} {_quoted(names)}"


def _setters(pod: bool, names: Sequence[str]) -> str:
    """`pod and containers "a", "b"`: who sets something."""
    return " and ".join([*(["pod"] if pod else []), *([_containers_named(names)] if names else [])])


def _containers(spec: Object) -> list[Object]:
    return [c for field in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(field) or ()]


def _context(owner: Object) -> Object:
    return owner.get("securityContext") or {}


def _name(container: Object) -> str:
    name: str = container.get("name", "")
    return name


# ---- baseline


def host_namespaces(meta: Object, spec: Object) -> Finding | None:
    shared = [f"{field}=true" for field in ("hostIPC", "hostNetwork", "hostPID") if spec.get(field)]
    return Finding("host namespaces", ", ".join(shared)) if shared else None


def privileged(meta: Object, spec: Object) -> Finding | None:
    bad = [_name(c) for c in _containers(spec) if _context(c).get("privileged")]
    return Finding("privileged", f"{_containers_named(bad)} must not set securityContext.privileged=true") if bad else None


def capabilities_baseline(meta: Object, spec: Object) -> Finding | None:
    return _added_beyond(spec, CAPABILITIES_BASELINE, "non-default capabilities")


def _added_beyond(spec: Object, allowed: frozenset[str], reason: str) -> Finding | None:
    bad: list[str] = []
    added: set[str] = set()
    for container in _containers(spec):
        beyond = set((_context(container).get("capabilities") or {}).get("add") or ()) - allowed
        if beyond:
            bad.append(_name(container))
            added |= beyond
    if not bad:
        return None
    return Finding(reason, f"{_containers_named(bad)} must not include {_quoted(sorted(added))} in securityContext.capabilities.add")


def host_path_volumes(meta: Object, spec: Object) -> Finding | None:
    bad = [v["name"] for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return Finding("hostPath volumes", f"{_plural('volume', 'volumes', len(bad))} {_quoted(bad)}") if bad else None


def host_ports(meta: Object, spec: Object) -> Finding | None:
    bad: list[str] = []
    ports: set[str] = set()
    for container in _containers(spec):
        own = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if own:
            bad.append(_name(container))
            ports |= own
    if not bad:
        return None
    verb, noun = _plural("uses", "use", len(bad)), _plural("hostPort", "hostPorts", len(ports))
    return Finding("hostPort", f"{_containers_named(bad)} {verb} {noun} {', '.join(sorted(ports))}")


def host_probes_and_lifecycle(meta: Object, spec: Object) -> Finding | None:
    bad: set[str] = set()
    hosts: set[str] = set()
    for container in _containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        own = {((h or {}).get(kind) or {}).get("host") or "" for h in handlers for kind in ("httpGet", "tcpSocket")} - {""}
        if own:
            bad.add(_name(container))
            hosts |= own
    if not bad:
        return None
    noun = _plural("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    detail = f"{_containers_named(sorted(bad))} {_plural('uses', 'use', len(bad))} {noun} {_quoted(sorted(hosts))}"
    return Finding("probe or lifecycle host", detail)


def app_armor_profile(meta: Object, spec: Object) -> Finding | None:
    pod, bad, values = _bad_profiles(spec, "appArmorProfile")
    setters = [text for text in (_setters(pod, bad),) if text]
    annotations = sorted(
        f"{key}={go_quote(value)}" for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(APPARMOR_ANNOTATION) and value and value != "runtime/default" and not value.startswith(LOCALHOST)
    )  # fmt: skip
    if annotations:
        setters.append(_plural("annotation", "annotations", len(annotations)))
    if not setters:
        return None
    values += annotations
    reason = _plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(values))
    return Finding(reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(values)}")


def _bad_profiles(spec: Object, field: str) -> tuple[bool, list[str], list[str]]:
    """Whether the pod, and which containers, name a profile that is not allowed; and which ones."""
    values: set[str] = set()

    def is_bad(owner: Object) -> bool:
        profile = _context(owner).get(field)
        if profile is None or profile.get("type") in PROFILES:
            return False
        values.add(profile.get("type", ""))
        return True

    pod = is_bad(spec)
    bad = [_name(c) for c in _containers(spec) if is_bad(c)]
    return pod, bad, sorted(values)


def _selinux(types: frozenset[str]) -> CheckPod:
    def check(meta: Object, spec: Object) -> Finding | None:
        found: set[str] = set()
        custom: set[str] = set()

        def is_bad(owner: Object) -> bool:
            options = _context(owner).get("seLinuxOptions") or {}
            wrong = {options.get("type", "")} - types
            own = {field for field in ("user", "role") if options.get(field)}
            found.update(wrong)
            custom.update(own)
            return bool(wrong or own)

        pod = is_bad(spec)
        bad = [_name(c) for c in _containers(spec) if is_bad(c)]
        if not pod and not bad:
            return None
        data = [f"{_plural('type', 'types', len(found))} {_quoted(sorted(found))}"] if found else []
        data += [f"{field} may not be set" for field in ("user", "role") if field in custom]
        return Finding("seLinuxOptions", f"{_setters(pod, bad)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}")

    return check


def proc_mount(meta: Object, spec: Object) -> Finding | None:
    kinds = {_name(c): _context(c).get("procMount") for c in _containers(spec)}
    bad = {name: kind for name, kind in kinds.items() if kind not in (None, "Default")}
    if not bad:
        return None
    types = _quoted(sorted(set(bad.values())))
    return Finding("procMount", f"{_containers_named(list(bad))} must not set securityContext.procMount to {types}")


def _unless_user_namespace(check: CheckPod) -> CheckPod:
    """The same, but a pod with users of its own may."""
    return lambda meta, spec: None if spec.get("hostUsers") is False else check(meta, spec)


def _unless_windows(check: CheckPod) -> CheckPod:
    """The same, but Windows knows nothing of it."""
    return lambda meta, spec: None if (spec.get("os") or {}).get("name") == "windows" else check(meta, spec)


def seccomp_annotations(meta: Object, spec: Object) -> Finding | None:
    annotations = meta.get("annotations") or {}
    keys = [SECCOMP_POD_ANNOTATION, *(f"{SECCOMP_CONTAINER_ANNOTATION}{_name(c)}" for c in _containers(spec))]
    bad = sorted({f"{key}={go_quote(annotations[key])}" for key in keys if key in annotations and not _is_seccomp(annotations[key])})
    return Finding("seccompProfile", f"forbidden {_plural('annotation', 'annotations', len(bad))} {', '.join(bad)}") if bad else None


def _is_seccomp(value: str) -> bool:
    return value in SECCOMP_ANNOTATION_VALUES or value.startswith(LOCALHOST)


def seccomp_baseline(meta: Object, spec: Object) -> Finding | None:
    pod, bad, values = _bad_profiles(spec, "seccompProfile")
    if not pod and not bad:
        return None
    return Finding("seccompProfile", f"{_setters(pod, bad)} must not set securityContext.seccompProfile.type to {_quoted(values)}")


def _sysctls(allowed: frozenset[str]) -> CheckPod:
    def check(meta: Object, spec: Object) -> Finding | None:
        bad = [s["name"] for s in _context(spec).get("sysctls") or () if s.get("name") not in allowed]
        return Finding("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(meta: Object, spec: Object) -> Finding | None:
    pod = bool((_context(spec).get("windowsOptions") or {}).get("hostProcess"))
    bad = [_name(c) for c in _containers(spec) if (_context(c).get("windowsOptions") or {}).get("hostProcess")]
    if not pod and not bad:
        return None
    return Finding("hostProcess", f"{_setters(pod, bad)} must not set securityContext.windowsOptions.hostProcess=true")


# ---- restricted


def allow_privilege_escalation(meta: Object, spec: Object) -> Finding | None:
    bad = [_name(c) for c in _containers(spec) if _context(c).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    detail = f"{_containers_named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail)


def capabilities_restricted(meta: Object, spec: Object) -> Finding | None:
    keeping = [_name(c) for c in _containers(spec) if "ALL" not in ((_context(c).get("capabilities") or {}).get("drop") or ())]
    added = _added_beyond(spec, frozenset(("NET_BIND_SERVICE",)), "")
    details = [f'{_containers_named(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    details += [added.detail] if added else []
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def restricted_volumes(meta: Object, spec: Object) -> Finding | None:
    bad: list[str] = []
    types: set[str] = set()
    for volume in spec.get("volumes") or ():
        kinds = [key for key in volume if key != "name"]
        if not any(kind in VOLUMES_RESTRICTED for kind in kinds):
            bad.append(volume["name"])
            types.update(kinds or ("unknown",))
    if not bad:
        return None
    noun = _plural("restricted volume type", "restricted volume types", len(types))
    named = f"{_plural('volume', 'volumes', len(bad))} {_quoted(bad)} {_plural('uses', 'use', len(bad))}"
    return Finding("restricted volume types", f"{named} {noun} {_quoted(sorted(types))}")


def run_as_non_root(meta: Object, spec: Object) -> Finding | None:
    pod = _context(spec).get("runAsNonRoot")
    given = [(_name(c), _context(c).get("runAsNonRoot")) for c in _containers(spec)]
    explicit = [name for name, value in given if value is False]
    reason = "runAsNonRoot != true"
    if pod is False or explicit:
        return Finding(reason, f"{_setters(pod is False, explicit)} must not set securityContext.runAsNonRoot=false")
    silent = [name for name, value in given if value is None]
    if pod or not silent:
        return None
    return Finding(reason, f"pod or {_containers_named(silent)} must set securityContext.runAsNonRoot=true")


def run_as_user(meta: Object, spec: Object) -> Finding | None:
    pod = _context(spec).get("runAsUser") == 0
    bad = [_name(c) for c in _containers(spec) if _context(c).get("runAsUser") == 0]
    return Finding("runAsUser=0", f"{_setters(pod, bad)} must not set runAsUser=0") if pod or bad else None


def seccomp_restricted(meta: Object, spec: Object) -> Finding | None:
    explicit = seccomp_baseline(meta, spec)
    if explicit is not None:
        return explicit
    silent = [_name(c) for c in _containers(spec) if _context(c).get("seccompProfile") is None]
    if not silent or _context(spec).get("seccompProfile") is not None:
        return None
    wanted = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", f"pod or {_containers_named(silent)} {wanted}")


# ---- the table


@dataclass(frozen=True)
class Check:
    """One row: what is looked at from which version (the N of v1.N) on. `replaces` is the baseline check that it is stricter than."""

    name: str
    versions: tuple[tuple[int, CheckPod], ...]
    replaces: str = ""

    def at(self, version: int) -> CheckPod | None:
        """The function of a version; None where the check was not there yet."""
        return next((check for since, check in reversed(self.versions) if since <= version), None)


BASELINE_CHECKS = (
    Check("appArmorProfile", ((0, app_armor_profile),)),
    Check("capabilities_baseline", ((0, capabilities_baseline),)),
    Check("hostNamespaces", ((0, host_namespaces),)),
    Check("hostPathVolumes", ((0, host_path_volumes),)),
    Check("hostPorts", ((0, host_ports),)),
    Check("hostProbesAndHostLifecycle", ((34, host_probes_and_lifecycle),)),
    Check("privileged", ((0, privileged),)),
    Check("procMount", ((0, proc_mount), (35, _unless_user_namespace(proc_mount)))),
    Check("seLinuxOptions", ((0, _selinux(SELINUX_TYPES_1_0)), (31, _selinux(SELINUX_TYPES_1_31)))),
    Check("seccompProfile_baseline", ((0, seccomp_annotations), (19, seccomp_baseline))),
    Check("sysctls", tuple((since, _sysctls(allowed)) for since, allowed in SYSCTLS)),
    Check("windowsHostProcess", ((0, windows_host_process),)),
)
RESTRICTED_CHECKS = (
    Check("allowPrivilegeEscalation", ((8, allow_privilege_escalation), (25, _unless_windows(allow_privilege_escalation)))),
    Check(
        "capabilities_restricted", ((22, capabilities_restricted), (25, _unless_windows(capabilities_restricted))), "capabilities_baseline"
    ),
    Check("procMount_restricted", ((35, proc_mount),), "procMount"),
    Check("restrictedVolumes", ((0, restricted_volumes),), "hostPathVolumes"),
    Check("runAsNonRoot", ((0, run_as_non_root), (35, _unless_user_namespace(run_as_non_root)))),
    Check("runAsUser", ((23, run_as_user), (35, _unless_user_namespace(run_as_user)))),
    Check("seccompProfile_restricted", ((19, seccomp_restricted), (25, _unless_windows(seccomp_restricted))), "seccompProfile_baseline"),
)
"""In the order in which violations are told: all of the baseline's, then what is restricted beyond it."""


@lru_cache(256)
def checks_of(standard: Standard) -> tuple[CheckPod, ...]:
    """The functions of a level in a version."""
    if standard.level == PRIVILEGED:
        return ()
    restricted = [] if standard.level == BASELINE else [check for check in RESTRICTED_CHECKS if check.at(standard.version)]
    replaced = {check.replaces for check in restricted}
    rows = [check for check in BASELINE_CHECKS if check.name not in replaced] + restricted
    return tuple(check for row in rows if (check := row.at(standard.version)) is not None)


def evaluate(standard: Standard, meta: Object, spec: Object) -> list[Finding]:
    """All that a standard forbids about a pod."""
    return [finding for check in checks_of(standard) if (finding := check(meta, spec)) is not None]
