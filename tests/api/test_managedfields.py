"""Every write records who owns which field, and apply merges, disputes and lets go as Kubernetes does."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.api.errors import ApiError, BadRequest, Conflict
from kubecosm.api.managedfields import apply, keep_times_if_unchanged, manager_name, on_create, on_update, sets, update
from kubecosm.api.managedfields.entries import UPDATE_MANAGERS_MAX
from kubecosm.api.managedfields.kinds import shape_of
from kubecosm.api.managedfields.shapes import KeyProblem, ListShape, Shape
from kubecosm.api.resources import CONFIGMAPS, DEPLOYMENTS, PODS, SERVICEACCOUNTS, SERVICES, Object, Resource, builtin, load_builtin
from kubecosm.api.schema import decode, normalize, prune

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
CLUSTERROLES = builtin("rbac.authorization.k8s.io", "v1", "clusterroles")
WIDGETS = Resource("example.com", "v1", "Widget", "widgets", "widget", True)


def made(resource: Resource, manager: str = "maker", **parts: Any) -> Object:
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, **parts}
    obj["metadata"] = {"name": "x", **parts.get("metadata", {})}
    obj = normalize(resource, obj)
    on_create(resource, obj, manager, NOW)
    obj["metadata"]["uid"] = "u"
    return obj


def owners(obj: Object) -> dict[str, Any]:
    return {f"{e['manager']}/{e['operation']}": e["fieldsV1"] for e in obj["metadata"].get("managedFields", ())}


def config(resource: Resource, **parts: Any) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x", **parts.pop("metadata", {})}, **parts}


def pod_spec(*containers: Any) -> Any:
    return {"containers": list(containers)}


def test_a_creator_owns_what_it_set_but_not_identity_nor_what_go_writes_anyway() -> None:
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "securityContext": {}}
    pod = made(PODS, metadata={"labels": {"a": "b"}, "finalizers": ["f/x"]}, spec=pod_spec(container))
    assert pod["metadata"]["managedFields"] == [{
        "manager": "maker", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {".": {}, 'v:"f/x"': {}}},
            "f:spec": {"f:containers": {'k:{"name":"c"}': {
                ".": {}, "f:name": {}, "f:image": {}, "f:resources": {}, "f:securityContext": {},
                "f:ports": {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
            }}},
        },
    }]  # fmt: skip


def test_atomic_fields_are_owned_whole_and_struct_fields_by_name() -> None:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {}, "spec": pod_spec()}}
    fields = owners(made(DEPLOYMENTS, spec=spec))["maker/Update"]
    assert fields == {"f:spec": {"f:selector": {}}}


def test_empty_lists_with_omitempty_count_only_inside_of_atomic_lists() -> None:
    def made_pod(**term: Any) -> Object:
        affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", **term}]}}
        body = {"metadata": {"name": "x", "labels": {}}, "spec": {**pod_spec({"name": "c"}), "affinity": affinity}}
        obj, _ = decode(PODS, orjson.dumps(body))
        return obj

    old = made_pod()
    on_create(PODS, old, "maker", NOW)
    assert "f:metadata" not in owners(old)["maker/Update"]
    old["metadata"]["uid"] = "u"
    prune(old)
    new = made_pod(namespaces=[])
    on_update(PODS, new, old, "other", LATER)
    affinity: Any = {"f:podAntiAffinity": {"f:requiredDuringSchedulingIgnoredDuringExecution": {}}}
    assert owners(new)["other/Update"] == {"f:spec": {"f:affinity": affinity}}
    assert new["spec"] == old["spec"]


def test_a_list_that_is_never_omitted_is_owned_when_empty_though_stored_as_null() -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"}, "rules": []}
    obj, _ = decode(CLUSTERROLES, orjson.dumps(role))
    on_create(CLUSTERROLES, obj, "maker", NOW)
    assert owners(obj) == {"maker/Update": {"f:rules": {}}}
    prune(obj)
    assert obj["rules"] is None
    with pytest.raises(Conflict, match=r": \.rules$"):
        apply(CLUSTERROLES, {**obj, "metadata": {**obj["metadata"], "uid": "u"}}, role, "me", False, LATER)


def test_an_update_takes_what_it_changes_from_others_and_forgets_what_is_gone() -> None:
    old = made(CONFIGMAPS, data={"a": "1", "b": "2"})
    new = copy.deepcopy(old)
    new["data"] = {"a": "changed", "c": "3"}
    on_update(CONFIGMAPS, new, old, "other", LATER)
    assert owners(new) == {
        "maker/Update": {"f:data": {}},
        "other/Update": {"f:data": {"f:a": {}, "f:c": {}}},
    }
    assert [e["time"] for e in new["metadata"]["managedFields"]] == ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"]


def test_status_writers_are_entries_of_their_own_and_cannot_own_spec() -> None:
    old = made(PODS, spec=pod_spec({"name": "c"}))
    new = copy.deepcopy(old)
    new["status"] = {"phase": "Running"}
    new["spec"]["hostname"] = "ignored"
    on_update(PODS, new, old, "kubelet", LATER, "status")
    entry = next(e for e in new["metadata"]["managedFields"] if e["manager"] == "kubelet")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:phase": {}}})


def test_a_write_that_changes_nothing_keeps_entries_and_times() -> None:
    old = made(CONFIGMAPS, data={"a": "1"})
    new = copy.deepcopy(old)
    on_update(CONFIGMAPS, new, old, "maker", LATER)
    assert new["metadata"]["managedFields"] == old["metadata"]["managedFields"]
    new["metadata"]["managedFields"][0]["time"] = "2027-01-01T00:00:00Z"
    assert keep_times_if_unchanged(new, old)
    assert new == old
    assert not keep_times_if_unchanged({**new, "data": {}}, old)


def test_clients_may_forget_send_or_reset_managed_fields() -> None:
    old = made(CONFIGMAPS, data={"a": "1"})
    forgotten = copy.deepcopy(old)
    del forgotten["metadata"]["managedFields"]
    on_update(CONFIGMAPS, forgotten, old, "maker", LATER)
    assert owners(forgotten) == owners(old)
    reset = copy.deepcopy(old)
    reset["metadata"]["managedFields"] = [{}]
    on_update(CONFIGMAPS, reset, old, "maker", LATER)
    assert "managedFields" not in reset["metadata"]
    later = copy.deepcopy(reset)
    later["data"] = {"b": "2"}
    on_update(CONFIGMAPS, later, reset, "maker", LATER)
    assert "managedFields" not in later["metadata"]


def test_old_updaters_are_merged_once_there_are_too_many() -> None:
    obj = made(CONFIGMAPS, data={"k": "v"})
    for number in range(UPDATE_MANAGERS_MAX + 3):
        new = copy.deepcopy(obj)
        new["data"][f"k{number}"] = "v"
        on_update(CONFIGMAPS, new, obj, f"m{number:02}", NOW + timedelta(seconds=number + 1))
        obj = new
    assert len(owners(obj)) == UPDATE_MANAGERS_MAX
    assert owners(obj)["ancient-changes/Update"] == {"f:data": {".": {}, "f:k": {}, **{f"f:k{n}": {} for n in range(4)}}}


def test_the_manager_is_the_option_or_the_start_of_the_user_agent() -> None:
    assert manager_name("", "kubectl/v1.33 (linux)") == "kubectl"
    assert manager_name("me", "kubectl/v1.33") == "me"
    assert manager_name("", "") == ""


def test_apply_creates_and_owns_only_what_it_says() -> None:
    obj = apply(SERVICES, None, config(SERVICES, spec={"ports": [{"port": 80}], "selector": {}}), "me", False, NOW)
    port: Any = {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}
    assert owners(obj) == {"me/Apply": {"f:spec": {"f:selector": {}, "f:ports": port}}}
    assert obj["spec"] == {"ports": [{"port": 80, "targetPort": 0}]}


def test_applying_what_is_already_there_shares_ownership_without_a_time() -> None:
    live = made(CONFIGMAPS, data={"a": "1"})
    obj = apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"a": "1"}), "me", False, LATER)
    assert obj["data"] == {"a": "1"}
    assert "time" not in obj["metadata"]["managedFields"][0]
    assert owners(obj) == {"me/Apply": {"f:data": {"f:a": {}}}, "maker/Update": {"f:data": {".": {}, "f:a": {}}}}


def test_changing_anothers_field_is_a_conflict_unless_forced() -> None:
    live = made(PODS, spec=pod_spec({"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}))
    wanted = config(PODS, spec=pod_spec({"name": "c", "image": "j", "env": [{"name": "A", "value": "2"}]}))
    with pytest.raises(Conflict) as caught:
        apply(PODS, live, wanted, "me", False, LATER)
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "maker" using v1:\n'
        '- .spec.containers[name="c"].image\n- .spec.containers[name="c"].env[name="A"].value'
    )
    assert caught.value.details == {"causes": [
        {"reason": "FieldManagerConflict", "message": 'conflict with "maker" using v1', "field": field}
        for field in ('.spec.containers[name="c"].image', '.spec.containers[name="c"].env[name="A"].value')
    ]}  # fmt: skip
    obj = apply(PODS, live, wanted, "me", True, LATER)
    assert obj["spec"]["containers"][0]["image"] == "j"
    assert "f:image" not in owners(obj)["maker/Update"]["f:spec"]["f:containers"]['k:{"name":"c"}']


def test_one_conflict_is_told_in_one_line_and_names_the_subresource() -> None:
    live = made(CONFIGMAPS, data={"a": "1"})
    live["metadata"]["managedFields"][0]["subresource"] = "part"
    with pytest.raises(Conflict, match=r"with subresource .part. using v1: .data.a$"):
        apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"a": "2"}), "me", False, LATER)


def test_what_an_applier_stops_applying_goes_unless_somebody_else_owns_it() -> None:
    live = apply(CONFIGMAPS, None, config(CONFIGMAPS, data={"a": "1", "b": "2"}, metadata={"labels": {"l": "1"}}), "me", False, NOW)
    live = apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"b": "2"}), "you", False, NOW)
    obj = apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"c": "3"}), "me", False, LATER)
    assert obj["data"] == {"b": "2", "c": "3"}
    assert "labels" not in obj["metadata"]


def test_items_of_keyed_lists_and_sets_come_and_go_one_by_one() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
    first = config(PODS, metadata={"finalizers": ["a/x"]}, spec=pod_spec({"name": "c", "ports": ports}))
    live = apply(PODS, None, first, "me", False, NOW)
    other = copy.deepcopy(live)
    other["metadata"]["finalizers"] = ["a/x", "b/x"]
    on_update(PODS, other, live, "you", NOW)
    obj = apply(PODS, other, config(PODS, spec=pod_spec({"name": "c", "ports": ports[1:]})), "me", False, LATER)
    assert obj["metadata"]["finalizers"] == ["b/x"]
    assert obj["spec"]["containers"][0]["ports"] == [{"containerPort": 53, "protocol": "UDP"}]


def test_merged_lists_follow_the_order_of_the_configuration() -> None:
    live = made(PODS, spec=pod_spec({"name": "a"}, {"name": "x"}, {"name": "b"}))
    obj = apply(PODS, live, config(PODS, spec=pod_spec({"name": "b"}, {"name": "new"}, {"name": "a"})), "me", False, LATER)
    assert [c["name"] for c in obj["spec"]["containers"]] == ["x", "b", "new", "a"]


def test_an_object_nobody_manages_belongs_to_before_first_apply() -> None:
    live = normalize(CONFIGMAPS, {**config(CONFIGMAPS, data={"a": "1"})})
    live["metadata"]["uid"] = "u"
    with pytest.raises(Conflict, match="before-first-apply"):
        apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"a": "2"}), "me", False, LATER)


def test_kubectl_may_go_on_where_its_client_side_apply_stopped() -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    last = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}'
    live = made(CONFIGMAPS, "kubectl-client-side-apply", metadata={"annotations": {annotation: last}}, data={"a": "1", "b": "9"})
    obj = apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"a": "2"}), "kubectl", False, LATER)
    assert obj["data"]["a"] == "2"
    assert '"a":"2"' in obj["metadata"]["annotations"][annotation]
    with pytest.raises(Conflict, match=r"\.data\.b$"):
        apply(CONFIGMAPS, live, config(CONFIGMAPS, data={"a": "2", "b": "0"}), "kubectl", False, LATER)


@pytest.mark.parametrize(
    ("resource", "body", "code", "message"),
    [(DEPLOYMENTS, {"apiVersion": "apps/v1beta1", "kind": "Deployment"}, 400,
      "invalid object type: apps/v1beta1, Kind=Deployment"),
     (DEPLOYMENTS, {"apiVersion": "v1", "kind": "Pod"}, 400, "invalid object type: /v1, Kind=Pod"),
     (DEPLOYMENTS, {"apiVersion": -1, "kind": True}, 400, "invalid object type: /, Kind="),
     (PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"managedFields": []}}, 400, "metadata.managedFields must be nil"),
     (DEPLOYMENTS, config(DEPLOYMENTS, spec={"foo": 1, "baz": 2}), 500,
      "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.baz: field not declared in schema"),
     (DEPLOYMENTS, config(DEPLOYMENTS, spec={"replicas": "3"}), 500,
      "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string"),
     (PODS, config(PODS, spec=pod_spec({"name": "c", "env": [{"name": "A", "value": 5}]})), 500,
      'failed to create typed patch object (/x; /v1, Kind=Pod): .spec.containers[name="c"].env[name="A"].value: '
      "expected string, got &value.valueUnstructured{Value:5}"),
     (PODS, config(PODS, spec=pod_spec({"name": "c"}, {"name": "c"})), 500,
      'failed to create typed patch object (/x; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name="c"]')],
)  # fmt: skip
def test_a_configuration_that_cannot_be_applied_is_refused(resource: Resource, body: Any, code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        apply(resource, None, body, "me", False, NOW)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert isinstance(caught.value, BadRequest) == (code == 400)


def test_custom_resources_are_merged_by_maps_with_whole_lists() -> None:
    live = apply(WIDGETS, None, config(WIDGETS, spec={"a": {"b": 1}, "list": [1, 2]}), "me", False, NOW)
    obj = apply(WIDGETS, live, config(WIDGETS, spec={"a": {"c": 2}}), "you", False, NOW)
    assert obj["spec"] == {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert owners(obj)["you/Apply"] == {"f:spec": {"f:a": {"f:c": {}}}}


data = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4)
nodes = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", 'k:{"n":1}', "."]), inner, min_size=1, max_size=3),
    max_leaves=6,
).map(lambda node: {k: v for k, v in _proper(node).items() if k != "."})  # fmt: skip


def _proper(node: Any) -> Any:
    found = {key: ({} if key == "." else _proper(below)) for key, below in node.items()}
    return {} if set(found) == {"."} else found


def members(node: Any) -> set[str]:
    return set(sets.paths(node))


@given(nodes, nodes)
def test_field_sets_obey_the_algebra_of_sets(left: Any, right: Any) -> None:
    assert members(sets.union(left, right)) == members(left) | members(right)
    assert members(sets.intersection(left, right)) == members(left) & members(right)
    assert members(sets.difference(left, right)) == members(left) - members(right)
    assert sets.recursive_difference(left, left) == {}


@given(data, data)
def test_applying_twice_changes_nothing_more(first: Any, second: Any) -> None:
    live = apply(CONFIGMAPS, None, config(CONFIGMAPS, data=first), "me", False, NOW)
    once = apply(CONFIGMAPS, live, config(CONFIGMAPS, data=second), "me", False, NOW)
    twice = apply(CONFIGMAPS, once, config(CONFIGMAPS, data=second), "me", False, LATER)
    assert keep_times_if_unchanged(twice, once)
    assert once.get("data", {}) == second
    assert twice == once


@given(data, data)
def test_independent_appliers_end_at_the_same_object_in_any_order(first: Any, second: Any) -> None:
    mine = config(SERVICEACCOUNTS, metadata={"annotations": first})
    yours = config(SERVICEACCOUNTS, metadata={"labels": second})
    one = apply(SERVICEACCOUNTS, apply(SERVICEACCOUNTS, None, mine, "me", False, NOW), yours, "you", False, NOW)
    other = apply(SERVICEACCOUNTS, apply(SERVICEACCOUNTS, None, yours, "you", False, NOW), mine, "me", False, NOW)
    for obj in (one, other):
        for entry in obj["metadata"].get("managedFields", ()):
            entry.pop("time", None)
    assert one == other


@given(data, data)
def test_comparison_tells_exactly_what_differs(old: Any, new: Any) -> None:
    changed, removed = shape_of("v1", "ConfigMap").compare({"data": old}, {"data": new})
    below = members(changed or {}) - {".data"}
    assert below == {f".data.{k}" for k in new if old.get(k) != new[k]}
    assert members(removed or {}) - {".data"} == {f".data.{k}" for k in old if k not in new}


def test_items_may_leave_out_some_keys_but_not_all() -> None:
    devices = ListShape(Shape(), ("driver", "shareID"))
    assert devices.key({"driver": "d"}) == 'k:{"driver":"d"}'
    with pytest.raises(KeyProblem) as caught:
        devices.key({"other": 1})
    assert str(caught.value) == (
        'associative list with keys has an element that omits all key fields ["driver" "shareID"] '
        "(and doesn't have default values for any key fields)"
    )


@pytest.mark.parametrize("plural", ["pods", "configmaps", "services", "nodes", "deployments", "events", "leases", "persistentvolumeclaims"])
def test_what_a_creator_set_is_what_differs_from_the_empty_object(plural: str) -> None:
    row = next(row for row in load_builtin() if row.plural == plural and row.version == "v1")
    facts, resets = update.facts_of(row), update.reset_fields(row, "")
    objects: list[Object] = [
        {"metadata": {"name": "a", "labels": {}, "uid": "u"}},
        {"metadata": {"name": "a", "labels": {"k": "v"}, "annotations": {"x": "", "y": "z"}, "finalizers": ["f"], "generateName": "a-"}},
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "o"}, {"uid": "2", "name": "o"}]}, "data": {"a": "b"}, "binaryData": {}},
        {"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "x"}, "note": "", "immutable": True, "type": "Normal"},
        {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "volumes": []}},
        {**facts.zero, "metadata": {"name": "a"}},
    ]
    for fields in objects:
        obj = {"apiVersion": row.api_version, "kind": row.kind, **fields}
        slow = update.strip(update.changes(facts.shape, facts.zero, obj, resets)[0])
        assert update.set_by_creator(facts, obj, resets_status=bool(resets)) == slow
