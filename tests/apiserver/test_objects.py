"""The life of objects through the API: create, read, change, delete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, DEPLOYMENTS, PODS, Api, configmap, deployment, pod, with_api


def test_create_fills_in_what_belongs_to_the_server(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        body = configmap("a", uid="mine", creationTimestamp="2000-01-01T00:00:00Z", deletionTimestamp="2000-01-01T00:00:00Z", selfLink="/x")
        meta = (await api.create(CONFIGMAPS, body))["metadata"]
        assert meta["namespace"] == "default"
        assert meta["resourceVersion"].isdigit()
        assert meta["uid"] != "mine"
        assert not meta["creationTimestamp"].startswith("2000")
        assert "deletionTimestamp" not in meta
        assert "selfLink" not in meta
        assert await api.get(f"{CONFIGMAPS}/a") == {**body, "metadata": meta}

    with_api(tmp_path, test)


def test_a_second_create_of_the_name_conflicts(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        code, status = await api.call("POST", CONFIGMAPS, configmap("a"))
        assert (code, status["reason"], status["message"]) == (409, "AlreadyExists", 'configmaps "a" already exists')

    with_api(tmp_path, test)


def test_generated_names_are_unique_and_keep_their_prefix(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "web-"}}
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(api.create(CONFIGMAPS, body)) for _ in range(20)]
        names = {task.result()["metadata"]["name"] for task in made}
        assert len(names) == 20
        assert all(name.startswith("web-") and len(name) == 9 for name in names)

    with_api(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        (CONFIGMAPS, configmap("a", namespace="kube-system"), 400,
         "the namespace of the provided object does not match the namespace sent on the request"),
        ("/api/v1/namespaces/nosuch/configmaps", configmap("a"), 404, 'namespaces "nosuch" not found'),
        (CONFIGMAPS, configmap("a", resourceVersion="7"), 500, "resourceVersion should not be set on objects to be created"),
        (CONFIGMAPS, {"kind": "Secret", "apiVersion": "v1"}, 400, "Secret in version"),
        (f"{CONFIGMAPS}?dryRun=Some", configmap("a"), 422, 'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value'),
    ],
    ids=["other namespace", "missing namespace", "resource version", "other kind", "bad option"],
)  # fmt: skip
def test_creates_that_are_refused(tmp_path: Path, path: str, body: Any, code: int, message: str) -> None:
    async def test(api: Api) -> None:
        found, status = await api.call("POST", path, body)
        assert (found, status["message"][: len(message)]) == (code, message)

    with_api(tmp_path, test)


def test_dry_run_answers_without_storing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(f"{CONFIGMAPS}?dryRun=All", configmap("a"))
        assert made["metadata"]["uid"]
        assert "resourceVersion" not in made["metadata"]
        assert (await api.call("GET", f"{CONFIGMAPS}/a"))[0] == 404
        await api.create(CONFIGMAPS, configmap("a"))
        assert (await api.delete(f"{CONFIGMAPS}/a?dryRun=All"))["status"] == "Success"
        await api.merge(f"{CONFIGMAPS}/a?dryRun=All", {"data": {"k": "other"}})
        assert (await api.get(f"{CONFIGMAPS}/a"))["data"] == {"k": "v"}

    with_api(tmp_path, test)


def test_updates_need_the_version_they_replace(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        first = await api.create(CONFIGMAPS, configmap("a"))
        second = await api.put(f"{CONFIGMAPS}/a", {**first, "data": {"k": "2"}})
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        code, status = await api.call("PUT", f"{CONFIGMAPS}/a", {**first, "data": {"k": "3"}})
        assert (code, status["reason"]) == (409, "Conflict")
        assert status["message"].endswith("please apply your changes to the latest version and try again")
        unconditional = configmap("a", {"k": "4"})
        assert (await api.put(f"{CONFIGMAPS}/a", unconditional))["data"] == {"k": "4"}

    with_api(tmp_path, test)


def test_an_update_of_nothing_writes_nothing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        first = await api.create(CONFIGMAPS, configmap("a"))
        assert await api.put(f"{CONFIGMAPS}/a", first) == first
        assert await api.merge(f"{CONFIGMAPS}/a", {"data": {"k": "v"}}) == first

    with_api(tmp_path, test)


def test_updates_of_what_is_missing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.call("PUT", f"{CONFIGMAPS}/a", configmap("a")))[0] == 404
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
        path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
        assert (await api.call("PUT", path, lease))[0] == 201
        assert (await api.call("PUT", f"{CONFIGMAPS}/b", configmap("a")))[0] in (400, 404)

    with_api(tmp_path, test)


def test_concurrent_patches_all_arrive(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        async with asyncio.TaskGroup() as tasks:
            for n in range(25):
                tasks.create_task(api.merge(f"{CONFIGMAPS}/a", {"data": {f"k{n}": str(n)}}))
        assert len((await api.get(f"{CONFIGMAPS}/a"))["data"]) == 26

    with_api(tmp_path, test)


def test_a_patch_that_names_a_stale_version_conflicts(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        first = await api.create(CONFIGMAPS, configmap("a"))
        await api.merge(f"{CONFIGMAPS}/a", {"data": {"x": "1"}})
        stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"x": "2"}}
        code, status = await api.call("PATCH", f"{CONFIGMAPS}/a", stale, Content_Type="application/merge-patch+json")
        assert (code, status["reason"]) == (409, "Conflict")

    with_api(tmp_path, test)


def test_apply_creates_then_changes_and_remembers_who_owns_what(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = f"{CONFIGMAPS}/a?fieldManager=me"
        code, made = await api.call("PATCH", path, configmap("a"), Content_Type="application/apply-patch+yaml")
        assert code == 201
        assert made["metadata"]["managedFields"][0]["operation"] == "Apply"
        code, _ = await api.call("PATCH", path, configmap("a", {"k": "2"}), Content_Type="application/apply-patch+yaml")
        assert code == 200
        other = f"{CONFIGMAPS}/a?fieldManager=you"
        code, status = await api.call("PATCH", other, configmap("a", {"k": "3"}), Content_Type="application/apply-patch+yaml")
        assert (code, status["reason"]) == (409, "Conflict")

    with_api(tmp_path, test)


def test_the_status_subresource_is_a_world_of_its_own(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(DEPLOYMENTS, {**deployment("web"), "status": {"replicas": 9}})
        assert made["status"] == {}
        path = f"{DEPLOYMENTS}/web"
        changed = {**made, "spec": {**made["spec"], "replicas": 5}, "status": {"replicas": 3}}
        by_status = await api.put(f"{path}/status", changed)
        assert (by_status["spec"]["replicas"], by_status["status"]["replicas"]) == (1, 3)
        assert by_status["metadata"]["generation"] == made["metadata"]["generation"] == 1
        by_spec = await api.merge(path, {"spec": {"replicas": 7}, "status": {"replicas": 100}})
        assert (by_spec["spec"]["replicas"], by_spec["status"]["replicas"]) == (7, 3)
        assert by_spec["metadata"]["generation"] == 2

    with_api(tmp_path, test)


def test_scale_is_a_view_of_replicas(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(DEPLOYMENTS, deployment("web", 2))
        path = f"{DEPLOYMENTS}/web/scale"
        scale = await api.get(path)
        assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 2}, {"replicas": 0, "selector": "app=web"})
        scaled = await api.put(path, {**scale, "spec": {"replicas": 5}})
        assert scaled["spec"] == {"replicas": 5}
        assert (await api.merge(path, {"spec": {"replicas": 0}}))["spec"] == {}
        assert (await api.get(f"{DEPLOYMENTS}/web"))["spec"]["replicas"] == 0
        code, status = await api.call("PUT", path, {**scale, "spec": {"replicas": -1}})
        assert (code, status["reason"]) in ((409, "Conflict"), (422, "Invalid"))

    with_api(tmp_path, test)


def test_deletes_answer_a_status_or_the_object_by_kind(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(CONFIGMAPS, configmap("a"))
        gone = await api.delete(f"{CONFIGMAPS}/a")
        assert gone["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
        await api.create(ACCOUNTS, ACCOUNT)
        assert (await api.delete(f"{ACCOUNTS}/default"))["kind"] == "ServiceAccount"
        code, status = await api.call("DELETE", f"{CONFIGMAPS}/a")
        assert (code, status["message"]) == (404, 'configmaps "a" not found')

    with_api(tmp_path, test)


def test_deletes_respect_preconditions(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create(CONFIGMAPS, configmap("a"))
        code, status = await api.call("DELETE", f"{CONFIGMAPS}/a", {"preconditions": {"uid": "other"}})
        assert (code, status["reason"]) == (409, "Conflict")
        assert "does not match the UID in record" in status["message"]
        await api.delete(f"{CONFIGMAPS}/a", {"preconditions": {"uid": made["metadata"]["uid"]}})

    with_api(tmp_path, test)


def test_finalizers_hold_an_object_until_they_are_gone(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a", finalizers=["example.com/hold"]))
        marked = await api.delete(f"{CONFIGMAPS}/a")
        assert marked["metadata"]["deletionTimestamp"]
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
        code, status = await api.call("POST", CONFIGMAPS, configmap("a"))
        assert (code, status["message"]) == (409, 'object is being deleted: configmaps "a" already exists')
        await api.merge(f"{CONFIGMAPS}/a", {"metadata": {"finalizers": None}})
        assert (await api.call("GET", f"{CONFIGMAPS}/a"))[0] == 404

    with_api(tmp_path, test)


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_policies_become_finalizers(tmp_path: Path, policy: str, finalizer: str) -> None:
    async def test(api: Api) -> None:
        await api.create(DEPLOYMENTS, deployment("web"))
        marked = await api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": policy})
        assert marked["metadata"]["finalizers"] == [finalizer]

    with_api(tmp_path, test)


def test_a_bound_pod_dies_gracefully_and_an_unbound_one_at_once(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("free"))
        assert (await api.delete(f"{PODS}/free"))["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await api.call("GET", f"{PODS}/free"))[0] == 404
        await api.create(PODS, pod("bound", nodeName="node-0"))
        marked = await api.delete(f"{PODS}/bound")
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        assert marked["metadata"]["generation"] == 2
        shorter = await api.delete(f"{PODS}/bound", {"gracePeriodSeconds": 5})
        assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
        assert (await api.delete(f"{PODS}/bound"))["metadata"]["deletionGracePeriodSeconds"] == 5
        await api.delete(f"{PODS}/bound", {"gracePeriodSeconds": 0})
        assert (await api.call("GET", f"{PODS}/bound"))[0] == 404

    with_api(tmp_path, test)


def test_a_collection_is_deleted_by_selector(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
            await api.create(CONFIGMAPS, configmap(name, labels={"colour": colour}))
        gone = await api.delete(f"{CONFIGMAPS}?labelSelector=colour%3Dred")
        assert [item["metadata"]["name"] for item in gone["items"]] == ["a", "c"]
        assert [item["metadata"]["name"] for item in (await api.get(CONFIGMAPS))["items"]] == ["b"]

    with_api(tmp_path, test)


def test_namespaces_end_when_their_finalizer_is_taken_away(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        made = await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        assert made["spec"]["finalizers"] == ["kubernetes"]
        marked = await api.delete("/api/v1/namespaces/team")
        assert marked["status"]["phase"] == "Terminating"
        code, status = await api.call("POST", "/api/v1/namespaces/team/configmaps", configmap("late"))
        assert (code, status["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
        await api.put("/api/v1/namespaces/team/finalize", {**marked, "spec": {"finalizers": []}})
        assert (await api.call("GET", "/api/v1/namespaces/team"))[0] == 404
        code, status = await api.call("DELETE", "/api/v1/namespaces/kube-system")
        assert (code, status["message"]) == (403, 'namespaces "kube-system" is forbidden: this namespace may not be deleted')

    with_api(tmp_path, test)


def test_binding_sends_a_pod_to_a_node_once(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("web"))
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web"}, "target": {"kind": "Node", "name": "node-0"}}
        await api.create(f"{PODS}/web/binding", binding)
        bound = await api.get(f"{PODS}/web")
        assert bound["spec"]["nodeName"] == "node-0"
        assert [(c["type"], c["status"]) for c in bound["status"]["conditions"]] == [("PodScheduled", "True")]
        code, status = await api.call("POST", f"{PODS}/web/binding", binding)
        assert code == 409
        assert status["message"].endswith('pod web is already assigned to node "node-0"')

    with_api(tmp_path, test)


def test_eviction_respects_the_budget(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        body = pod("web")
        body["metadata"]["labels"] = {"app": "web"}
        await api.create(PODS, body)
        await api.merge(f"{PODS}/web/status", {"status": {"phase": "Running"}})
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
        budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        await api.create(budgets, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec})
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
        counted = {"observedGeneration": 1, "desiredHealthy": 1, "currentHealthy": 0, "expectedPods": 1, "disruptionsAllowed": 0}
        await api.merge(f"{budgets}/b/status", {"status": counted})
        code, status = await api.call("POST", f"{PODS}/web/eviction", eviction)
        assert (code, status["details"]["causes"][0]["reason"]) == (429, "DisruptionBudget")
        await api.merge(f"{budgets}/b/status", {"status": {"disruptionsAllowed": 1}})
        await api.create(f"{PODS}/web/eviction", eviction)
        budget = await api.get(f"{budgets}/b")
        assert budget["status"]["disruptionsAllowed"] == 0
        assert list(budget["status"]["disruptedPods"]) == ["web"]
        (condition,) = budget["status"]["conditions"]
        assert (condition["status"], condition["reason"], condition["observedGeneration"]) == ("False", "InsufficientPods", 1)
        assert (await api.call("GET", f"{PODS}/web"))[0] == 404

    with_api(tmp_path, test)


def test_an_evicted_pod_says_that_it_was_unless_a_precondition_keeps_it(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        made = await api.create(PODS, {**pod("web"), "spec": {**pod("web")["spec"], "nodeName": "node-0"}})
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
        wrong = {"preconditions": {"resourceVersion": "1"}}
        assert (await api.call("POST", f"{PODS}/web/eviction", {**eviction, "deleteOptions": wrong}))[0] == 409
        assert "DisruptionTarget" not in str(await api.get(f"{PODS}/web"))
        right = {"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"], "uid": made["metadata"]["uid"]}}
        await api.create(f"{PODS}/web/eviction", {**eviction, "deleteOptions": right})
        gone = await api.get(f"{PODS}/web")
        assert gone["metadata"]["deletionTimestamp"]
        told = next(c for c in gone["status"]["conditions"] if c["type"] == "DisruptionTarget")
        assert (told["status"], told["reason"], told["message"]) == ("True", "EvictionByEvictionAPI", "Eviction API: evicting")

    with_api(tmp_path, test)


def test_pods_get_their_service_account_token(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("POST", PODS, pod("early"))
        assert (code, status["reason"]) == (403, "Forbidden")
        await api.create(ACCOUNTS, ACCOUNT)
        made = (await api.create(PODS, pod("web")))["spec"]
        assert made["serviceAccountName"] == "default"
        assert made["volumes"][0]["name"].startswith("kube-api-access-")
        assert made["containers"][0]["volumeMounts"][0]["name"] == made["volumes"][0]["name"]

    with_api(tmp_path, test)


def test_account_tokens_identify_until_what_they_are_bound_to_is_gone(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        account = await api.create(ACCOUNTS, ACCOUNT)
        made = await api.create(PODS, pod("web"))
        reference = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": made["metadata"]["uid"]}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": reference}}
        token = (await api.create(f"{ACCOUNTS}/default/token", request))["status"]["token"]
        who = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        user = (await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", who, token=token))["status"]["userInfo"]
        assert (user["username"], user["uid"]) == ("system:serviceaccount:default:default", account["metadata"]["uid"])
        assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["web"]
        await api.delete(f"{PODS}/web")
        assert (await api.call("GET", PODS, token=token))[0] == 401
        forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
        assert (await api.call("GET", PODS, token=forged))[0] == 401

    with_api(tmp_path, test)


def test_events_are_one_resource_in_two_versions(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        event = {
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "eventTime": "2026-01-02T03:04:05.000006Z",
            "reportingController": "example.com/c", "reportingInstance": "i", "action": "Run", "reason": "Started", "type": "Normal",
            "note": "it runs", "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        }  # fmt: skip
        await api.create("/apis/events.k8s.io/v1/namespaces/default/events", event)
        core = await api.get("/api/v1/namespaces/default/events/e")
        assert (core["apiVersion"], core["message"], core["involvedObject"]["name"]) == ("v1", "it runs", "p")
        again = await api.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        assert (again["note"], again["regarding"]["name"]) == ("it runs", "p")

    with_api(tmp_path, test)


def test_a_client_that_leaves_during_a_write_does_not_confuse_the_addresses_of_services(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        services = "/api/v1/namespaces/default/services"

        def service(name: str) -> dict[str, Any]:
            return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}

        async def impatient(name: str) -> None:
            await api.call("POST", services, service(name))

        for n in range(20):
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(impatient(f"gone-{n}"))
                while f"default/gone-{n}" not in {entry.key for entry in api.state.store("", "v1", "services").cache.entries()}:
                    await asyncio.sleep(0)
                    if n % 2:
                        break
                task.cancel()
        for n in range(20):
            await api.call("POST", services, service(f"later-{n}"))
        addresses = [item["spec"]["clusterIP"] for item in (await api.get(services))["items"]]
        assert len(addresses) == len(set(addresses)) >= 20

    with_api(tmp_path, test)


def test_a_scale_that_is_applied_has_whole_replicas(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments"
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod_template({"a": "b"})}
        await api.create(path, {"metadata": {"name": "d"}, "spec": spec})
        body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": {"a": 1}}}
        apply = {"Content_Type": "application/apply-patch+yaml"}
        code, status = await api.call("PATCH", f"{path}/d/scale?fieldManager=me&force=true", body, **apply)
        assert code == 500
        assert status["message"].startswith("failed to create typed patch object (/d; autoscaling/v1, Kind=Scale): .spec.replicas: ")
        body["spec"] = {"replicas": 3}
        code, scale = await api.call("PATCH", f"{path}/d/scale?fieldManager=me&force=true", body, **apply)
        assert (code, scale["spec"]) == (200, {"replicas": 3})

    with_api(tmp_path, test)


def pod_template(labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def test_nothing_is_written_if_the_client_cannot_read_the_answer(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("kept"))
        unreadable = {"Accept": "text/html"}
        for method, path, body in (
            ("POST", CONFIGMAPS, configmap("new")),
            ("PUT", f"{CONFIGMAPS}/kept", configmap("kept", {"k": "changed"})),
            ("DELETE", f"{CONFIGMAPS}/kept", None),
            ("DELETE", CONFIGMAPS, None),
        ):
            code, status = await api.call(method, path, body, **unreadable)
            assert (code, status["reason"]) == (406, "NotAcceptable")
        listed = await api.get(CONFIGMAPS)
        assert [(item["metadata"]["name"], item["data"]) for item in listed["items"]] == [("kept", {"k": "v"})]

    with_api(tmp_path, test)


def test_who_applies_a_scale_owns_the_replicas_and_may_not_take_them_from_another(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments"
        await api.create(path, deployment("d"))
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 4}}
        apply: dict[str, Any] = {"Content_Type": "application/apply-patch+yaml"}
        code, status = await api.call("PATCH", f"{path}/d/scale?fieldManager=one", scale, **apply)
        assert (code, [cause["field"] for cause in status["details"]["causes"]]) == (409, [".spec.replicas"])
        code, found = await api.call("PATCH", f"{path}/d/scale?fieldManager=one&force=true", scale, **apply)
        assert (code, found.get("spec", found)) == (200, {"replicas": 4})
        owners = (await api.get(f"{path}/d"))["metadata"]["managedFields"]
        mine = [entry for entry in owners if entry["manager"] == "one"]
        assert [(entry["operation"], entry["subresource"], entry["fieldsV1"]) for entry in mine] == [
            ("Apply", "scale", {"f:spec": {"f:replicas": {}}})
        ]
        code, status = await api.call("PATCH", f"{path}/d/scale?fieldManager=two", {**scale, "spec": {"replicas": 5}}, **apply)
        assert (code, status["reason"]) == (409, "Conflict")

    with_api(tmp_path, test)
