"""Priority and fairness as clients see it: objects, conditions, headers, refusals, dumps and figures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from .harness import CONFIGMAPS, Api, configmap, with_api

API = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS, LEVELS = f"{API}/flowschemas", f"{API}/prioritylevelconfigurations"
JANE = "user-token"


def schema(name: str, level: str, user: str) -> dict[str, Any]:
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}],
    }
    return {"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 50, "rules": [rule]}}


async def condition(api: Api, name: str, status: str) -> Any:
    """The Dangling condition, once it says so."""
    async with api.watch(f"{SCHEMAS}?watch=true&fieldSelector=metadata.name%3D{name}") as watch:
        while True:
            found = ((await watch.next())["object"].get("status") or {}).get("conditions") or [{}]
            if found[0].get("status") == status:
                return found[0]


def test_a_cluster_has_the_default_objects_and_the_mandatory_ones_come_back(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        names = {item["metadata"]["name"] for item in (await api.get(LEVELS))["items"]}
        assert names == {
            "exempt", "catch-all", "system", "node-high", "leader-election", "workload-high", "workload-low", "global-default",
        }  # fmt: skip
        assert len((await api.get(SCHEMAS))["items"]) == 13
        assert (await condition(api, "global-default", "False"))["reason"] == "Found"
        exempt = await api.get(f"{SCHEMAS}/exempt")
        async with api.watch(f"{SCHEMAS}?watch=true&resourceVersion={exempt['metadata']['resourceVersion']}") as watch:
            await api.delete(f"{SCHEMAS}/exempt")
            while (event := await watch.next())["type"] != "ADDED" or event["object"]["metadata"]["name"] != "exempt":
                pass
        level = await api.get(f"{LEVELS}/catch-all")
        level["spec"]["limited"]["nominalConcurrencyShares"] = 77
        changed = await api.put(f"{LEVELS}/catch-all", level)
        async with api.watch(f"{LEVELS}?watch=true&resourceVersion={changed['metadata']['resourceVersion']}") as watch:
            restored = (await watch.next())["object"]
        assert restored["spec"]["limited"]["nominalConcurrencyShares"] == 5

    with_api(tmp_path, test)


def test_a_default_whose_annotation_says_so_is_left_to_its_owner(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        mine = {"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}}
        await api.merge(f"{LEVELS}/system", {**mine, "spec": {"limited": {"nominalConcurrencyShares": 99}}})
        await api.create(SCHEMAS, schema("mine", "system", "x"))
        await condition(api, "mine", "False")  # the defaults have been looked at since
        assert (await api.get(f"{LEVELS}/system"))["spec"]["limited"]["nominalConcurrencyShares"] == 99

    with_api(tmp_path, test)


def test_a_schema_without_its_level_dangles_until_the_level_is_there(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(SCHEMAS, schema("lost", "elsewhere", "jane"))
        lost = await condition(api, "lost", "True")
        assert lost["reason"] == "NotFound"
        assert lost["message"] == (
            'This FlowSchema references the PriorityLevelConfiguration object named "elsewhere" but there is no such object'
        )
        limited = {"limitResponse": {"type": "Reject"}}
        await api.create(LEVELS, {"metadata": {"name": "elsewhere"}, "spec": {"type": "Limited", "limited": limited}})
        assert (await condition(api, "lost", "False"))["reason"] == "Found"

    with_api(tmp_path, test)


def test_answers_name_the_schema_and_level_that_a_change_puts_in_force_at_once(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async def headers() -> tuple[str, str]:
            found = (await api.raw("GET", CONFIGMAPS, token=JANE)).headers
            return found["X-Kubernetes-PF-FlowSchema-UID"], found["X-Kubernetes-PF-PriorityLevel-UID"]

        uids = {item["metadata"]["name"]: item["metadata"]["uid"] for item in (await api.get(LEVELS))["items"]}
        default = await api.get(f"{SCHEMAS}/global-default")
        assert await headers() == (default["metadata"]["uid"], uids["global-default"])
        mine = await api.create(SCHEMAS, schema("mine", "workload-high", "jane"))
        assert await headers() == (mine["metadata"]["uid"], uids["workload-high"])

    with_api(tmp_path, test)


def test_what_finds_no_room_is_told_when_to_come_back(tmp_path: Path) -> None:
    """A level of one seat that does not queue: while one request holds it, the next is turned away; others are not."""

    async def test(api: Api) -> None:
        shares = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
        await api.create(LEVELS, {"metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": shares}})
        await api.create(SCHEMAS, schema("narrow", "narrow", "jane"))
        flows = api.state.flow_control
        assert flows is not None
        await api.raw("GET", CONFIGMAPS, token=JANE)  # the level is in force
        level = flows.levels["narrow"]
        level.taken += level.limit
        refused = await api.raw("GET", CONFIGMAPS, token=JANE)
        assert (refused.status, refused.text) == (429, "Too many requests, please try again later.\n")
        terminated = [line for line in (await api.raw("GET", "/metrics")).text.splitlines() if "request_terminations_total{" in line]
        assert len(terminated) == 1
        assert 'code="429"' in terminated[0]
        assert refused.headers["Retry-After"] == "1"
        assert (await api.raw("GET", CONFIGMAPS)).status == 200
        level.taken -= level.limit
        assert (await api.raw("GET", CONFIGMAPS, token=JANE)).status == 200
        text = (await api.raw("GET", "/metrics")).text
        labels = 'flow_schema="narrow",priority_level="narrow"'
        assert f'apiserver_flowcontrol_rejected_requests_total{{{labels},reason="concurrency-limit"}} 1.0' in text
        assert f"apiserver_flowcontrol_dispatched_requests_total{{{labels}}} 2.0" in text
        assert f'apiserver_flowcontrol_request_execution_seconds_count{{{labels},type="regular"}} 2.0' in text
        assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="narrow"} 3.0' in text

    with_api(tmp_path, test)


def test_dumps_show_who_waits(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        flows = api.state.flow_control
        assert flows is not None
        await api.create(CONFIGMAPS, configmap("a"), token=JANE)
        level = flows.levels["global-default"]
        level.taken += level.limit
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(api.raw("GET", f"{CONFIGMAPS}/a", token=JANE))
            while True:
                await asyncio.sleep(0)
                if level.queues.waiting:
                    break
            prefix = "/debug/api_priority_and_fairness/dump_"
            levels = (await api.raw("GET", f"{prefix}priority_levels")).text
            requests = (await api.raw("GET", f"{prefix}requests?includeRequestDetails=1")).text
            queues = (await api.raw("GET", f"{prefix}queues")).text
            level.taken -= level.limit
            flows.dispatcher.kick()
        assert waiting.result().status == 200
        row = next(line for line in levels.splitlines() if line.startswith("global-default"))
        assert [cell.strip() for cell in row.split(",")][:5] == ["global-default", "1", "false", "false", "1"]
        told = [cell.strip() for cell in requests.splitlines()[1].split(",")]
        assert (told[0], told[1], told[4], told[-8:]) == (
            "global-default", "global-default", "jane", ["jane", "get", f"{CONFIGMAPS}/a", "default", "a", "v1", "configmaps", ""],
        )  # fmt: skip
        assert len(queues.splitlines()) == 1 + 2 + 4 * 128 - 128 + 64 * 2 + 16

    with_api(tmp_path, test)


def test_without_priority_and_fairness_nothing_of_it_is_there(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        reply = await api.raw("GET", CONFIGMAPS)
        assert "X-Kubernetes-PF-FlowSchema-UID" not in reply.headers
        assert (await api.raw("GET", "/debug/api_priority_and_fairness/dump_queues")).status == 404
        assert (await api.get(LEVELS))["items"] == []

    with_api(tmp_path, test, enable_priority_and_fairness=False)
