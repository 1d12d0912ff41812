"""What Kubernetes' conformance tests promise of admission webhooks, against a real TLS server in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.promises import promise

from .custom_objects import CRDS, CUSTOM, custom, custom_definition
from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, PODS, Api, configmap, pod, with_api
from .webhook_server import (
    MUTATING,
    VALIDATING,
    Review,
    WebhookServer,
    allow,
    configuration,
    deny,
    patch,
    rule,
    webhook,
)

GROUP = "/apis/admissionregistration.k8s.io"
SETS_STAGE_1 = {"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}


def each_kind(of_mutating: str, of_validating: str) -> pytest.MarkDecorator:
    """Run a test with both kinds of configurations, each of which keeps a promise."""
    promises = {"Mutating": of_mutating, "Validating": of_validating}
    return pytest.mark.parametrize("kind", [pytest.param(kind, marks=promise(name)) for kind, name in promises.items()])


async def json_patch(api: Api, path: str, *operations: dict[str, Any]) -> None:
    code, answer = await api.call("PATCH", path, list(operations), Content_Type="application/json-patch+json")
    assert code == 200, answer


def by_name(bad: str = "disallow", key: str = "webhook-e2e-test") -> Callable[[Review], Review]:
    """Refuses objects whose data says so."""

    def respond(request: Review) -> Review:
        obj = request["object"] or request["oldObject"]
        value = (obj.get("data") or obj["metadata"].get("labels") or {}).get(key, "")
        return {"allowed": value != f"webhook-{bad}", "status": {"message": "the object contains unwanted configuration data"}}

    return respond


@each_kind(
    "AdmissionWebhook listing mutating webhooks should work",
    "AdmissionWebhook listing validating webhooks should work",
)
def test_webhooks_are_listed_and_deleted_as_a_collection(tmp_path: Path, kind: str) -> None:
    path = MUTATING if kind == "Mutating" else VALIDATING

    async def body(api: Api) -> None:
        async with WebhookServer(patch(SETS_STAGE_1) if kind == "Mutating" else deny()) as server:
            for i in range(10):
                await api.create(path, configuration(kind, f"c{i}", webhook(server, rule("configmaps")), labels={"e2e": "yes"}))
            assert len((await api.get(f"{path}?labelSelector=e2e=yes"))["items"]) == 10
            if kind == "Mutating":
                assert (await api.create(CONFIGMAPS, configmap("a")))["data"]["mutation-stage-1"] == "yes"
            else:
                assert "denied the request" in (await api.refused("POST", CONFIGMAPS, configmap("a")))["message"]
            await api.delete(f"{path}?labelSelector=e2e=yes")
            assert (await api.get(path))["items"] == []
            assert (await api.create(CONFIGMAPS, configmap("b")))["data"] == {"k": "v"}

    with_api(tmp_path, body)


@each_kind(
    "AdmissionWebhook patching/updating a mutating webhook should work",
    "AdmissionWebhook patching/updating a validating webhook should work",
)
def test_updates_of_webhooks_count_at_once(tmp_path: Path, kind: str) -> None:
    path = MUTATING if kind == "Mutating" else VALIDATING

    async def body(api: Api) -> None:
        async with WebhookServer(patch(SETS_STAGE_1) if kind == "Mutating" else deny()) as server:
            made = await api.create(path, configuration(kind, "c", webhook(server, rule("configmaps", "CREATE"))))
            made["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
            await api.put(f"{path}/c", made)
            assert (await api.create(CONFIGMAPS, configmap("a")))["data"] == {"k": "v"}
            await json_patch(api, f"{path}/c", {"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]})
            code, answer = await api.call("POST", CONFIGMAPS, configmap("b"))
            assert (answer["data"]["mutation-stage-1"] == "yes") if kind == "Mutating" else (code == 400)

    with_api(tmp_path, body)


@promise("AdmissionWebhook should be able to deny attaching pod")
def test_attaching_is_refused(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        async with WebhookServer(deny("attaching to pod 'to-be-attached-pod' is not allowed")) as server:
            await api.create(VALIDATING, configuration("Validating", "c", webhook(server, rule("pods/attach", "CONNECT"))))
            await api.create(PODS, pod("to-be-attached-pod"))
            message = (await api.refused("GET", f"{PODS}/to-be-attached-pod/attach?stdin=true&container=c"))["message"]
            assert "attaching to pod 'to-be-attached-pod' is not allowed" in message
            [asked] = server.asked
            assert (asked["operation"], asked["subResource"], asked["options"]) == ("CONNECT", "attach", None)
            options = {"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": True, "container": "c"}
            assert asked["object"] == options
            assert asked["kind"] == {"group": "", "version": "v1", "kind": "PodAttachOptions"}

    with_api(tmp_path, body)


@promise("AdmissionWebhook should be able to deny custom resource creation, update and deletion")
def test_custom_resources_are_refused(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CRDS, custom_definition())
        async with WebhookServer(by_name()) as server:
            rules = rule("e2etests", "CREATE", "UPDATE", "DELETE", group="stable.example.com")
            await api.create(VALIDATING, configuration("Validating", "c", webhook(server, rules)))
            bad = custom("bad", {"webhook-e2e-test": "webhook-disallow"})
            assert "unwanted configuration data" in (await api.refused("POST", CUSTOM, bad))["message"]
            await api.create(CUSTOM, custom("good", {"k": "v"}))
            merge = {"Content_Type": "application/merge-patch+json"}
            assert "unwanted" in (await api.refused("PATCH", f"{CUSTOM}/good", {"data": bad["data"]}, **merge))["message"]
            server.respond = deny("the custom resource cannot be deleted")
            assert "cannot be deleted" in (await api.refused("DELETE", f"{CUSTOM}/good"))["message"]
            server.respond = by_name()
            await api.delete(f"{CUSTOM}/good")

    with_api(tmp_path, body)


@promise("AdmissionWebhook should be able to deny pod and configmap creation")
def test_pods_and_configmaps_are_refused(tmp_path: Path) -> None:
    async def respond(request: Review) -> Review:
        if request["name"] == "hanging-pod":
            await asyncio.Event().wait()
        return by_name()(request)

    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        async with WebhookServer(respond) as server:
            selector = {"matchExpressions": [{"key": "skip", "operator": "NotIn", "values": ["yes"]}]}
            hook = webhook(server, rule("pods", "CREATE", "UPDATE"), rule("configmaps", "CREATE", "UPDATE"),
                           namespaceSelector=selector, timeoutSeconds=1)  # fmt: skip
            await api.create(VALIDATING, configuration("Validating", "c", hook))
            bad_pod = pod("bad")
            bad_pod["metadata"]["labels"] = {"webhook-e2e-test": "webhook-disallow"}
            bad = configmap("bad", {"webhook-e2e-test": "webhook-disallow"})
            assert "unwanted" in (await api.refused("POST", PODS, bad_pod))["message"]
            assert "deadline" in (await api.refused("POST", PODS, pod("hanging-pod")))["message"]
            assert (await api.call("GET", f"{PODS}/hanging-pod"))[0] == 404
            assert "unwanted" in (await api.refused("POST", CONFIGMAPS, bad))["message"]
            await api.create(CONFIGMAPS, configmap("good"))
            assert "unwanted" in (await api.refused("PUT", f"{CONFIGMAPS}/good", configmap("good", bad["data"])))["message"]
            merge = {"Content_Type": "application/merge-patch+json"}
            assert "unwanted" in (await api.refused("PATCH", f"{CONFIGMAPS}/good", {"data": bad["data"]}, **merge))["message"]
            await api.create("/api/v1/namespaces", {"metadata": {"name": "exempted", "labels": {"skip": "yes"}}})
            await api.create("/api/v1/namespaces/exempted/configmaps", bad)

    with_api(tmp_path, body)


@promise("AdmissionWebhook should deny crd creation")
def test_definitions_are_refused(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(deny("the crd contains unwanted label")) as server:
            rules = rule("customresourcedefinitions", "CREATE", group="apiextensions.k8s.io")
            await api.create(VALIDATING, configuration("Validating", "c", webhook(server, rules)))
            assert "unwanted label" in (await api.refused("POST", CRDS, custom_definition()))["message"]
            assert (await api.get(CRDS))["items"] == []

    with_api(tmp_path, body)


@promise("AdmissionWebhook should honor timeout")
def test_timeouts_are_kept(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        go, third = asyncio.Event(), asyncio.Barrier(2)

        async def slow(request: Review) -> Review:
            if request["name"] == "c":
                await third.wait()
            await go.wait()
            return {"allowed": True}

        async with WebhookServer(slow) as server:
            await api.create(VALIDATING, configuration("Validating", "c", webhook(server, rule("configmaps"), timeoutSeconds=1)))
            url = f"https://127.0.0.1:{server.port}/hook?timeout=1s"
            message = (await api.refused("POST", CONFIGMAPS, configmap("a")))["message"]
            assert message.endswith(f'failed to call webhook: Post "{url}": context deadline exceeded')
            await json_patch(api, f"{VALIDATING}/c", {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"})
            await api.create(CONFIGMAPS, configmap("b"))
            both = [{"op": "replace", "path": f"/webhooks/0/{name}", "value": value}
                    for name, value in (("failurePolicy", "Fail"), ("timeoutSeconds", 10))]  # fmt: skip
            await json_patch(api, f"{VALIDATING}/c", *both)
            waiting = asyncio.ensure_future(api.create(CONFIGMAPS, configmap("c")))
            await third.wait()
            go.set()
            assert (await waiting)["metadata"]["name"] == "c"

    with_api(tmp_path, body)


@promise("AdmissionWebhook should include webhook resources in discovery documents")
def test_discovery_tells_of_webhooks(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        groups = {group["name"]: group for group in (await api.get("/apis"))["groups"]}
        versions = {"groupVersion": "admissionregistration.k8s.io/v1", "version": "v1"}
        assert versions in groups["admissionregistration.k8s.io"]["versions"]
        assert versions in (await api.get(GROUP))["versions"]
        names = {resource["name"] for resource in (await api.get(f"{GROUP}/v1"))["resources"]}
        assert names >= {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"}

    with_api(tmp_path, body)


def staged(request: Review) -> Review:
    """Adds stage 2 where stage 1 has been."""
    if request["object"]["data"].get("mutation-stage-1") == "yes":
        return dict(patch({"op": "add", "path": "/data/mutation-stage-2", "value": "yes"})(request))  # type: ignore[arg-type]
    return {"allowed": True}


def starter(request: Review) -> Review:
    """Adds stage 1 where it is asked for."""
    if request["object"]["data"].get("mutation-start") == "yes":
        return dict(patch(SETS_STAGE_1)(request))  # type: ignore[arg-type]
    return {"allowed": True}


ALL_STAGES = {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


@promise("AdmissionWebhook should mutate configmap")
def test_mutations_build_on_each_other(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(starter) as first, WebhookServer(staged) as second:
            hooks = [webhook(first, rule("configmaps", "CREATE"), name="stage1.k8s.io"),
                     webhook(second, rule("configmaps", "CREATE"), name="stage2.k8s.io")]  # fmt: skip
            await api.create(MUTATING, configuration("Mutating", "c", *hooks))
            assert (await api.create(CONFIGMAPS, configmap("a", {"mutation-start": "yes"})))["data"] == ALL_STAGES

    with_api(tmp_path, body)


async def register_stages(api: Api, first: WebhookServer, second: WebhookServer) -> None:
    rules = rule("e2etests", "CREATE", "UPDATE", group="stable.example.com")
    hooks = [webhook(first, rules, name="stage1.k8s.io"), webhook(second, rules, name="stage2.k8s.io")]
    await api.create(MUTATING, configuration("Mutating", "c", *hooks))


@promise("AdmissionWebhook should mutate custom resource")
def test_custom_resources_are_mutated(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CRDS, custom_definition())
        async with WebhookServer(starter) as first, WebhookServer(staged) as second:
            await register_stages(api, first, second)
            assert (await api.create(CUSTOM, custom("a", {"mutation-start": "yes"})))["data"] == ALL_STAGES

    with_api(tmp_path, body)


@promise("AdmissionWebhook should mutate custom resource with pruning")
def test_what_webhooks_add_is_pruned(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        known = {name: {"type": "string"} for name in ("mutation-start", "mutation-stage-1")}
        await api.create(CRDS, custom_definition(known))
        async with WebhookServer(starter) as first, WebhookServer(staged) as second:
            await register_stages(api, first, second)
            made = await api.create(CUSTOM, custom("a", {"mutation-start": "yes"}))
            assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}

    with_api(tmp_path, body)


@promise("AdmissionWebhook should mutate custom resource with different stored version")
def test_custom_resources_of_another_stored_version_are_mutated(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CRDS, custom_definition())
        async with WebhookServer(allow) as server:
            rules = rule("e2etests", "CREATE", "UPDATE", group="stable.example.com")
            await api.create(MUTATING, configuration("Mutating", "c", webhook(server, rules)))
            await api.create(CUSTOM, custom("a", {"k": "v"}))
            stored = [{"op": "replace", "path": f"/spec/versions/{i}/storage", "value": value} for i, value in enumerate((False, True))]
            await json_patch(api, f"{CRDS}/e2etests.stable.example.com", *stored)
            patched = await api.merge(f"{CUSTOM}/a", {"data": {"dummy": "test"}})
            assert patched["data"] == {"k": "v", "dummy": "test"}
            assert [asked["object"]["apiVersion"] for asked in server.asked] == ["stable.example.com/v1"] * 2

    with_api(tmp_path, body)


@promise("AdmissionWebhook should mutate pod and apply defaults after mutation")
def test_what_webhooks_add_is_defaulted(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        added = {"op": "add", "path": "/spec/initContainers", "value": [{"name": "webhook-added-init-container", "image": "x"}]}
        async with WebhookServer(patch(added)) as server:
            await api.create(MUTATING, configuration("Mutating", "c", webhook(server, rule("pods", "CREATE"))))
            [container] = (await api.create(PODS, pod("p")))["spec"]["initContainers"]
            assert container["name"] == "webhook-added-init-container"
            assert container["terminationMessagePolicy"] == "File"

    with_api(tmp_path, body)


@promise("AdmissionWebhook should not be able to mutate or prevent deletion of webhook configuration objects")
def test_webhook_configurations_are_exempt(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        label = {"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}
        async with WebhookServer(deny()) as denying, WebhookServer(patch(label)) as labelling:
            rules = rule("*", "*", group="admissionregistration.k8s.io", version="*")
            await api.create(VALIDATING, configuration("Validating", "deny", webhook(denying, rules)))
            await api.create(MUTATING, configuration("Mutating", "label", webhook(labelling, rules)))
            for kind, path in (("Validating", VALIDATING), ("Mutating", MUTATING)):
                made = await api.create(path, configuration(kind, "dummy", webhook(denying, rule("invalid"))))
                assert "labels" not in made["metadata"]
                await api.delete(f"{path}/dummy")
            assert denying.asked == labelling.asked == []

    with_api(tmp_path, body)


@promise("AdmissionWebhook should unconditionally reject operations on fail closed webhook")
def test_a_webhook_that_cannot_be_called_fails_closed(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            without_ca = {"url": server.client_config["url"]}
            hook = webhook(server, rule("configmaps", "CREATE"), clientConfig=without_ca, failurePolicy="Fail",
                           name="fail-closed.k8s.io")  # fmt: skip
            await api.create(VALIDATING, configuration("Validating", "c", hook))
            code, status = await api.call("POST", CONFIGMAPS, configmap("a"))
            assert (code, status["reason"]) == (500, "InternalError")
            assert 'failed calling webhook "fail-closed.k8s.io"' in status["message"]

    with_api(tmp_path, body)


@each_kind(
    "AdmissionWebhook should be able to create and update mutating webhook configurations with match conditions",
    "AdmissionWebhook should be able to create and update validating webhook configurations with match conditions",
)
def test_match_conditions_are_kept(tmp_path: Path, kind: str) -> None:
    path = MUTATING if kind == "Mutating" else VALIDATING

    async def body(api: Api) -> None:
        first = [{"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}]
        async with WebhookServer(allow) as server:
            hook = webhook(server, rule("configmaps"), matchConditions=first)
            made = await api.create(path, configuration(kind, "c", hook))
            assert made["webhooks"][0]["matchConditions"] == first
            second = [{"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"}]
            made["webhooks"][0]["matchConditions"] = second
            await api.put(f"{path}/c", made)
            assert (await api.get(f"{path}/c"))["webhooks"][0]["matchConditions"] == second

    with_api(tmp_path, body)


@each_kind(
    "AdmissionWebhook should reject mutating webhook configurations with invalid match conditions",
    "AdmissionWebhook should reject validating webhook configurations with invalid match conditions",
)
def test_match_conditions_that_do_not_compile_are_refused(tmp_path: Path, kind: str) -> None:
    path = MUTATING if kind == "Mutating" else VALIDATING

    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            conditions = [{"name": "invalid-expression-1", "expression": "... [] bad expression"}]
            hook = webhook(server, rule("configmaps"), matchConditions=conditions)
            code, status = await api.call("POST", path, configuration(kind, "c", hook))
            assert (code, status["reason"]) == (422, "Invalid")
            [cause] = status["details"]["causes"]
            assert cause["field"] == "webhooks[0].matchConditions[0].expression"
            assert 'Invalid value: "... [] bad expression": compilation failed: ERROR: <input>:1:' in cause["message"]

    with_api(tmp_path, body)


@promise("AdmissionWebhook should mutate everything except 'skip-me' configmaps")
def test_a_match_condition_excludes_an_object_by_name(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(starter) as server:
            conditions = [{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]
            hook = webhook(server, rule("configmaps", "CREATE"), matchConditions=conditions)
            await api.create(MUTATING, configuration("Mutating", "c", hook))
            start = {"mutation-start": "yes"}
            assert (await api.create(CONFIGMAPS, configmap("skip-me", start)))["data"] == start
            assert (await api.create(CONFIGMAPS, configmap("mutate-me", start)))["data"] == start | {"mutation-stage-1": "yes"}

    with_api(tmp_path, body)
