"""The built-in admission plugins complete objects, and refuse them in the words of Kubernetes."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from kubecosm.api.errors import ApiError, Forbidden
from kubecosm.api.names import LABEL_ZONE
from kubecosm.api.resources import (
    INGRESSES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    Object,
    Resource,
)
from kubecosm.services.apiserver.admission.chain import AdmissionChain, Attributes, Plugin
from kubecosm.services.apiserver.admission.claimresize import PersistentVolumeClaimResize
from kubecosm.services.apiserver.admission.limitranger import LimitRanger
from kubecosm.services.apiserver.admission.priority import PriorityPlugin
from kubecosm.services.apiserver.admission.runtimeclass import RuntimeClass
from kubecosm.services.apiserver.admission.serviceaccount import ServiceAccountPlugin
from kubecosm.services.apiserver.admission.small import (
    DefaultIngressClass,
    DefaultStorageClass,
    DefaultTolerationSeconds,
    StorageObjectInUseProtection,
    TaintNodesByCondition,
)
from kubecosm.services.apiserver.admission.topology import PodTopologyLabels
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.cache.entry import Attributes as Selectable
from kubecosm.services.apiserver.cache.resource import ResourceCache


def cache(*objects: Object, namespaced: bool = False) -> ResourceCache:
    """A cache that holds these objects (in namespace n)."""
    found = ResourceCache(lambda obj: Selectable({}, {}), namespaced=namespaced)
    prefix = "n/" if namespaced else ""
    stored = [{**obj, "metadata": {**obj["metadata"], "resourceVersion": ""}} for obj in objects]
    found.load((f"{prefix}{obj['metadata']['name']}", orjson.dumps(obj), i) for i, obj in enumerate(stored, 1))
    return found


def named(name: str, **fields: Any) -> Object:
    return {"metadata": {"name": name, **fields.pop("metadata", {})}, **fields}


def admitted(plugin: Plugin, resource: Resource, obj: Object, old: Object | None = None, subresource: str = "") -> Object:
    """The object after both steps of the plugin, in a chain of its own. Raises ApiError."""
    operation = "UPDATE" if old is not None else "CREATE"
    attributes = Attributes(operation, resource, subresource, "n", obj["metadata"].get("name", ""), obj, old, User("jane"))
    chain = AdmissionChain([plugin])
    chain.admit(attributes)
    chain.validate(attributes)
    return obj


def refusal(plugin: Plugin, resource: Resource, obj: Object, old: Object | None = None) -> str:
    with pytest.raises(Forbidden) as caught:
        admitted(plugin, resource, obj, old)
    return caught.value.message


def pod(**spec: Any) -> Object:
    return named("p", spec={"containers": [{"name": "c", "image": "web"}], **spec})


# ---- Priority


def test_pods_have_the_priority_of_their_class():
    plugin = PriorityPlugin(cache(named("high", value=7, preemptionPolicy="Never")))
    spec = admitted(plugin, PODS, pod(priorityClassName="high"))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (7, "Never")
    spec = admitted(plugin, PODS, pod())["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")


def test_the_default_class_is_the_one_of_lowest_value():
    plugin = PriorityPlugin(cache(named("b", value=9, globalDefault=True), named("a", value=3, globalDefault=True)))
    assert admitted(plugin, PODS, pod())["spec"]["priorityClassName"] == "a"


def test_priorities_are_not_for_users_to_set():
    plugin = PriorityPlugin(cache(named("high", value=7)))
    assert refusal(plugin, PODS, pod(priorityClassName="none")) == 'pods "p" is forbidden: no PriorityClass with name none was found'
    assert refusal(plugin, PODS, pod(priority=9, priorityClassName="high")) == (
        'pods "p" is forbidden: the integer value of priority (9) must not be provided in pod spec; priority admission controller '
        "computed 7 from the given PriorityClass name"
    )


def test_only_one_class_is_the_default():
    plugin = PriorityPlugin(cache(named("a", value=1, globalDefault=True)))
    found = refusal(plugin, PRIORITYCLASSES, named("b", value=2, globalDefault=True))
    assert found == (
        'priorityclasses.scheduling.k8s.io "b" is forbidden: PriorityClass a is already marked as default. Only one default can exist'
    )


def test_an_update_that_leaves_the_priority_out_keeps_it():
    old = pod(priority=7, preemptionPolicy="Never")
    assert admitted(PriorityPlugin(cache()), PODS, pod(), old)["spec"]["priority"] == 7


# ---- ServiceAccount


def accounts(*objects: Object, extra: tuple[tuple[str, str], ...] = ()) -> ServiceAccountPlugin:
    return ServiceAccountPlugin(cache(*objects, namespaced=True), random.Random(3), extra)


def test_pods_run_as_the_default_account_and_find_its_token():
    spec = admitted(accounts(named("default")), PODS, pod())["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-") + 5
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": volume["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    ]


def test_further_config_maps_can_be_projected():
    spec = admitted(accounts(named("default"), extra=(("more", "ca.pem"),)), PODS, pod())["spec"]
    assert spec["volumes"][0]["projected"]["sources"][-1] == {"configMap": {"name": "more", "items": [{"key": "ca.pem", "path": "ca.pem"}]}}


def test_no_token_is_mounted_where_none_is_wanted():
    assert "volumes" not in admitted(accounts(named("default")), PODS, pod(automountServiceAccountToken=False))["spec"]
    assert "volumes" not in admitted(accounts(named("default", automountServiceAccountToken=False)), PODS, pod())["spec"]
    mounted = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}
    assert "volumes" not in admitted(accounts(named("default")), PODS, pod(containers=[mounted]))["spec"]


def test_pull_secrets_come_from_the_account():
    plugin = accounts(named("default", imagePullSecrets=[{"name": "s"}]))
    assert admitted(plugin, PODS, pod())["spec"]["imagePullSecrets"] == [{"name": "s"}]
    assert admitted(plugin, PODS, pod(imagePullSecrets=[{"name": "own"}]))["spec"]["imagePullSecrets"] == [{"name": "own"}]


def test_a_missing_account_is_named():
    assert refusal(accounts(), PODS, pod()) == (
        'pods "p" is forbidden: error looking up service account n/default: serviceaccount "default" not found'
    )


# ---- LimitRanger


def limits(**item: Any) -> LimitRanger:
    return LimitRanger(cache(named("l", spec={"limits": [{"type": "Container", **item}]}), namespaced=True))


def test_containers_get_the_defaults_of_their_namespace_and_a_note_of_it():
    new = admitted(limits(default={"cpu": "2"}, defaultRequest={"cpu": "1", "memory": "1Gi"}), PODS, pod())
    assert new["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}, "requests": {"cpu": "1", "memory": "1Gi"}}
    assert new["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c"
    }


@pytest.mark.parametrize(("bounds", "resources", "why"), [
    ({"min": {"cpu": "2"}}, {"requests": {"cpu": "1"}}, "minimum cpu usage per Container is 2, but request is 1"),
    ({"min": {"cpu": "2"}}, {}, "minimum cpu usage per Container is 2.  No request is specified"),
    ({"max": {"cpu": "2"}}, {"limits": {"cpu": "3"}}, "maximum cpu usage per Container is 2, but limit is 3"),
    ({"max": {"cpu": "2"}}, {}, "maximum cpu usage per Container is 2.  No limit is specified"),
    ({"maxLimitRequestRatio": {"cpu": "2"}}, {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
     "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
])  # fmt: skip
def test_containers_keep_within_the_bounds_of_their_namespace(bounds, resources, why):
    obj = pod(containers=[{"name": "c", "resources": resources}])
    assert refusal(limits(**bounds), PODS, obj) == f'pods "p" is forbidden: {why}'


def test_all_containers_of_a_pod_count_together():
    plugin = LimitRanger(cache(named("l", spec={"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}), namespaced=True))
    containers = [{"name": name, "resources": {"limits": {"cpu": "1500m"}}} for name in "ab"]
    assert refusal(plugin, PODS, pod(containers=containers)) == (
        'pods "p" is forbidden: maximum cpu usage per Pod is 2, but limit is 3'
    )


def test_a_pod_is_as_greedy_as_its_greediest_moment_unless_it_says_so_itself():
    plugin = LimitRanger(cache(named("l", spec={"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}), namespaced=True))

    def limited(name: str, cpu: str, **fields: Any) -> Object:
        return {"name": name, "resources": {"limits": {"cpu": cpu}}, **fields}

    beside = [limited("sidecar", "1", restartPolicy="Always"), limited("init", "1500m")]
    told = 'pods "p" is forbidden: maximum cpu usage per Pod is 2, but limit is 2500m'
    assert refusal(plugin, PODS, pod(containers=[limited("a", "500m")], initContainers=beside)) == told
    admitted(plugin, PODS, pod(containers=[limited("a", "500m")], initContainers=[limited("init", "1500m")]))
    whole = {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}
    assert "but limit is 3" in refusal(plugin, PODS, pod(containers=[limited("a", "500m")], resources=whole))


def test_claims_keep_within_bounds():
    item = {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}
    plugin = LimitRanger(cache(named("l", spec={"limits": [item]}), namespaced=True))
    claim = named("c", spec={"resources": {"requests": {"storage": "2Gi"}}})
    assert refusal(plugin, PERSISTENTVOLUMECLAIMS, claim) == (
        'persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi'
    )


# ---- Runtime classes, topology


def test_pods_get_overhead_and_place_of_their_runtime_class():
    scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
    plugin = RuntimeClass(cache(named("r", overhead={"podFixed": {"cpu": "1"}}, scheduling=scheduling)))
    spec = admitted(plugin, PODS, pod(runtimeClassName="r"))["spec"]
    assert (spec["overhead"], spec["nodeSelector"], spec["tolerations"]) == ({"cpu": "1"}, {"a": "b"}, scheduling["tolerations"])
    assert refusal(plugin, PODS, pod(runtimeClassName="x")) == 'pods "p" is forbidden: pod rejected: RuntimeClass "x" not found'
    assert "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c" in refusal(
        plugin, PODS, pod(runtimeClassName="r", nodeSelector={"a": "c"})
    )


def test_bindings_take_the_zone_of_the_node_along():
    plugin = PodTopologyLabels(cache(named("n1", metadata={"labels": {LABEL_ZONE: "z", "other": "x"}})))
    binding = admitted(plugin, PODS, named("p", target={"kind": "Node", "name": "n1"}), subresource="binding")
    assert binding["metadata"]["labels"] == {LABEL_ZONE: "z"}
    assert admitted(plugin, PODS, pod(nodeName="n1"))["metadata"]["labels"] == {LABEL_ZONE: "z"}
    assert "labels" not in admitted(plugin, PODS, pod())["metadata"]


# ---- Small ones


def test_pods_stay_five_minutes_on_nodes_that_fail():
    keys = [(t["key"], t["tolerationSeconds"]) for t in admitted(DefaultTolerationSeconds(), PODS, pod())["spec"]["tolerations"]]
    assert keys == [("node.kubernetes.io/not-ready", 300), ("node.kubernetes.io/unreachable", 300)]
    own = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]
    spec = admitted(DefaultTolerationSeconds(), PODS, pod(tolerations=own))["spec"]
    assert [t["tolerationSeconds"] for t in spec["tolerations"]] == [5, 300]
    everything = [{"operator": "Exists"}]
    assert admitted(DefaultTolerationSeconds(), PODS, pod(tolerations=everything))["spec"]["tolerations"] == everything


def test_new_nodes_take_no_pods_yet():
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert admitted(TaintNodesByCondition(), NODES, named("n"))["spec"]["taints"] == [taint]
    assert admitted(TaintNodesByCondition(), NODES, named("n", spec={"taints": [taint]}))["spec"]["taints"] == [taint]


def test_storage_in_use_is_protected():
    for resource, kind in ((PERSISTENTVOLUMECLAIMS, "pvc"), (PERSISTENTVOLUMES, "pv")):
        finalizers = admitted(StorageObjectInUseProtection(), resource, named("x"))["metadata"]["finalizers"]
        assert finalizers == [f"kubernetes.io/{kind}-protection"]


def marked(name: str, annotation: str, created: str = "2026-01-01T00:00:00Z") -> Object:
    return named(name, metadata={"annotations": {annotation: "true"}, "creationTimestamp": created})


def test_the_newest_default_class_is_taken():
    mark = "storageclass.kubernetes.io/is-default-class"
    plugin = DefaultStorageClass(cache(marked("old", mark), marked("new", mark, "2026-02-01T00:00:00Z"), named("plain")))
    assert admitted(plugin, PERSISTENTVOLUMECLAIMS, named("c"))["spec"]["storageClassName"] == "new"
    assert admitted(plugin, PERSISTENTVOLUMECLAIMS, named("c", spec={"storageClassName": ""}))["spec"]["storageClassName"] == ""
    ingress = DefaultIngressClass(cache(marked("i", "ingressclass.kubernetes.io/is-default-class")))
    assert admitted(ingress, INGRESSES, named("x"))["spec"]["ingressClassName"] == "i"


def test_claims_grow_where_their_class_lets_them():
    def claim(size: str, name: str = "grows") -> Object:
        spec = {"storageClassName": name, "resources": {"requests": {"storage": size}}}
        return named("c", spec=spec, status={"phase": "Bound"})

    plugin = PersistentVolumeClaimResize(cache(named("grows", allowVolumeExpansion=True), named("fixed")))
    admitted(plugin, PERSISTENTVOLUMECLAIMS, claim("2Gi"), claim("1Gi"))
    assert refusal(plugin, PERSISTENTVOLUMECLAIMS, claim("2Gi", "fixed"), claim("1Gi", "fixed")) == (
        'persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the '
        "pvc must support resize"
    )


def test_a_refusal_ends_the_chain():
    class Refuses(Plugin):
        def admit(self, attributes: Attributes) -> None:
            raise Forbidden("no")

    class Notes(Plugin):
        asked = False

        def admit(self, attributes: Attributes) -> None:
            self.asked = True

    notes = Notes()
    chain = AdmissionChain([Refuses(), notes])
    with pytest.raises(ApiError):
        chain.admit(Attributes("CREATE", PODS, "", "n", "p", pod(), None, User("jane")))
    assert not notes.asked
