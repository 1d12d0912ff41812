"""The plugins that are off by default, those that ask the authorizer, and which of all are on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api import names
from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import CONFIGMAPS
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.admission.always import AlwaysAdmit, AlwaysDeny
from kubecosm.services.apiserver.admission.chain import CREATE, AdmissionChain, Attributes
from kubecosm.services.apiserver.admission.eventratelimit import Buckets, Limit
from kubecosm.services.apiserver.admission.plugins import TABLE, chosen_plugins
from kubecosm.services.apiserver.admission.tolerations import covers, merge
from kubecosm.services.apiserver.authn.user import User

from .harness import ACCOUNT, ACCOUNTS, PODS, Api, admission_configuration, configmap, pod, with_api

KUBERNETES_ORDER = """
AlwaysAdmit NamespaceAutoProvision NamespaceLifecycle NamespaceExists LimitPodHardAntiAffinityTopology LimitRanger ServiceAccount
NodeRestriction TaintNodesByCondition AlwaysPullImages ImagePolicyWebhook PodSecurity PodNodeSelector Priority DefaultTolerationSeconds
PodTolerationRestriction EventRateLimit ExtendedResourceToleration DefaultStorageClass StorageObjectInUseProtection
OwnerReferencesPermissionEnforcement PersistentVolumeClaimResize RuntimeClass CertificateApproval CertificateSigning
ClusterTrustBundleAttest CertificateSubjectRestriction DefaultIngressClass DenyServiceExternalIPs PodTopologyLabels
PodGroupWorkloadExists NodeDeclaredFeatureValidator JobValidation PodResizeValidator
MutatingAdmissionPolicy MutatingAdmissionWebhook ValidatingAdmissionPolicy ValidatingAdmissionWebhook ResourceQuota AlwaysDeny
"""


def test_the_plugins_are_kubernetes_own_in_its_order() -> None:
    order = [row.name for row in TABLE]
    assert order == [name for name in KUBERNETES_ORDER.split() if name in order]
    off = {row.name for row in TABLE if not row.on_by_default}
    assert off == {
        "AlwaysAdmit", "NamespaceAutoProvision", "NamespaceExists", "LimitPodHardAntiAffinityTopology", "NodeRestriction",
        "AlwaysPullImages", "ImagePolicyWebhook", "PodNodeSelector", "PodTolerationRestriction", "EventRateLimit",
        "ExtendedResourceToleration", "OwnerReferencesPermissionEnforcement", "DenyServiceExternalIPs", "AlwaysDeny",
    }  # fmt: skip


def test_flags_choose_plugins_by_name() -> None:
    on = {row.name for row in chosen_plugins(["NodeRestriction"], ["PodSecurity"])}
    assert "NodeRestriction" in on
    assert "PodSecurity" not in on
    with pytest.raises(StartupError, match="invalid --enable-admission-plugins 'Nonsense'"):
        chosen_plugins(["Nonsense"], [])
    with pytest.raises(StartupError, match="NodeRestriction in both"):
        chosen_plugins(["NodeRestriction"], ["NodeRestriction"])


def test_always_deny_refuses_and_always_pull_images_pulls(tmp_path: Path) -> None:
    attributes = Attributes(CREATE, CONFIGMAPS, "", "default", "c", configmap("c"), None, User("jane"))
    with pytest.raises(Forbidden, match='configmaps "c" is forbidden: admission control is denying all modifications'):
        AdmissionChain([AlwaysAdmit(), AlwaysDeny()]).validate(attributes)

    async def pulled(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        containers = [{"name": "c", "image": "nginx", "imagePullPolicy": "Never"}]
        made = await api.create(PODS, pod("p", containers=containers))
        assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"

    with_api(tmp_path, pulled, enable_admission_plugins=("AlwaysPullImages",))


def test_namespaces_come_with_their_first_object(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create("/api/v1/namespaces/fresh/configmaps", configmap("c"))
        assert (await api.get("/api/v1/namespaces/fresh"))["status"] == {"phase": "Active"}
        code, _ = await api.call("POST", "/api/v1/namespaces/dry/configmaps?dryRun=All", configmap("c"))
        assert code == 404

    with_api(tmp_path, test, enable_admission_plugins=("NamespaceAutoProvision", "NamespaceExists"))


def test_pods_run_where_their_namespace_says(tmp_path: Path) -> None:
    flags = admission_configuration(tmp_path, PodNodeSelector={"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "a=b"}})

    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        assert (await api.create(PODS, pod("p")))["spec"]["nodeSelector"] == {"a": "b"}
        await api.merge("/api/v1/namespaces/default", {"metadata": {"annotations": {names.ANNOTATION_NODE_SELECTOR: "zone=x,disk=ssd"}}})
        made = await api.create(PODS, pod("q", nodeSelector={"own": "1"}))
        assert made["spec"]["nodeSelector"] == {"zone": "x", "disk": "ssd", "own": "1"}
        assert (await api.refused("POST", PODS, pod("r", nodeSelector={"zone": "y"})))["message"] == (
            'pods "r" is forbidden: pod node label selector conflicts with its namespace node label selector'
        )

    with_api(tmp_path, test, enable_admission_plugins=("PodNodeSelector",), **flags)


def test_pods_tolerate_what_their_namespace_does(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        notes = {
            names.ANNOTATION_DEFAULT_TOLERATIONS: '[{"key":"team","operator":"Exists"}]',
            names.ANNOTATION_TOLERATIONS_WHITELIST: '[{"key":"team","operator":"Exists"},{"operator":"Exists","effect":"NoExecute"}]',
        }
        await api.merge("/api/v1/namespaces/default", {"metadata": {"annotations": notes}})
        made = await api.create(PODS, pod("p"))
        assert {"key": "team", "operator": "Exists"} in made["spec"]["tolerations"]
        foreign = pod("q", tolerations=[{"key": "x", "operator": "Exists"}])
        assert "conflict with its namespace whitelist" in (await api.refused("POST", PODS, foreign))["message"]

    with_api(tmp_path, test, enable_admission_plugins=("PodTolerationRestriction",))


def test_tolerations_cover_others() -> None:
    everything, seconds = {"operator": "Exists"}, {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    assert covers(everything, seconds)
    assert not covers(seconds, everything)
    assert not covers(seconds, seconds | {"tolerationSeconds": 6})
    assert covers({"key": "k", "value": "v"}, {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"})
    assert merge([seconds, everything, seconds]) == [everything]
    assert merge([seconds, seconds]) == [seconds]


def test_pods_keep_others_away_from_nodes_only_and_tolerate_the_taints_of_their_devices(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        term = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {}}
        affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        assert (await api.refused("POST", PODS, pod("p", affinity=affinity)))["message"] == (
            'pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey topology.kubernetes.io/zone but only '
            "key kubernetes.io/hostname is allowed"
        )
        resources = {"limits": {"example.com/gpu": "1"}, "requests": {"example.com/gpu": "1"}}
        made = await api.create(PODS, pod("q", containers=[{"name": "c", "image": "i", "resources": resources}]))
        assert {"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in made["spec"]["tolerations"]

    with_api(tmp_path, test, enable_admission_plugins=("LimitPodHardAntiAffinityTopology", "ExtendedResourceToleration"))


def test_events_are_limited_by_rate(tmp_path: Path) -> None:
    kind = {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration"}
    flags = admission_configuration(tmp_path, EventRateLimit={**kind, "limits": [{"type": "Namespace", "qps": 1, "burst": 3}]})

    def event(index: int) -> dict[str, Any]:
        about = {"kind": "Pod", "name": "p", "namespace": "default", "apiVersion": "v1"}
        meta = {"name": f"e{index}", "namespace": "default"}
        return {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about, "type": "Normal"}

    async def test(api: Api) -> None:
        answers = [await api.call("POST", "/api/v1/namespaces/default/events", event(index)) for index in range(5)]
        assert [code for code, _ in answers] == [201, 201, 201, 429, 429]
        assert answers[-1][1]["message"] == "limit reached on type Namespace for key default"

    with_api(tmp_path, test, enable_admission_plugins=("EventRateLimit",), **flags)


def test_buckets_fill_again_and_forget_whoever_was_quiet() -> None:
    buckets = Buckets(Limit("User", qps=2.0, burst=1, cache_size=2))
    assert [buckets.take("a", now) for now in (0.0, 0.1, 0.7)] == [True, False, True]
    for other in ("b", "c"):
        assert buckets.take(other, 0.7)
    assert buckets.take("a", 0.7), "its bucket was forgotten, so it is full"
    with pytest.raises(StartupError, match="EventRateLimit"):
        Limit.parse({"type": "Planet", "qps": 1, "burst": 1})


def test_services_get_no_new_external_addresses(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = "/api/v1/namespaces/default/services"
        spec: dict[str, Any] = {"ports": [{"port": 80}], "externalIPs": ["1.2.3.4"]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
        denied = 'services "s" is forbidden: Use of external IPs is denied by admission control'
        assert (await api.refused("POST", path, body))["message"] == denied
        await api.create(path, body | {"spec": spec | {"externalIPs": []}})
        patch = {"spec": {"externalIPs": ["1.2.3.4"]}}
        assert (await api.refused("PATCH", f"{path}/s", patch, Content_Type="application/merge-patch+json"))["message"] == denied

    with_api(tmp_path, test, enable_admission_plugins=("DenyServiceExternalIPs",))


RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def grant(api: Api, user: str, *rules: dict[str, list[str]]) -> None:
    """A ClusterRole with these rules for a user."""
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    await api.create(f"{RBAC}/clusterroles", kind | {"kind": "ClusterRole", "metadata": {"name": user}, "rules": list(rules)})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "ClusterRole", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    binding = kind | {"kind": "ClusterRoleBinding", "metadata": {"name": user}, "subjects": [subject], "roleRef": role}
    await api.create(f"{RBAC}/clusterrolebindings", binding)


def rule(group: str, resource: str, *verbs: str, only: str = "") -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} | ({"resourceNames": [only]} if only else {})


def test_owners_are_set_by_those_who_may_delete(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await grant(api, "jane", rule("", "configmaps", "create", "update", "get"))
        owner = await api.create("/api/v1/namespaces/default/configmaps", configmap("owner"))
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        owned = configmap("owned", ownerReferences=[reference])
        path = "/api/v1/namespaces/default/configmaps"
        status = await api.refused("POST", path, owned, token="user-token")
        assert "cannot set an ownerRef on a resource you can't delete: " in status["message"]
        role = rule("", "configmaps", "create", "update", "get", "delete")
        await api.merge(f"{RBAC}/clusterroles/jane", {"rules": [role]})
        await api.create(path, owned, token="user-token")
        blocking = configmap("blocking", ownerReferences=[reference | {"blockOwnerDeletion": True}])
        assert "you can't set finalizers on" in (await api.refused("POST", path, blocking, token="user-token"))["message"]
        await api.merge(f"{RBAC}/clusterroles/jane", {"rules": [role, rule("", "configmaps/finalizers", "update")]})
        await api.create(path, blocking, token="user-token")

    with_api(tmp_path, test, enable_admission_plugins=("OwnerReferencesPermissionEnforcement",), authorization_mode=("RBAC",))


def test_a_pod_does_not_grow_beyond_its_node(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        requests = {"cpu": "1", "memory": "1Gi"}
        await api.create(PODS, pod("p", nodeName="n", containers=[{"name": "c", "image": "x", "resources": {"requests": requests}}]))

        async def resize(cpu: str, memory: str = "1Gi") -> tuple[int, Any]:
            change = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}}
            strategic = "application/strategic-merge-patch+json"
            return await api.call("PATCH", f"{PODS}/p/resize", change, Content_Type=strategic)

        assert (await resize("2"))[1]["message"] == 'pods "p" is forbidden: node "n" not found'
        node = {"metadata": {"name": "n", "labels": {"kubernetes.io/os": "windows"}}}
        await api.create("/api/v1/nodes", node)
        await api.merge("/api/v1/nodes/n/status", {"status": {"allocatable": {"cpu": "3", "memory": "2Gi"}}})
        code, status = await resize("3001m", "2049Mi")
        short = "cpu, requested: 3001, allocatable: 3000; memory, requested: 2148532224, allocatable: 2147483648"
        assert (code, status["details"]["causes"]) == (403, [{"reason": "NodeCapacity"}])
        assert status["message"] == f"pods \"p\" is forbidden: Node didn't have enough allocatable resources: {short}"
        code, status = await resize("2")
        assert status["message"] == 'pods "p" is forbidden: pod resize is only supported on linux nodes, node "n" is "windows"'
        await api.merge("/api/v1/nodes/n", {"metadata": {"labels": {"kubernetes.io/os": "linux"}}})
        assert (await resize("3", "2Gi"))[0] == 200

    with_api(tmp_path, test)


def test_a_pod_changes_only_as_its_node_says_it_can(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        amounts = {"cpu": "1", "memory": "1Gi"}

        def container(cpu: str, name: str = "c") -> dict[str, Any]:
            given = {**amounts, "cpu": cpu}
            return {"name": name, "image": "x", "resources": {"requests": given, "limits": given}}

        async def resize(cpu: str) -> tuple[int, Any]:
            strategic = "application/strategic-merge-patch+json"
            return await api.call("PATCH", f"{PODS}/p/resize", {"spec": {"containers": [container(cpu)]}}, Content_Type=strategic)

        await api.create("/api/v1/nodes", {"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}}})
        await api.merge("/api/v1/nodes/n/status", {"status": {"allocatable": {"cpu": "3", "memory": "2Gi"}}})
        await api.create(PODS, pod("p", nodeName="n", containers=[container("1")]))
        await api.merge(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
        code, status = await resize("2")
        why = 'pod update requires features GuaranteedQoSPodCPUResize which are not available on node "n"'
        assert (code, status["message"]) == (403, f'pods "p" is forbidden: {why}')
        await api.merge("/api/v1/nodes/n/status", {"status": {"declaredFeatures": ["GuaranteedQoSPodCPUResize"]}})
        assert (await resize("2"))[0] == 200

    with_api(tmp_path, test)
