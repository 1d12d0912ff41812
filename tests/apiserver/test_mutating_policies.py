"""MutatingAdmissionPolicies: what they change, in which order, and what failures come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.promises import promise

from .custom_objects import CRDS, CUSTOM, custom, custom_definition
from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, DEPLOYMENTS, PODS, Api, configmap, deployment, pod, with_api
from .policy_objects import MAP, install, json_patch, mutating_binding, mutating_policy
from .webhook_server import rule

ON_DEPLOYMENTS = [rule("deployments", "CREATE", group="apps")]


@promise("MutatingAdmissionPolicy should mutate a Deployment")
def test_a_deployment_is_mutated(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        wanted = "object.spec.replicas % 2 == 0 ? object.spec.replicas + 1 : object.spec.replicas"
        expression = f"Object{{ spec: Object.spec{{ replicas: {wanted} }} }}"
        await install(api, mutating_policy(expression, rules=ON_DEPLOYMENTS))
        assert (await api.create(DEPLOYMENTS, deployment("two", replicas=2)))["spec"]["replicas"] == 3
        assert (await api.create(DEPLOYMENTS, deployment("five", replicas=5)))["spec"]["replicas"] == 5
        labels = 'enforcement_action="allow",error_type="no_error",policy="m",policy_binding="mb"'
        metrics = (await api.raw("GET", "/metrics")).text
        assert f"apiserver_mutating_admission_policy_check_total{{{labels}}} 2.0" in metrics

    with_api(tmp_path, body)


@promise("MutatingAdmissionPolicy should mutate a Deployment with annotations")
def test_a_deployment_gets_annotations(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        expression = 'Object{ metadata: Object.metadata{ annotations: {"my-foo-annotation": "myAnnotationValue"} } }'
        await install(api, mutating_policy(expression, rules=ON_DEPLOYMENTS))
        made = deployment("d")
        made["metadata"]["annotations"] = {"own": "kept"}
        made = await api.create(DEPLOYMENTS, made)
        assert made["metadata"]["annotations"] == {"own": "kept", "my-foo-annotation": "myAnnotationValue"}

    with_api(tmp_path, body)


def test_lists_with_keys_are_merged_item_by_item(tmp_path: Path) -> None:
    expression = """
        Object{ spec: Object.spec{ initContainers: [ Object.spec.initContainers{
            name: "mesh-proxy", image: "mesh/proxy:v1.0.0", restartPolicy: "Always" } ] } }"""

    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        conditions = [{"name": "none-yet", "expression": '!object.spec.?initContainers.orValue([]).exists(c, c.name == "mesh-proxy")'}]
        made = mutating_policy(expression, rules=[rule("pods", "CREATE")], matchConditions=conditions, reinvocationPolicy="IfNeeded")
        await install(api, made)
        made = await api.create(PODS, pod("p", initContainers=[{"name": "first", "image": "x"}]))
        containers = {each["name"]: each for each in made["spec"]["initContainers"]}
        assert set(containers) == {"first", "mesh-proxy"}
        assert containers["mesh-proxy"]["restartPolicy"] == "Always"
        assert containers["mesh-proxy"]["terminationMessagePolicy"] == "File", "what is added gets its defaults"

    with_api(tmp_path, body)


def test_json_patches_are_applied(tmp_path: Path) -> None:
    expression = """
        [ JSONPatch{op: "test", path: "/data/k", value: "v"},
          JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("a/b"), value: object.metadata.name} ]"""

    async def body(api: Api) -> None:
        await install(api, mutating_policy(json_patch(expression)))
        made = await api.create(CONFIGMAPS, configmap("a", annotations={"c": "d"}))
        assert made["metadata"]["annotations"] == {"a/b": "a", "c": "d"}
        assert (await api.create(CONFIGMAPS, configmap("b", {"k": "w"})))["data"] == {"k": "w"}, "a failed test means nothing is to do"

    with_api(tmp_path, body)


def test_custom_resources_are_mutated(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CRDS, custom_definition())
        rules = [rule("e2etests", "CREATE", group="stable.example.com")]
        await install(api, mutating_policy('Object{ data: Object.data{ stamp: "yes" } }', rules=rules))
        assert (await api.create(CUSTOM, custom("a", {"k": "v"})))["data"] == {"k": "v", "stamp": "yes"}

    with_api(tmp_path, body)


def test_policies_that_ask_for_it_are_applied_again_when_a_later_one_changed_the_object(tmp_path: Path) -> None:
    count = 'Object{ data: Object.data{ count: string(object.data.size()) } }'

    async def body(api: Api) -> None:
        await install(api, mutating_policy(count, name="a", reinvocationPolicy="IfNeeded"), mutating_binding("ab", "a"))
        await install(api, mutating_policy('Object{ data: Object.data{ more: "x" } }', name="b"), mutating_binding("bb", "b"))
        assert (await api.create(CONFIGMAPS, configmap("a")))["data"] == {"k": "v", "count": "3", "more": "x"}

    with_api(tmp_path, body)


def test_params_are_merged_one_after_the_other(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        for name in ("x", "y"):
            await api.create(CONFIGMAPS, configmap(name, labels={"param": "yes"}))
        made = mutating_policy('Object{ metadata: Object.metadata{ labels: {params.metadata.name: "seen"} } }', paramKind=kind)
        made["spec"]["matchConstraints"]["resourceRules"] = [rule("secrets", "CREATE")]
        reference = {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"}
        await install(api, made, mutating_binding(paramRef=reference))
        secret = await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        assert secret["metadata"]["labels"] == {"x": "seen", "y": "seen"}

    with_api(tmp_path, body)


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (json_patch('[JSONPatch{op: "remove", path: "/data/none"}]'),
         "JSONPath: error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value"),
        ("Object{ data: Object.data{ k: object.data.missing } }", "resulted in error: no such key: missing"),
        ("Object{ metadata: Object.data{ name: 'x' } }", 'type mismatch: unexpected type name "Object.data", expected "Object.metadata"'),
    ],
)  # fmt: skip
def test_failures_follow_the_failure_policy(tmp_path: Path, mutation: Any, why: str) -> None:
    async def body(api: Api) -> None:
        await install(api, mutating_policy(mutation))
        status = await api.refused("POST", CONFIGMAPS, configmap("a"))
        assert status["message"].startswith("policy 'm' with binding 'mb' denied request: ")
        assert why in status["message"]
        assert (status["code"], status["reason"]) == (403, "Invalid")
        assert status["details"]["causes"] == [{"message": status["message"]}]
        await api.merge(f"{MAP}/m", {"spec": {"failurePolicy": "Ignore"}})
        await api.create(CONFIGMAPS, configmap("a"))

    with_api(tmp_path, body)


def test_atomic_lists_may_not_be_replaced_by_accident(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        expression = 'Object{ spec: Object.spec{ containers: [ Object.spec.containers{ name: "c", args: ["x"] } ] } }'
        await install(api, mutating_policy(expression, rules=[rule("pods", "CREATE")]))
        status = await api.refused("POST", PODS, pod("p"))
        why = "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        assert status["message"].endswith(why)

    with_api(tmp_path, body)
