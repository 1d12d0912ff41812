"""PodSecurity: what the levels forbid in which version, and how namespaces, pods and templates are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.apiserver.admission.podsecurity.checks import evaluate
from kubecosm.services.apiserver.admission.podsecurity.policy import BASELINE, LATEST, RESTRICTED, Standard

from .harness import ACCOUNT, Api, admission_configuration, deployment, pod, with_api

GOOD = {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
"""The securityContext of a container that restricted takes."""
UNRESTRICTED = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities '
    '(container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set '
    'securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to '
    '"RuntimeDefault" or "Localhost")'
)
"""What restricted says of a plain pod."""


def violations(level: str, spec: Object, version: int = LATEST, **meta: Any) -> list[str]:
    return [str(finding) for finding in evaluate(Standard(level, version), meta, spec)]


def container(name: str = "c", *, good: bool = False, **fields: Any) -> Object:
    context = (GOOD if good else {}) | fields.pop("context", {})
    return {"name": name, "image": "nginx", **({"securityContext": context} if context else {}), **fields}


def spec_of(*containers: Object, context: Object | None = None, **fields: Any) -> Object:
    return {"containers": list(containers or (container(),)), **({"securityContext": context} if context else {}), **fields}


def test_restricted_wants_what_a_plain_pod_does_not_say() -> None:
    assert ", ".join(violations(RESTRICTED, spec_of())) == UNRESTRICTED
    assert violations(BASELINE, spec_of()) == []
    assert violations("privileged", spec_of(hostNetwork=True)) == []
    assert violations(RESTRICTED, spec_of(container(good=True))) == []


BASELINE_CASES = {
    "host-namespaces": (spec_of(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
    "privileged": (
        spec_of(container("a", context={"privileged": True}), container("b", context={"privileged": True})),
        'privileged (containers "a", "b" must not set securityContext.privileged=true)',
    ),
    "capabilities": (
        spec_of(container(context={"capabilities": {"add": ["NET_RAW", "CHOWN", "SYS_ADMIN"]}})),
        'non-default capabilities (container "c" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)',
    ),
    "host-path": (spec_of(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), 'hostPath volumes (volume "v")'),
    "host-ports": (
        spec_of(container("a", ports=[{"hostPort": 80}]), container("b", ports=[{"hostPort": 443}, {"containerPort": 1}])),
        'hostPort (containers "a", "b" use hostPorts 443, 80)',
    ),
    "probe-host": (
        spec_of(container(livenessProbe={"httpGet": {"host": "1.2.3.4", "port": 80}})),
        'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
    ),
    "apparmor": (
        spec_of(context={"appArmorProfile": {"type": "Unconfined"}}),
        'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
    ),
    "selinux": (
        spec_of(container(context={"seLinuxOptions": {"user": "u"}}), context={"seLinuxOptions": {"type": "spc_t"}}),
        'seLinuxOptions (pod and container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
    ),
    "proc-mount": (
        spec_of(container(context={"procMount": "Unmasked"})),
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
    "seccomp": (
        spec_of(container(context={"seccompProfile": {"type": "Unconfined"}})),
        'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    "sysctls": (spec_of(context={"sysctls": [{"name": "kernel.msgmax"}]}), "forbidden sysctls (kernel.msgmax)"),
    "host-process": (
        spec_of(context={"windowsOptions": {"hostProcess": True}}),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), BASELINE_CASES.values(), ids=BASELINE_CASES.keys())
def test_what_baseline_forbids(spec: Object, words: str) -> None:
    assert violations(BASELINE, spec) == [words]


RESTRICTED_CASES = {
    "volumes": (
        spec_of(container(good=True), volumes=[{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}, {"name": "d", "csi": {}}]),
        'restricted volume types (volumes "a", "b" use restricted volume types "hostPath", "nfs")',
    ),
    "capabilities": (
        spec_of(container(good=True, context={"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}})),
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; container "c" must not include '
        '"CHOWN" in securityContext.capabilities.add)',
    ),
    "root": (
        spec_of(container(good=True, context={"runAsUser": 0, "runAsNonRoot": False})),
        'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        'runAsUser=0 (container "c" must not set runAsUser=0)',
    ),
    "seccomp": (
        spec_of(container(good=True, context={"seccompProfile": {"type": "Unconfined"}})),
        'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    "proc-mount-with-own-users": (
        spec_of(container(good=True, context={"procMount": "Unmasked"}), hostUsers=False),
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESTRICTED_CASES.values(), ids=RESTRICTED_CASES.keys())
def test_what_restricted_forbids(case: tuple[Any, ...]) -> None:
    spec, *words = case
    assert violations(RESTRICTED, spec) == words


VERSION_CASES = {
    "probe hosts are looked at from v1.34 on": (BASELINE, spec_of(container(startupProbe={"tcpSocket": {"host": "h"}})), 33, 34),
    "privilege escalation from v1.8 on": (RESTRICTED, spec_of(container(good=True, context={"allowPrivilegeEscalation": True})), 7, 8),
    "user 0 from v1.23 on": (RESTRICTED, spec_of(container(good=True, context={"runAsUser": 0})), 22, 23),
    "capabilities are to be dropped from v1.22 on": (RESTRICTED, spec_of(container(good=True, context={"capabilities": {}})), 21, 22),
}


@pytest.mark.parametrize(("level", "spec", "allows", "forbids"), VERSION_CASES.values(), ids=VERSION_CASES.keys())
def test_a_version_asks_for_what_it_asked_for_then(level: str, spec: Object, allows: int, forbids: int) -> None:
    assert violations(level, spec, allows) == []
    assert len(violations(level, spec, forbids)) == 1


def test_versions_may_also_allow_more() -> None:
    reserved = spec_of(context={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]})
    assert (len(violations(BASELINE, reserved, 26)), violations(BASELINE, reserved, 27)) == (1, [])
    engine = spec_of(context={"seLinuxOptions": {"type": "container_engine_t"}})
    assert (len(violations(BASELINE, engine, 30)), violations(BASELINE, engine, 31)) == (1, [])
    own_users = spec_of(container(good=True, context={"runAsNonRoot": False}), hostUsers=False)
    assert (len(violations(RESTRICTED, own_users, 34)), violations(RESTRICTED, own_users, 35)) == (1, [])
    windows = spec_of(container(context={"runAsNonRoot": True}), os={"name": "windows"})
    assert (len(violations(RESTRICTED, windows, 24)), violations(RESTRICTED, windows, 25)) == (3, [])
    annotated = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    assert violations(BASELINE, spec_of(), 18, annotations=annotated) == [
        'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    ]
    assert violations(BASELINE, spec_of(), 19, annotations=annotated) == []


# ---- the plugin


def labelled(name: str, **labels: str) -> Object:
    """A Namespace with pod-security labels; `_` in a name stands for `-`."""
    named = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": named}}


async def make_namespace(api: Api, name: str, **labels: str) -> str:
    """The path of a new namespace whose pods may run."""
    await api.create("/api/v1/namespaces", labelled(name, **labels))
    await api.create(f"/api/v1/namespaces/{name}/serviceaccounts", ACCOUNT)
    return f"/api/v1/namespaces/{name}"


def warnings_of(reply: Any) -> list[str]:
    """The texts of Warning headers."""
    return [value[len('299 - "') : -1].replace('\\"', '"') for value in reply.headers.getall("Warning", [])]


def test_a_namespace_refuses_warns_and_passes_by_its_labels(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = await make_namespace(api, "strict", enforce="restricted")
        code, answer = await api.call("POST", f"{path}/pods", pod("p"))
        assert (code, answer["message"]) == (403, f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {UNRESTRICTED}')
        await api.create(f"{path}/pods", pod("q", containers=[container(good=True)]))
        path = await make_namespace(api, "warned", warn="restricted", warn_version="v1.30", enforce="baseline")
        reply = await api.raw("POST", f"{path}/pods", pod("p"))
        assert (reply.status, warnings_of(reply)) == (201, [f'would violate PodSecurity "restricted:v1.30": {UNRESTRICTED}'])
        template = deployment("d")
        reply = await api.raw("POST", "/apis/apps/v1/namespaces/warned/deployments", template)
        assert (reply.status, warnings_of(reply)) == (201, [f'would violate PodSecurity "restricted:v1.30": {UNRESTRICTED}'])
        template["spec"]["template"]["spec"]["hostNetwork"] = True
        reply = await api.raw("PUT", "/apis/apps/v1/namespaces/warned/deployments/d", template)
        assert (reply.status, "host namespaces (hostNetwork=true)" in warnings_of(reply)[0]) == (200, True)

    with_api(tmp_path, test)


def test_decisions_are_counted_and_noted_for_audits(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        free, strict = await make_namespace(api, "free"), await make_namespace(api, "strict", enforce="baseline", audit="restricted")
        await api.create(f"{free}/pods", pod("p"))
        await api.create(f"{strict}/pods", pod("p"))
        await api.call("POST", f"{strict}/pods", pod("q", hostNetwork=True))
        metrics = (await api.raw("GET", "/metrics")).text
        request = 'request_operation="create",resource="pod",subresource=""'
        for decision, level, mode, count in (
            ("allow", "privileged", "enforce", 1), ("allow", "baseline", "enforce", 1), ("deny", "baseline", "enforce", 1),
            ("deny", "restricted", "audit", 2),
        ):  # fmt: skip
            policy = f'decision="{decision}",mode="{mode}",policy_level="{level}",policy_version="latest"'
            assert f"pod_security_evaluations_total{{{policy},{request}}} {count}.0" in metrics

    with_api(tmp_path, test)


def test_an_update_is_judged_only_when_it_matters(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = await make_namespace(api, "n")
        await api.create(f"{path}/pods", pod("p"))
        await api.merge("/api/v1/namespaces/n", labelled("n", enforce="restricted"))
        await api.merge(f"{path}/pods/p", {"metadata": {"labels": {"a": "b"}}})
        image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
        code, answer = await api.call("PATCH", f"{path}/pods/p", image, Content_Type="application/strategic-merge-patch+json")
        assert (code, 'violates PodSecurity "restricted:latest"' in answer["message"]) == (403, True)

    with_api(tmp_path, test)


def test_labels_must_be_understood_and_new_ones_tell_of_the_pods_they_would_refuse(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, answer = await api.call("POST", "/api/v1/namespaces", labelled("bad", enforce="strict", warn_version="v2"))
        assert (code, answer["message"]) == (
            422,
            'Namespace "bad" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of '
            "privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "
            '"v2": must be "latest" or "v1.x"]',
        )
        path = await make_namespace(api, "n")
        for name in ("b", "a"):
            await api.create(f"{path}/pods", pod(name, hostNetwork=True))
        await api.create(f"{path}/pods", pod("other", containers=[container(context={"privileged": True})]))
        reply = await api.raw(
            "PATCH", "/api/v1/namespaces/n?dryRun=All", labelled("n", enforce="baseline"), Content_Type="application/merge-patch+json"
        )
        assert reply.status == 200
        assert warnings_of(reply) == [
            'existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest"',
            "a (and 1 other pod): host namespaces",
            "other: privileged",
        ]

    with_api(tmp_path, test)


def test_defaults_and_exemptions_come_from_the_configuration(tmp_path: Path) -> None:
    flags = admission_configuration(tmp_path, PodSecurity={"path": "podsecurity.yaml"})
    (tmp_path / "podsecurity.yaml").write_text("""
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: restricted, enforce-version: v1.36}
exemptions: {usernames: [jane], namespaces: [free], runtimeClasses: [sandboxed]}
""")

    async def test(api: Api) -> None:
        path = await make_namespace(api, "n")
        code, answer = await api.call("POST", f"{path}/pods", pod("p"))
        assert (code, 'violates PodSecurity "restricted:v1.36"' in answer["message"]) == (403, True)
        await api.create(f"{path}/pods", pod("p"), token="user-token")
        await api.create(f"{await make_namespace(api, 'free')}/pods", pod("p"))
        await api.create("/apis/node.k8s.io/v1/runtimeclasses", {
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "sandboxed"}, "handler": "h"
        })  # fmt: skip
        await api.create(f"{path}/pods", pod("q", runtimeClassName="sandboxed"))
        reply = await api.raw("PUT", "/api/v1/namespaces/free", labelled("free", warn="baseline"))
        assert warnings_of(reply) == [
            'namespace "free" is exempt from Pod Security, and the policy (enforce=restricted:v1.36, warn=baseline:latest) will be ignored'
        ]

    with_api(tmp_path, test, **flags)
