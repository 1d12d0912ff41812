"""Admission webhooks: who is asked about what, and what the answers do. What failures come to: test_webhook_failures.py."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from .custom_objects import CRDS, CUSTOM, custom, custom_definition
from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, DEPLOYMENTS, PODS, Api, configmap, deployment, pod, with_api
from .test_audit import audited, events_of
from .webhook_server import (
    MUTATING,
    VALIDATING,
    Review,
    WebhookServer,
    allow,
    configuration,
    deny,
    mutate,
    patch,
    rule,
    validate,
    webhook,
)

NAMESPACES = "/api/v1/namespaces"


def test_a_webhook_is_told_what_is_asked_of_the_server(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("configmaps"))
            await api.create(f"{CONFIGMAPS}?fieldManager=me", configmap("a"))
            await api.merge(f"{CONFIGMAPS}/a", {"data": {"x": "y"}})
            await api.delete(f"{CONFIGMAPS}/a", {"gracePeriodSeconds": 7})
            created, updated, deleted = server.asked
            kind, resource = {"group": "", "version": "v1", "kind": "ConfigMap"}, {"group": "", "version": "v1", "resource": "configmaps"}
            for asked in server.asked:
                assert (asked["kind"], asked["requestKind"]) == (kind, kind)
                assert (asked["resource"], asked["requestResource"]) == (resource, resource)
                assert (asked["name"], asked["namespace"], asked["dryRun"]) == ("a", "default", False)
                assert asked["userInfo"] == {"username": "admin", "uid": "admin", "groups": ["system:masters", "system:authenticated"]}
            assert (created["operation"], created["oldObject"]) == ("CREATE", None)
            assert created["object"]["data"] == {"k": "v"}
            assert created["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}
            assert (updated["operation"], updated["object"]["data"]) == ("UPDATE", {"k": "v", "x": "y"})
            assert updated["oldObject"]["data"] == {"k": "v"}
            assert updated["options"] == {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}
            assert (deleted["operation"], deleted["object"], deleted["oldObject"]["metadata"]["name"]) == ("DELETE", None, "a")
            assert deleted["options"] == {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 7}
            assert len({asked["uid"] for asked in server.asked}) == 3
            assert server.paths == ["/hook?timeout=10s"] * 3
            assert len(server.connections) == 1, "connections are kept"

    with_api(tmp_path, body)


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        ({"message": "too big"}, 400, None, "denied the request: too big"),
        ({"reason": "Forbidden", "code": 403}, 403, "Forbidden", "denied the request: Forbidden"),
        ({}, 400, None, "denied the request without explanation"),
        ({"message": "odd", "code": 200, "status": "Success"}, 400, None, "denied the request: odd"),
        ({"message": "later", "code": 429, "reason": "TooManyRequests"}, 429, "TooManyRequests", "denied the request: later"),
    ],
)
def test_a_refusal_is_told_in_the_webhooks_words(tmp_path: Path, status: Review, code: int, reason: str | None, message: str) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(lambda _: {"allowed": False, "status": status}) as server:
            await validate(api, server, rule("configmaps"))
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert (answer["code"], answer.get("reason")) == (code, reason)
            assert answer["message"] == f'admission webhook "hook.example.com" {message}'

    with_api(tmp_path, body)


def test_a_webhook_is_found_by_its_service(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            config = {"service": {"namespace": "default", "name": "hook", "path": "/x"}, "caBundle": server.client_config["caBundle"]}
            await validate(api, server, rule("configmaps"), clientConfig=config)
            begin = 'failed calling webhook "hook.example.com": failed to call webhook: Post "https://hook.default.svc:443/x?timeout=10s": '
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"] == f'Internal error occurred: {begin}service "hook" not found'
            service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443, "name": "https"}]}}
            await api.create("/api/v1/namespaces/default/services", service)
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"] == f'Internal error occurred: {begin}no endpoints available for service "hook"'
            part = {
                "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.64.0.9"]}], "ports": [{"name": "https", "port": server.port}],
            }  # fmt: skip
            slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
            await api.create(slices, part)
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"].endswith(f"dial tcp 127.64.0.9:{server.port}: connect: connection refused")
            api.state.webhooks._resolve = lambda *_: ("127.0.0.1", server.port)  # endpoints in tests cannot be loopback addresses
            await api.create(CONFIGMAPS, configmap("a"))
            assert server.paths == ["/x?timeout=10s"]

    with_api(tmp_path, body)


def test_rules_tell_resources_subresources_operations_and_scopes_apart(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        async with WebhookServer(allow) as server:
            hooks = [
                webhook(server, rule("pods/status", "UPDATE"), name="status.example.com"),
                webhook(server, rule("*", "CREATE", scope="Cluster"), name="cluster.example.com"),
                webhook(server, rule("*/*", "DELETE"), name="deletes.example.com"),
                webhook(server, rule("deployments/*", "*", group="apps"), name="deployments.example.com"),
            ]
            for each in hooks:
                each["clientConfig"] = {**each["clientConfig"], "url": f"https://127.0.0.1:{server.port}/{each['name'].split('.')[0]}"}
            await api.create(VALIDATING, configuration("Validating", "v", *hooks))
            await api.create(PODS, pod("p"))
            await api.merge(f"{PODS}/p/status", {"status": {"phase": "Running"}})
            await api.create(NAMESPACES, {"metadata": {"name": "n"}})
            await api.create(DEPLOYMENTS, deployment("d"))
            await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 2}})
            await api.delete(f"{PODS}/p?gracePeriodSeconds=0")
            seen = [(path.split("?")[0], asked["operation"], asked["resource"]["resource"], asked.get("subResource", ""))
                    for path, asked in zip(server.paths, server.asked, strict=True)]  # fmt: skip
            assert seen == [
                ("/status", "UPDATE", "pods", "status"), ("/cluster", "CREATE", "namespaces", ""),
                ("/deployments", "CREATE", "deployments", ""), ("/deployments", "UPDATE", "deployments", "scale"),
                ("/deletes", "DELETE", "pods", ""),
            ]  # fmt: skip
            scale = server.asked[3]
            assert scale["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
            assert (scale["object"]["spec"], scale["oldObject"]["spec"]) == ({"replicas": 2}, {"replicas": 1})

    with_api(tmp_path, body)


def test_selectors_of_namespaces_and_objects_narrow_what_a_webhook_sees(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(deny()) as server:
            selectors = {
                "namespaceSelector": {"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]},
                "objectSelector": {"matchLabels": {"watched": "yes"}},
            }
            await validate(api, server, rule("configmaps"), rule("namespaces"), **selectors)
            await api.create(NAMESPACES, {"metadata": {"name": "free", "labels": {"exempt": "", "watched": "yes"}}})
            await api.create("/api/v1/namespaces/free/configmaps", configmap("a", labels={"watched": "yes"}))
            await api.create(CONFIGMAPS, configmap("a"))
            await api.refused("POST", CONFIGMAPS, configmap("b", labels={"watched": "yes"}))
            await api.refused("POST", NAMESPACES, {"metadata": {"name": "bound", "labels": {"watched": "yes"}}})
            await api.refused("PUT", f"{CONFIGMAPS}/a", configmap("a", labels={"watched": "yes"}))
            assert len(server.asked) == 3

    with_api(tmp_path, body)


def test_equivalent_versions_are_converted_for_the_webhook(tmp_path: Path) -> None:
    hpas = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]
    spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "metrics": metrics}

    async def body(api: Api) -> None:
        async with WebhookServer(patch({"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 70})) as server:
            exact = rule("horizontalpodautoscalers", "CREATE", group="autoscaling")
            await mutate(api, server, exact, matchPolicy="Equivalent")
            made = await api.create(hpas, {"metadata": {"name": "h"}, "spec": spec})
            [asked] = server.asked
            assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")
            assert asked["object"]["apiVersion"] == "autoscaling/v1"
            assert asked["object"]["spec"]["targetCPUUtilizationPercentage"] == 50
            assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
            await api.merge(f"{MUTATING}/m", {"webhooks": [webhook(server, exact, matchPolicy="Exact")]})
            made = await api.create(hpas, {"metadata": {"name": "i"}, "spec": spec})
            assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
            assert len(server.asked) == 1

    with_api(tmp_path, body)


def test_a_version_that_is_served_later_counts_as_equivalent(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        definition = custom_definition()
        beta = definition["spec"]["versions"].pop()
        await api.create(CRDS, definition)
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("e2etests", "CREATE", group="stable.example.com", version="v2"))
            await api.create(CUSTOM, custom("a", {}))
            assert server.asked == []
            await api.merge(f"{CRDS}/e2etests.stable.example.com", {"spec": {"versions": [*definition["spec"]["versions"], beta]}})
            await api.create(CUSTOM, custom("b", {}))
            [asked] = server.asked
            assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v2", "v1")
            assert asked["object"]["apiVersion"] == "stable.example.com/v2"

    with_api(tmp_path, body)


def test_mutations_follow_each_other_in_the_order_of_names(tmp_path: Path) -> None:
    def append(letter: str) -> Any:
        def respond(request: Review) -> Review:
            seen = request["object"]["data"].get("seen", "")
            operations = orjson.dumps([{"op": "add", "path": "/data/seen", "value": seen + letter}])
            return {"allowed": True, "patch": base64.b64encode(operations).decode(), "patchType": "JSONPatch"}

        return respond

    async def body(api: Api) -> None:
        async with WebhookServer(append("a")) as first, WebhookServer(append("b")) as second, WebhookServer(append("c")) as third:
            await mutate(api, third, rule("configmaps", "CREATE"), config="z")
            one, two = (webhook(s, rule("configmaps", "CREATE"), name=f"{n}.example.com") for s, n in ((first, "x"), (second, "b")))
            await api.create(MUTATING, configuration("Mutating", "a", one, two))
            assert (await api.create(CONFIGMAPS, configmap("a")))["data"] == {"k": "v", "seen": "abc"}

    with_api(tmp_path, body)


def test_webhooks_that_ask_for_it_are_asked_again_when_a_later_one_changed_the_object(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        set_x = {"op": "add", "path": "/data/x", "value": "1"}
        async with WebhookServer(allow) as early, WebhookServer(allow) as once, WebhookServer(patch(set_x)) as late:
            await mutate(api, early, rule("configmaps", "CREATE"), config="a", reinvocationPolicy="IfNeeded")
            await mutate(api, once, rule("configmaps", "CREATE"), config="b")
            await mutate(api, late, rule("configmaps", "CREATE"), config="c", reinvocationPolicy="IfNeeded")
            await api.create(CONFIGMAPS, configmap("a"))
            assert [asked["object"]["data"] for asked in early.asked] == [{"k": "v"}, {"k": "v", "x": "1"}]
            assert (len(once.asked), len(late.asked)) == (1, 1)

    with_api(tmp_path, body)


def test_a_patch_that_does_not_apply_is_an_error_of_the_server(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(patch({"op": "add", "path": "/nowhere/x", "value": 1})) as server:
            await mutate(api, server, rule("configmaps"))
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            why = 'add operation does not apply: doc is missing path: "/nowhere/x": missing value'
            assert (answer["code"], answer["message"]) == (500, f"Internal error occurred: {why}")
            server.respond = patch({"op": "replace", "path": "/data", "value": 7})
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["code"] == 500
            server.respond = patch({"op": "add", "path": "/data/x", "value": "y"}, {"op": "test", "path": "/data/k", "value": "w"})
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"] == "Internal error occurred: testing value /data/k failed: test failed"

    with_api(tmp_path, body)


def test_a_patched_object_is_validated_and_checked_by_what_comes_after(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(patch({"op": "add", "path": "/data/bad key", "value": "x"})) as server:
            await mutate(api, server, rule("configmaps"))
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert (answer["code"], answer["reason"]) == (422, "Invalid")

    with_api(tmp_path, body)


def test_deletes_cannot_be_changed(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        async with WebhookServer(patch({"op": "add", "path": "/data/x", "value": "y"})) as server:
            await mutate(api, server, rule("configmaps", "DELETE"))
            answer = await api.refused("DELETE", f"{CONFIGMAPS}/a")
            why = 'admission webhook "hook.example.com" attempted to modify the object, which is not supported for this operation'
            assert answer["message"] == f"Internal error occurred: {why}"

    with_api(tmp_path, body)


def test_dry_runs_reach_only_webhooks_without_side_effects(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("configmaps"))
            await api.create(f"{CONFIGMAPS}?dryRun=All", configmap("a"))
            assert server.asked[0]["dryRun"] is True
            assert server.asked[0]["options"]["dryRun"] == ["All"]
            [plugin] = [p for p in api.state.admission.plugins if p.name == "ValidatingAdmissionWebhook"]
            hook = plugin._index._hooks[0]  # type: ignore[attr-defined]  # the API accepts no such webhook any more
            object.__setattr__(hook, "allows_dry_run", False)
            answer = await api.refused("POST", f"{CONFIGMAPS}?dryRun=All", configmap("a"))
            assert (answer["code"], answer["message"]) == (400, 'admission webhook "hook.example.com" does not support dry run')

    with_api(tmp_path, body)


def test_warnings_and_audit_annotations_reach_client_and_audit(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        answer = {"allowed": True, "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}}
        async with WebhookServer(lambda _: answer) as server:
            await validate(api, server, rule("configmaps"))
            reply = await api.raw("POST", CONFIGMAPS, configmap("a"))
            assert reply.headers["Warning"] == '299 - "mind the gap"'

    with_api(tmp_path, body)


@pytest.mark.parametrize("level", ["Metadata", "Request"])
def test_the_audit_log_tells_what_webhooks_did(tmp_path: Path, level: str) -> None:
    operation = {"op": "add", "path": "/data/x", "value": "y"}

    async def body(api: Api, log: Path) -> None:
        async with WebhookServer(patch(operation)) as server:
            await mutate(api, server, rule("configmaps"))
            await api.raw("POST", CONFIGMAPS, configmap("a"), Audit_ID="my-id")
            *_, complete = await events_of(log, "my-id", 2)
            annotations = {key: orjson.loads(text) for key, text in complete["annotations"].items() if "webhook" in key}
            about = {"configuration": "m", "webhook": "hook.example.com"}
            expected = {"mutation.webhook.admission.k8s.io/round_0_index_0": {**about, "mutated": True}}
            if level == "Request":
                expected["patch.webhook.admission.k8s.io/round_0_index_0"] = {**about, "patch": [operation], "patchType": "JSONPatch"}
            assert annotations == expected

    audited(tmp_path, body, {"level": level})


def test_validating_webhooks_are_asked_at_the_same_time_and_the_first_refusal_counts(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        together = asyncio.Barrier(2)

        async def meet(request: Review) -> Review:
            async with asyncio.timeout(5):
                await together.wait()
            return {"allowed": False, "status": {"message": f"no {len(request)}"}}

        async with WebhookServer(meet) as server:
            hooks = [webhook(server, rule("configmaps"), name=f"{name}.example.com") for name in ("a", "b")]
            await api.create(VALIDATING, configuration("Validating", "v", *hooks))
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"].startswith('admission webhook "a.example.com" denied the request: no')

    with_api(tmp_path, body)


def test_a_webhook_that_refuses_everything_does_not_keep_the_server_from_starting(tmp_path: Path) -> None:
    settings = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data")}

    async def configure(api: Api) -> None:
        async with WebhookServer(allow) as server:
            everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
            await validate(api, server, everything)
            await mutate(api, server, everything)

    async def probe(api: Api) -> None:
        assert (await api.refused("POST", CONFIGMAPS, configmap("a")))["code"] == 500
        await api.delete(f"{VALIDATING}/v")
        await api.delete(f"{MUTATING}/m")
        await api.create(CONFIGMAPS, configmap("a"))

    with_api(tmp_path, configure, **settings)
    with_api(tmp_path, probe, **settings, service_cluster_ip_range="127.40.0.0/20", advertise_address="127.0.0.9")


def test_subresources_are_mutated(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("p"))
        await api.create(DEPLOYMENTS, deployment("d"))
        async with WebhookServer(patch({"op": "replace", "path": "/spec/replicas", "value": 5})) as scales:
            await mutate(api, scales, rule("deployments/scale", group="apps"), config="scales")
            scale = await api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 2}})
            assert scale["spec"]["replicas"] == 5
            assert (await api.get(f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == 5
        async with WebhookServer(patch({"op": "add", "path": "/status/message", "value": "seen"})) as statuses:
            await mutate(api, statuses, rule("pods/status"), config="statuses")
            made = await api.merge(f"{PODS}/p/status", {"status": {"phase": "Running"}})
            assert made["status"]["message"] == "seen"
        async with WebhookServer(patch({"op": "add", "path": "/metadata/labels", "value": {"zone": "a"}})) as bindings:
            await mutate(api, bindings, rule("pods/binding"), config="bindings")
            target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
            await api.create(f"{PODS}/p/binding", target)
            assert (await api.get(f"{PODS}/p"))["metadata"]["labels"]["zone"] == "a"

    with_api(tmp_path, body)


def test_configurations_of_before_a_restart_are_in_force_after_it(tmp_path: Path) -> None:
    settings = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data")}

    async def configure(api: Api) -> None:
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("configmaps"))

    async def probe(api: Api) -> None:
        await api.refused("POST", CONFIGMAPS, configmap("a"))
        await api.delete(f"{VALIDATING}/v")
        await api.create(CONFIGMAPS, configmap("a"))

    with_api(tmp_path, configure, **settings)
    with_api(tmp_path, probe, **settings)
