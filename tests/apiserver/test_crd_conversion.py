"""Versions of custom resources that a webhook converts: in answers, lists, writes and watches; and what its failures say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.promises import promise

from .harness import ADMIN_TOKEN, Api, with_api
from .test_customresources import CRDS, definition, version
from .webhook_server import WebhookServer

V1, V2 = (f"/apis/stable.example.com/{name}/namespaces/default/crontabs" for name in ("v1", "v2"))
TEXT = {"type": "string"}
ONE: dict[str, Any] = {"type": "object", "properties": {"hostPort": TEXT}}
TWO: dict[str, Any] = {"type": "object", "properties": {"host": TEXT, "port": TEXT}}


def converted(obj: dict[str, Any], desired: str) -> dict[str, Any]:
    """v1's hostPort is v2's host and port."""
    obj = {**obj, "apiVersion": desired}
    if desired.endswith("v2"):
        obj["host"], _, obj["port"] = obj.pop("hostPort", "").partition(":")
    else:
        obj["hostPort"] = f"{obj.pop('host', '')}:{obj.pop('port', '')}"
    return obj


def review(request: dict[str, Any], objects: list[Any], **result: Any) -> bytes:
    response = {"uid": request["uid"], "result": {"status": "Success", **result}, "convertedObjects": objects}
    return orjson.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})


def convert(request: dict[str, Any]) -> bytes:
    return review(request, [converted(obj, request["desiredAPIVersion"]) for obj in request["objects"]])


def instance(name: str, api: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": f"stable.example.com/{api}", "kind": "CronTab", "metadata": {"name": name}, **fields}


def serving(tmp_path: Path, check: Callable[[Api, WebhookServer], Awaitable[None]]) -> None:
    async def run(api: Api) -> None:
        async with WebhookServer(convert) as hook:
            crd = definition(version("v1", schema=ONE), version("v2", schema=TWO, storage=False))
            webhook = {"clientConfig": hook.client_config, "conversionReviewVersions": ["v1"]}
            crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
            await api.create(CRDS, crd)
            await check(api, hook)

    with_api(tmp_path, run)


@promise("CustomResourceConversionWebhook should be able to convert from CR v1 to CR v2")
def test_objects_are_read_and_written_in_each_version(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("a", "v1", hostPort="h:1"))
        assert not hook.asked
        found = await api.get(f"{V2}/a")
        assert (found["apiVersion"], found["host"], found["port"]) == ("stable.example.com/v2", "h", "1")
        assert "hostPort" not in found
        made = await api.create(V2, instance("b", "v2", host="x", port="2"))
        assert (made["apiVersion"], made["host"]) == ("stable.example.com/v2", "x")
        assert (await api.get(f"{V1}/b"))["hostPort"] == "x:2"
        made["port"] = "3"
        assert (await api.put(f"{V2}/b", made))["port"] == "3"
        assert (await api.merge(f"{V2}/b", {"host": "y"}))["host"] == "y"
        assert (await api.get(f"{V1}/b"))["hostPort"] == "y:3"
        await api.delete(f"{V2}/b")

    serving(tmp_path, check)


def test_a_list_is_converted_by_one_question(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        for name in "abc":
            await api.create(V1, instance(name, "v1", hostPort=f"{name}:1"))
        listed = await api.get(V2)
        assert [item["host"] for item in listed["items"]] == ["a", "b", "c"]
        assert listed["apiVersion"] == "stable.example.com/v2"
        assert [len(asked["objects"]) for asked in hook.asked] == [3]

    serving(tmp_path, check)


@promise("CustomResourceConversionWebhook should be able to convert a non homogeneous list of CRs")
def test_a_list_of_objects_stored_in_several_versions_is_in_the_one_asked_for(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("a", "v1", hostPort="a:1"))
        crd = await api.get(f"{CRDS}/crontabs.stable.example.com")
        crd["spec"]["versions"][0]["storage"], crd["spec"]["versions"][1]["storage"] = False, True
        crd = await api.put(f"{CRDS}/crontabs.stable.example.com", crd)
        assert crd["status"]["storedVersions"] == ["v1", "v2"]
        await api.create(V1, instance("b", "v1", hostPort="b:2"))
        assert [item["hostPort"] for item in (await api.get(V1))["items"]] == ["a:1", "b:2"]
        assert [item["host"] for item in (await api.get(V2))["items"]] == ["a", "b"]

    serving(tmp_path, check)


def test_watches_are_converted(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("a", "v1", hostPort="a:1"))
        async with api.watch(f"{V2}?watch=1") as watch:
            event = await watch.next()
            assert (event["type"], event["object"]["host"]) == ("ADDED", "a")
            await api.create(V1, instance("b", "v1", hostPort="b:2"))
            event = await watch.next()
            assert (event["type"], event["object"]["host"], event["object"]["apiVersion"]) == ("ADDED", "b", "stable.example.com/v2")
            await api.delete(f"{V1}/a")
            assert (await watch.next())["type"] == "DELETED"

    serving(tmp_path, check)


@pytest.mark.parametrize(("respond", "message"), [
    (lambda request: review(request, [], status="Failure", message="cannot"), "failed: cannot"),
    (lambda request: review(request, []), "returned 0 objects, expected 1"),
    (lambda request: review(request, [{**request["objects"][0]}]),
     "returned invalid converted object at index 0: invalid groupVersion (expected stable.example.com/v2, received stable.example.com/v1)"),
    (lambda request: review(request, [converted({**request["objects"][0], "metadata": {"name": "z"}}, "stable.example.com/v2")]),
     "must have the same name: z != a"),
    (lambda request: b"{}", "failed: invalid response"),
])  # fmt: skip
def test_what_a_webhook_does_wrong_is_told(tmp_path: Path, respond: Any, message: str) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("a", "v1", hostPort="a:1"))
        hook.respond = respond
        code, answer = await api.call("GET", f"{V2}/a")
        assert code == 500
        assert answer["message"].startswith("conversion webhook for stable.example.com/v1, Kind=CronTab ")
        assert message in answer["message"]
        assert (await api.get(f"{V1}/a"))["hostPort"] == "a:1"

    serving(tmp_path, check)


def test_without_a_webhook_objects_stored_before_are_served_in_the_new_storage_version(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition(version("v1", schema=ONE), version("v2", schema=ONE, storage=False)))
        await api.create(V1, instance("a", "v1", hostPort="a:1"))
        crd = await api.get(f"{CRDS}/crontabs.stable.example.com")
        crd["spec"]["versions"][0]["storage"], crd["spec"]["versions"][1]["storage"] = False, True
        await api.put(f"{CRDS}/crontabs.stable.example.com", crd)
        for path, name in ((V1, "v1"), (V2, "v2")):
            assert (await api.get(f"{path}/a"))["apiVersion"] == f"stable.example.com/{name}"
            assert (await api.get(path))["items"][0]["hostPort"] == "a:1"

    with_api(tmp_path, check)


@promise("CustomResourceFieldSelectors CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector")
def test_objects_are_selected_by_fields_of_the_version_asked_for(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        crd = await api.get(f"{CRDS}/crontabs.stable.example.com")
        crd["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": ".hostPort"}]
        crd["spec"]["versions"][1]["selectableFields"] = [{"jsonPath": ".host"}, {"jsonPath": ".port"}]
        await api.put(f"{CRDS}/crontabs.stable.example.com", crd)
        for name, value in (("a", "h:1"), ("b", "h:2"), ("c", "x:1")):
            await api.create(V1, instance(name, "v1", hostPort=value))
        for path, selector, names in (
            (V1, "hostPort=h:1", ["a"]), (V2, "host=h", ["a", "b"]), (V2, "host=h,port=2", ["b"]), (V2, "host!=h", ["c"]),
        ):  # fmt: skip
            listed = await api.get(f"{path}?fieldSelector={selector}")
            assert [item["metadata"]["name"] for item in listed["items"]] == names
        code, _ = await api.call("GET", f"{V1}?fieldSelector=host=h")
        assert code == 400
        async with api.watch(f"{V2}?watch=1&fieldSelector=host=h") as watch, api.watch(f"{V1}?watch=1&fieldSelector=hostPort=h:1") as other:
            assert await watch.names(2) == [("ADDED", "a"), ("ADDED", "b")]
            assert await other.names(1) == [("ADDED", "a")]
            await api.merge(f"{V1}/c", {"hostPort": "h:3"})
            await api.merge(f"{V1}/a", {"hostPort": "y:1"})
            assert await watch.names(2) == [("ADDED", "c"), ("DELETED", "a")]
            assert await other.names(1) == [("DELETED", "a")]
            await api.delete(f"{V1}/b")
            assert await watch.names(1) == [("DELETED", "b")]

    serving(tmp_path, check)


async def with_fields(api: Api, values: dict[str, str]) -> None:
    """Let fields be selected by, and create instances by name and hostPort."""
    crd = await api.get(f"{CRDS}/crontabs.stable.example.com")
    crd["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": ".hostPort"}]
    crd["spec"]["versions"][1]["selectableFields"] = [{"jsonPath": ".host"}, {"jsonPath": ".port"}]
    await api.put(f"{CRDS}/crontabs.stable.example.com", crd)
    for name, value in values.items():
        await api.create(V1, instance(name, "v1", hostPort=value))


def test_lists_by_fields_of_the_version_asked_for_come_in_pages(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await with_fields(api, {name: f"{'h' if name in 'aceg' else 'x'}:1" for name in "abcdefg"})
        first = await api.get(f"{V2}?fieldSelector=host=h&limit=2")
        assert [item["metadata"]["name"] for item in first["items"]] == ["a", "c"]
        token, revision = first["metadata"]["continue"], first["metadata"]["resourceVersion"]
        await api.merge(f"{V1}/e", {"hostPort": "x:2"})  # the pages go on as of the first one
        second = await api.get(f"{V2}?fieldSelector=host=h&limit=2&continue={token}")
        assert [(item["metadata"]["name"], item["host"]) for item in second["items"]] == [("e", "h"), ("g", "h")]
        assert second["metadata"] == {"resourceVersion": revision}
        now = await api.get(f"{V2}?fieldSelector=host=h&limit=5")
        assert [item["metadata"]["name"] for item in now["items"]] == ["a", "c", "g"]

    serving(tmp_path, check)


def test_collections_are_deleted_by_fields_of_the_version_asked_for(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await with_fields(api, {"a": "h:1", "b": "x:1", "c": "h:2"})
        await api.delete(f"{V2}?fieldSelector=host=h")
        assert [item["metadata"]["name"] for item in (await api.get(V1))["items"]] == ["b"]

    serving(tmp_path, check)


def test_watches_over_websockets_are_converted(tmp_path: Path) -> None:
    async def check(api: Api, hook: WebhookServer) -> None:
        await api.create(V1, instance("a", "v1", hostPort="h:1"))
        url, headers = f"{api.base}{V2}?watch=1&resourceVersion=0", {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with api.session.ws_connect(url, headers=headers) as socket, asyncio.timeout(5):
            assert orjson.loads(await socket.receive_str())["object"]["host"] == "h"
            await api.merge(f"{V1}/a", {"hostPort": "i:2"})
            event = orjson.loads(await socket.receive_str())
            assert (event["type"], event["object"]["host"], event["object"]["port"]) == ("MODIFIED", "i", "2")
            await api.delete(f"{V1}/a")
            assert orjson.loads(await socket.receive_str())["type"] == "DELETED"

    serving(tmp_path, check)
