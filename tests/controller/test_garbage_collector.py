"""The garbage collector: its graph and decisions, and whole deletions in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.meta import is_deleting
from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import CLUSTERROLES, CONFIGMAPS, DEPLOYMENTS, EVENTS, PODS, REPLICASETS, SECRETS, Object
from kubecosm.services.controller.cluster.garbage_collector import GarbageCollector
from kubecosm.services.controller.cluster.garbage_collector.graph import Graph, identity_of
from kubecosm.services.controller.cluster.garbage_collector.plan import Action, Delete, DropOwners, Keep, OwnerState, plan_item

from .fake_api import FakeApi
from .harness import Kubelet, controllers, run, settle, wait_for


def obj(name: str, *owners: Object, namespace: str = "default", **meta: Any) -> Object:
    references = [owner_ref(owner) for owner in owners]
    return {
        "metadata": {"name": name, "namespace": namespace, **({"ownerReferences": references} if references else {}), **meta},
        "spec": {},
    }


def owner_ref(owner: Object, *, block: bool = True) -> Object:
    meta = owner["metadata"]
    kind = {"apiVersion": owner.get("apiVersion", "v1"), "kind": owner.get("kind", "ConfigMap")}
    return {**kind, "name": meta["name"], "uid": meta["uid"], "controller": True, "blockOwnerDeletion": block}


async def family(api: FakeApi) -> tuple[Object, Object, Object]:
    """A Deployment, its ReplicaSet, its Pod."""
    top = await api.create(DEPLOYMENTS, obj("top"))
    middle = await api.create(REPLICASETS, obj("middle", top))
    leaf = await api.create(PODS, obj("leaf", middle))
    return top, middle, leaf


def names(api: FakeApi) -> set[str]:
    return {found["metadata"]["name"] for resource in (DEPLOYMENTS, REPLICASETS, PODS) for found in api.all(resource)}


def test_background_deletion_takes_the_dependents_afterwards() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)), Kubelet(api).at_work():
            await family(api)
            await settle()
            assert names(api) == {"top", "middle", "leaf"}
            await api.delete(DEPLOYMENTS, "top", "default", options={"propagationPolicy": "Background"})
            assert "top" not in names(api)
            await wait_for(lambda: not names(api))

    run(test)


def test_foreground_deletion_keeps_the_owner_until_its_dependents_are_gone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)), Kubelet(api, stop_seconds=5).at_work():
            await family(api)
            await settle()
            await api.delete(DEPLOYMENTS, "top", "default", options={"propagationPolicy": "Foreground"})
            await wait_for(lambda: api.all(PODS) and is_deleting(api.all(PODS)[0]))
            assert names(api) == {"top", "middle", "leaf"}
            assert FINALIZER_FOREGROUND in api.all(REPLICASETS)[0]["metadata"]["finalizers"]
            await wait_for(lambda: not names(api))
            assert api.clock.monotonic() < 15

    run(test)


def test_orphaning_leaves_the_dependents_without_owner() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)), Kubelet(api).at_work():
            await family(api)
            await settle()
            await api.delete(DEPLOYMENTS, "top", "default", options={"propagationPolicy": "Orphan"})
            await wait_for(lambda: "top" not in names(api))
            await settle()
        assert names(api) == {"middle", "leaf"}
        assert not api.all(REPLICASETS)[0]["metadata"].get("ownerReferences")

    run(test)


def test_a_dependent_of_an_owner_that_never_was_is_deleted_and_the_owner_asked_for_once() -> None:
    async def test(api: FakeApi) -> None:
        ghost = obj("ghost", uid="no-such-uid")
        for index in range(50):
            await api.create(SECRETS, obj(f"child-{index}", ghost))
        async with controllers(api, GarbageCollector(8)):
            await wait_for(lambda: not api.all(SECRETS))
        assert api.count("get", "configmaps") == 1

    run(test)


def test_with_one_owner_left_only_the_reference_to_the_other_goes() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)):
            one, two = await api.create(CONFIGMAPS, obj("one")), await api.create(CONFIGMAPS, obj("two"))
            await api.create(SECRETS, obj("child", one, two))
            await settle()
            await api.delete(CONFIGMAPS, "one", "default")
            await wait_for(lambda: [ref["name"] for ref in api.all(SECRETS)[0]["metadata"]["ownerReferences"]] == ["two"])
            await api.delete(CONFIGMAPS, "two", "default")
            await wait_for(lambda: not api.all(SECRETS))

    run(test)


def test_a_circle_of_foreground_deletions_comes_to_an_end() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)):
            one = await api.create(CONFIGMAPS, obj("one"))
            two = await api.create(CONFIGMAPS, obj("two", one))
            api.put(CONFIGMAPS, {**one, "metadata": {**one["metadata"], "ownerReferences": [owner_ref(two)]}})
            await settle()
            await api.delete(CONFIGMAPS, "one", "default", options={"propagationPolicy": "Foreground"})
            await wait_for(lambda: not api.all(CONFIGMAPS))

    run(test)


def test_a_custom_resource_is_collected_once_its_definition_is_served() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)):
            await settle()
            widgets = api.serve_custom("example.com", "v1", "Widget", "widgets")
            parent = await api.create(CONFIGMAPS, obj("parent"))
            await api.create(widgets, obj("w", parent))
            await settle(3)
            await api.delete(CONFIGMAPS, "parent", "default")
            await wait_for(lambda: not api.all(widgets))
            api.unserve_custom(widgets)
            await settle()
            assert not [stream for stream in api.streams if stream.resource == widgets]

    run(test)


def test_a_thousand_dependents_cost_one_request_each() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(32)):
            parent = await api.create(CONFIGMAPS, obj("parent"))
            for index in range(1000):
                api.put(SECRETS, obj(f"child-{index}", parent, uid=f"child-{index}"))
            await settle()
            await api.delete(CONFIGMAPS, "parent", "default")
            await wait_for(lambda: not api.all(SECRETS))
        assert api.count("delete", "secrets") == 1000
        assert api.count("get", "secrets") == 0

    run(test)


SOLID, DANGLING, WAITING = OwnerState.SOLID, OwnerState.DANGLING, OwnerState.WAITING
FOREGROUND_DEPENDENT = obj("d", deletionTimestamp="x", finalizers=[FINALIZER_FOREGROUND])


@pytest.mark.parametrize(
    ("states", "dependents", "action"),
    [
        pytest.param((), [], Keep(), id="no owners"),
        pytest.param((SOLID,), [], Keep(), id="a solid owner"),
        pytest.param((SOLID, DANGLING), [], DropOwners(("u1",)), id="a solid and a dangling owner"),
        pytest.param((SOLID, WAITING), [], DropOwners(("u1",)), id="a solid and a waiting owner"),
        pytest.param((DANGLING,), [], Delete("Background"), id="a dangling owner"),
        pytest.param((WAITING,), [], Delete("Background"), id="a waiting owner, no dependents"),
        pytest.param((WAITING,), [obj("d")], Delete("Foreground"), id="a waiting owner and dependents"),
        pytest.param((WAITING,), [FOREGROUND_DEPENDENT], Delete("Foreground", unblock=True), id="a circle"),
    ],
)
def test_what_becomes_of_an_object(states: tuple[OwnerState, ...], dependents: list[Object], action: Action) -> None:
    owners = [obj(f"o{index}", uid=f"u{index}") for index in range(len(states))]
    found = plan_item(obj("x", *owners), {f"u{index}": state for index, state in enumerate(states)}, dependents)
    assert found == action


@pytest.mark.parametrize(("finalizer", "policy"), [(FINALIZER_FOREGROUND, "Foreground"), (FINALIZER_ORPHAN, "Orphan")])
def test_a_finalizer_that_is_there_decides_how_it_goes(finalizer: str, policy: str) -> None:
    found = obj("x", obj("o", uid="u"), finalizers=[finalizer])
    assert plan_item(found, {"u": DANGLING}, []) == Delete(policy)


def test_the_graph_keeps_no_virtual_owner_without_dependents() -> None:
    graph = Graph()
    child = obj("child", obj("ghost", uid="ghost"), uid="child")
    assert list(graph.observe(SECRETS, child)) == ["ghost"]
    assert len(graph) == 2
    assert list(graph.forget("child")) == []
    assert len(graph) == 0


def test_an_owner_in_another_namespace_is_no_owner_and_an_event_says_so() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, GarbageCollector(8)):
            owner = await api.create(CONFIGMAPS, obj("owner", namespace="other"))
            await api.create(SECRETS, obj("near", owner, namespace="other"))
            await settle()
            child = await api.create(SECRETS, obj("child", owner))
            await wait_for(lambda: [found["metadata"]["name"] for found in api.all(SECRETS)] == ["near"])
            await settle()
        (event,) = api.all(EVENTS)
        reference = f"[v1/ConfigMap, namespace: default, name: owner, uid: {owner['metadata']['uid']}]"
        assert (event["reason"], event["message"]) == (
            "OwnerRefInvalidNamespace", f'ownerRef {reference} does not exist in namespace "default"',
        )  # fmt: skip
        assert (event["involvedObject"]["uid"], event["source"]["component"]) == (child["metadata"]["uid"], "garbage-collector-controller")

    run(test)


@pytest.mark.parametrize("wrong", [{"kind": "Secret"}, {"name": "else"}, {"apiVersion": "apps/v1", "kind": "Deployment"}], ids=str)
@pytest.mark.parametrize("wrong_first", [True, False], ids=["wrong one first", "right one first"])
def test_a_reference_that_names_a_right_uid_wrongly_stands_for_nothing_and_harms_no_other(wrong: Object, wrong_first: bool) -> None:
    async def test(api: FakeApi) -> None:
        owner = api.put(CONFIGMAPS, obj("owner", uid="u-owner"))
        right, misled = obj("right", owner, uid="u-right"), obj("misled", owner, uid="u-misled")
        misled["metadata"]["ownerReferences"][0] |= wrong
        for one in (misled, right) if wrong_first else (right, misled):
            api.put(SECRETS, one)
        async with controllers(api, GarbageCollector(8)):
            await wait_for(lambda: [found["metadata"]["name"] for found in api.all(SECRETS)] == ["right"])
            await settle()
            assert [found["metadata"]["name"] for found in api.all(SECRETS)] == ["right"]

    run(test)


def test_a_cluster_scoped_object_with_an_owner_in_a_namespace_is_kept() -> None:
    async def test(api: FakeApi) -> None:
        owner = await api.create(CONFIGMAPS, obj("owner"))
        body = obj("role", owner)
        del body["metadata"]["namespace"]
        async with controllers(api, GarbageCollector(8)):
            await api.create(CLUSTERROLES, body)
            await settle(5)
            await api.delete(CONFIGMAPS, "owner", "default")
            await settle(5)
            assert api.all(CLUSTERROLES)

    run(test)


def test_a_reference_from_another_namespace_makes_no_virtual_owner_look_absent_to_others() -> None:
    graph = Graph()
    ghost = obj("ghost", uid="ghost")
    stranger, child = obj("stranger", ghost, uid="stranger", namespace="other"), obj("child", ghost, uid="child")
    assert list(graph.observe(SECRETS, stranger)) == ["ghost"]
    assert list(graph.observe(SECRETS, child)) == ["child"], "it means another one: to be asked for by itself"
    assert set(graph.never_was("ghost")) == {"stranger", "child"}
    assert identity_of(owner_ref(ghost), "other") in graph.absent_owners
    assert identity_of(owner_ref(ghost), "default") not in graph.absent_owners
    assert list(graph.observe(CONFIGMAPS, ghost)) == ["stranger"]
