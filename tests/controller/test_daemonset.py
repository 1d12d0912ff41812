"""DaemonSets in virtual time."""

from __future__ import annotations

from typing import Any

from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.resources import CONTROLLERREVISIONS, DAEMONSETS, EVENTS, NODES, PODS, Object
from kubecosm.services.controller.common.pods import is_ready
from kubecosm.services.controller.common.revisions import template_patch
from kubecosm.services.controller.workloads import daemonset
from kubecosm.services.controller.workloads.daemonset.controller import plan_history_cleanup
from kubecosm.services.controller.workloads.daemonset.placement import is_updated, new_pod, target_node, tolerations

from .fake_api import FakeApi
from .harness import Kubelet, controllers, ended, node, pod_template, run, running, settle, wait_for


class PinningKubelet(Kubelet):
    """Binds a pod to the node its affinity names."""

    async def _start(self, pod: Object) -> None:
        found = self.api.objects[PODS].get((pod["metadata"]["namespace"], pod["metadata"]["name"]))  # type: ignore[call-overload]
        if found is not None and not found["spec"].get("nodeName"):
            self.api.put(PODS, {**found, "spec": {**found["spec"], "nodeName": target_node(found)}})
        await super()._start(pod)


def daemon_set(image: str = "v1", **spec: Any) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    body = {
        "selector": {"matchLabels": {"app": "web"}}, "template": pod_template(image), "updateStrategy": strategy,
        "revisionHistoryLimit": 10, **spec,
    }  # fmt: skip
    return {"metadata": {"name": "d", "namespace": "default"}, "spec": body}


def status(api: FakeApi) -> Object:
    found: Object = api.all(DAEMONSETS)[0].get("status") or {}
    return found


async def change(api: FakeApi, **spec: Any) -> None:
    found = await api.get(DAEMONSETS, "d", "default")
    meta = {**found["metadata"], "generation": found["metadata"]["generation"] + 1}
    api.put(DAEMONSETS, {**found, "metadata": meta, "spec": {**found["spec"], **spec}})


def nodes_with_pods(api: FakeApi) -> list[str]:
    return sorted(target_node(pod) for pod in api.all(PODS) if not is_deleting(pod))


def test_every_node_has_its_pod_new_nodes_too() -> None:
    async def test(api: FakeApi) -> None:
        for name in ("a", "b"):
            api.put(NODES, node(name))
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set())
            await wait_for(lambda: status(api).get("numberReady") == 2)
            await api.create(NODES, node("c"))
            await wait_for(lambda: status(api).get("numberAvailable") == 3)
            await settle()
        assert nodes_with_pods(api) == ["a", "b", "c"]
        assert status(api) == {
            "currentNumberScheduled": 3, "numberMisscheduled": 0, "desiredNumberScheduled": 3, "numberReady": 3, "observedGeneration": 1,
            "updatedNumberScheduled": 3, "numberAvailable": 3,
        }  # fmt: skip
        keys = [toleration["key"] for toleration in api.all(PODS)[0]["spec"]["tolerations"]]
        assert "node.kubernetes.io/unschedulable" in keys

    run(test)


def test_node_selector_and_taints_decide_where_pods_run() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("plain"))
        api.put(NODES, node("gpu", kind="gpu"))
        tainted = node("gpu-tainted", kind="gpu")
        tainted["spec"]["taints"] = [{"key": "own", "effect": "NoSchedule"}]
        api.put(NODES, tainted)
        template = pod_template()
        template["spec"]["nodeSelector"] = {"kind": "gpu"}
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set(template=template))
            await wait_for(lambda: status(api).get("numberReady") == 1)
            assert nodes_with_pods(api) == ["gpu"]
            found = await api.get(NODES, "gpu")
            api.put(NODES, {**found, "metadata": {**found["metadata"], "labels": {}}})
            await wait_for(lambda: not api.all(PODS))

    run(test)


def test_an_update_replaces_one_pod_after_the_other_and_a_rollback_reuses_the_revision() -> None:
    async def test(api: FakeApi) -> None:
        for index in range(5):
            api.put(NODES, node(f"n{index}"))
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set())
            await wait_for(lambda: status(api).get("numberAvailable") == 5)
            least = 5

            def sample() -> bool:
                nonlocal least
                least = min(least, sum(is_ready(pod) and not is_deleting(pod) for pod in api.all(PODS)))
                return status(api).get("updatedNumberScheduled") == 5 and status(api).get("numberAvailable") == 5

            await change(api, template=pod_template("v2"))
            await settle(0.1)
            await wait_for(sample)
            assert least == 4
            await change(api, template=pod_template("v1"))
            await settle(0.1)
            await wait_for(sample)
        assert sorted(revision["revision"] for revision in api.all(CONTROLLERREVISIONS)) == [2, 3]
        assert {pod["spec"]["containers"][0]["image"] for pod in api.all(PODS)} == {"v1"}

    run(test)


def test_with_surge_the_new_pod_is_there_before_the_old_one_goes() -> None:
    async def test(api: FakeApi) -> None:
        for index in range(3):
            api.put(NODES, node(f"n{index}"))
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set(updateStrategy=strategy))
            await wait_for(lambda: status(api).get("numberAvailable") == 3)
            least, most = 3, 0

            def sample() -> bool:
                nonlocal least, most
                standing = [pod for pod in api.all(PODS) if not is_deleting(pod)]
                least, most = min(least, sum(is_ready(pod) for pod in standing)), max(most, len(standing))
                return status(api).get("updatedNumberScheduled") == 3 and len(standing) == 3

            await change(api, template=pod_template("v2"))
            await settle(0.05)
            await wait_for(sample)
        assert (least, most) == (3, 4)

    run(test)


def test_a_failed_pod_is_replaced_ever_more_slowly() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("n"))
        kubelet = PinningKubelet(api)
        kubelet.starts = lambda pod: ended("Failed")
        async with controllers(api, daemonset.DaemonSets()), kubelet.at_work():
            await api.create(DAEMONSETS, daemon_set())
            await settle(60)
        assert 5 <= api.count("create", "pods") <= 8
        assert any(event["reason"] == "FailedDaemonPod" for event in api.all(EVENTS))

    run(test)


def test_a_pod_that_has_ended_and_only_waits_for_a_finalizer_is_replaced() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set())
            await wait_for(lambda: status(api).get("numberReady") == 1)
            (first,) = api.all(PODS)
            meta = {**first["metadata"], "finalizers": ["example.com/hold"]}
            api.put(PODS, {**first, "metadata": meta})
            await api.delete(PODS, first["metadata"]["name"], "default")
            await wait_for(lambda: len(api.all(PODS)) == 2)
            await wait_for(lambda: sorted(pod["status"]["phase"] for pod in api.all(PODS)) == ["Running", "Succeeded"])

    run(test)


def test_the_pod_of_a_node_is_pinned_to_it_in_place_of_what_chose_the_node() -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}]
    names = {"required": "requiredDuringSchedulingIgnoredDuringExecution", "preferred": "preferredDuringSchedulingIgnoredDuringExecution"}
    template = pod_template()
    template["spec"]["affinity"] = {"nodeAffinity": {names["required"]: required, names["preferred"]: preferred}}
    owner = daemon_set(template=template)
    owner["metadata"]["uid"] = "d"
    pinned = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}
    found = new_pod(owner, "n", "hash")["spec"]["affinity"]
    assert found == {"nodeAffinity": {names["required"]: pinned, names["preferred"]: preferred}}


def test_tolerations_of_daemons_take_the_place_of_those_that_give_up() -> None:
    own = [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        {"key": "own", "operator": "Exists"},
    ]
    found = tolerations({"tolerations": own})
    assert found[:2] == [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}, own[1]]
    assert [toleration["key"].rpartition("/")[2] for toleration in found[2:]] == [
        "not-ready", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable",
    ]  # fmt: skip


def test_an_adopted_pod_that_belongs_to_no_node_is_left_alone() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        kubelet = PinningKubelet(api)
        async with controllers(api, daemonset.DaemonSets()), kubelet.at_work():
            await api.create(DAEMONSETS, daemon_set())
            await wait_for(lambda: status(api).get("numberReady") == 1)
            kubelet.starts = lambda pod: None
            lone = {"metadata": {"name": "lone", "namespace": "default", "labels": {"app": "web"}}, "spec": pod_template()["spec"]}
            await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", **lone})
            await settle()
        assert api.count("delete", "pods") == 0
        assert status(api)["numberReady"] == 1

    run(test)


def test_a_daemon_set_on_its_way_out_does_nothing() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        body = daemon_set()
        body["metadata"] |= {"finalizers": ["orphan"], "deletionTimestamp": "2020-01-01T00:00:00Z"}
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            api.put(DAEMONSETS, body)
            await settle()
        assert not api.all(PODS)
        assert not api.all(CONTROLLERREVISIONS)
        assert status(api) == {}

    run(test)


def test_a_pod_of_the_same_template_generation_counts_as_updated() -> None:
    """A DaemonSet that takes over the pods of another, both at their first template, does not replace them."""
    owner = daemon_set()
    owner["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "1"}
    pod = {"metadata": {"name": "p", "labels": {"pod-template-generation": "1", "controller-revision-hash": "other"}}}
    assert is_updated(owner, pod, "hash")
    owner["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "2"}
    assert not is_updated(owner, pod, "hash")
    assert is_updated(owner, pod, "other")


def test_a_changed_daemon_set_retries_failed_pods_without_the_wait_of_the_old_one() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("n"))
        kubelet = PinningKubelet(api)
        kubelet.starts = lambda pod: ended("Failed")
        async with controllers(api, daemonset.DaemonSets()), kubelet.at_work():
            await api.create(DAEMONSETS, daemon_set())
            await settle(300)  # it waits for minutes by now
            kubelet.starts = lambda pod: running(api)
            await change(api, template=pod_template("v2"))
            before = api.clock.monotonic()
            await wait_for(lambda: status(api).get("numberReady") == 1)
            assert api.clock.monotonic() - before < 5

    run(test)


def test_a_claimed_revision_without_a_hash_gets_its_name_for_one() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        data = template_patch(daemon_set())
        meta = {"name": "d-by-hand", "namespace": "default", "labels": {"app": "web"}}
        await api.create(CONTROLLERREVISIONS, {"metadata": meta, "data": data, "revision": 1})
        async with controllers(api, daemonset.DaemonSets()), PinningKubelet(api).at_work():
            await api.create(DAEMONSETS, daemon_set())
            await wait_for(lambda: status(api).get("numberReady") == 1)
        (revision,) = api.all(CONTROLLERREVISIONS)
        assert labels_of(revision)["controller-revision-hash"] == "d-by-hand"
        assert labels_of(api.all(PODS)[0])["controller-revision-hash"] == "d-by-hand"

    run(test)


def revision_of(name: str, number: int) -> Object:
    return {"metadata": {"name": name, "labels": {"controller-revision-hash": name}}, "revision": number}


def test_history_counts_the_revisions_that_pods_still_have_but_keeps_them() -> None:
    revisions = [revision_of(f"r{number}", number) for number in (1, 2, 3, 4, 5)]
    pods = [{"metadata": {"name": "p", "labels": {"controller-revision-hash": "r1"}}}]
    doomed = plan_history_cleanup(revisions, revisions[-1], pods, 2)
    assert [revision["metadata"]["name"] for revision in doomed] == ["r2", "r3"]
