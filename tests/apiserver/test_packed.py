"""msgpack says what JSON says: in bodies, answers, lists and watches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest

from kubecosm.api.errors import BadRequest
from kubecosm.services.apiserver.packed import to_json

from .harness import ADMIN_TOKEN, CONFIGMAPS, Api, configmap, with_api

TYPE = "application/msgpack"


def test_objects_and_lists_are_the_same_in_both_forms(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        created = await api.raw("POST", CONFIGMAPS, msgpack.packb(configmap("é")), Content_Type=TYPE, Accept=TYPE)
        assert created.status == 422  # the name, not the form
        created = await api.raw("POST", CONFIGMAPS, msgpack.packb(configmap("e", {"k": "é"})), Content_Type=TYPE, Accept=TYPE)
        assert (created.status, created.headers["Content-Type"]) == (201, TYPE)
        assert msgpack.unpackb(created.body) == await api.get(f"{CONFIGMAPS}/e")
        listed = await api.raw("GET", CONFIGMAPS, Accept=f"{TYPE},application/json")
        assert msgpack.unpackb(listed.body) == await api.get(CONFIGMAPS)
        table = await api.raw("GET", CONFIGMAPS, Accept=f"{TYPE};as=Table;v=v1;g=meta.k8s.io,application/json")
        assert msgpack.unpackb(table.body)["kind"] == "Table"
        strict = await api.raw("POST", f"{CONFIGMAPS}?fieldValidation=Strict", msgpack.packb(configmap("x") | {"no": 1}), Content_Type=TYPE)
        assert (strict.status, 'unknown field "no"' in orjson.loads(strict.body)["message"]) == (400, True)
        assert (await api.raw("POST", CONFIGMAPS, b"\xc1", Content_Type=TYPE)).status == 400

    with_api(tmp_path, test)


def test_watches_send_packed_events(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": TYPE}
        path = f"{CONFIGMAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        await api.create(CONFIGMAPS, configmap("a"))
        async with api.session.get(api.base + path, headers=headers) as response, asyncio.timeout(5):
            assert response.headers["Content-Type"] == f"{TYPE};stream=watch"
            unpacker = msgpack.Unpacker()
            events: list[Any] = []
            async with api.watch(path) as lines:
                await api.create(CONFIGMAPS, configmap("b"))
                expected = [await lines.next() for _ in range(3)]
            while len(events) < 3:
                unpacker.feed(await response.content.readany())
                events += unpacker
        assert [event["type"] for event in events] == ["ADDED", "BOOKMARK", "ADDED"]
        assert [event["object"] for event in events if event["type"] == "ADDED"] == [
            event["object"] for event in expected if event["type"] == "ADDED"
        ]

    with_api(tmp_path, test)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa1a", msgpack.packb({"a": b"bytes"}), msgpack.packb(1) + b"x", b"\x91" * 5000])
def test_what_is_not_an_object_in_msgpack_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        to_json(body)
    assert orjson.loads(to_json(msgpack.packb({"a": [1, None, True, 1.5, "ü"]}))) == {"a": [1, None, True, 1.5, "ü"]}
