"""Who asks for objects without managedFields gets the same objects without them, everywhere."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.client.http import LEAN_JSON
from kubecosm.services.apiserver.cache.entry import with_revision, without_managed_fields
from kubecosm.services.apiserver.rest.objectmeta import encode

from .harness import ADMIN_TOKEN, CONFIGMAPS, Api, configmap, with_api

OWNED = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}}}}


def stored(**metadata: Any) -> dict[str, Any]:
    meta = {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": "v"}}


def lean(obj: dict[str, Any]) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    obj["metadata"].pop("managedFields", None)
    return obj


def texts(text: str) -> list[dict[str, Any]]:
    """The text where a client can put it: among what is owned, and behind it."""
    inside = {**OWNED, "fieldsV1": {f"f:{text}": {}, f'k:{{"name":"{text}"}}': {}, f'v:"{text}"': {".": {}}}}
    noted = {text: text}
    return [stored(managedFields=[inside, OWNED]), stored(managedFields=[OWNED], annotations=noted), stored(annotations=noted)]


TEXTS = ["plain", "}]", '}],"creationTimestamp":"', '}],"', '"', "\\", '\\"}],"creationTimestamp":"\\', '"managedFields":[{']
PARTIAL = f"{LEAN_JSON};as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_but_managed_fields_is_cut_out_whatever_clients_write(text: str) -> None:
    for obj in texts(text):
        data = with_revision(encode(obj), 7)
        obj["metadata"]["resourceVersion"] = "7"
        assert orjson.loads(data) == obj
        assert orjson.loads(without_managed_fields(data)) == lean(obj)


def test_objects_stored_in_another_order_lose_them_too() -> None:
    obj = stored(resourceVersion="7", managedFields=[OWNED])
    assert orjson.loads(without_managed_fields(orjson.dumps(obj))) == lean(obj)
    embedded = stored(resourceVersion="7") | {"spec": {"metadata": {"managedFields": [OWNED], "creationTimestamp": "x"}}}
    assert orjson.loads(without_managed_fields(orjson.dumps(embedded))) == embedded


@pytest.mark.parametrize("accept", [LEAN_JSON, PARTIAL, "application/msgpack;managedFields=omit"])
def test_answers_lists_and_watches_come_without_managed_fields_if_asked(tmp_path: Path, accept: str) -> None:
    async def test(api: Api) -> None:
        whole = await api.create(CONFIGMAPS, configmap("a", {"k": "v"}))
        assert whole["metadata"]["managedFields"]
        one = await api.raw("GET", f"{CONFIGMAPS}/a", Accept=accept)
        listed = await api.raw("GET", CONFIGMAPS, Accept=accept.replace("Metadata;", "MetadataList;"))
        for answer in (one, listed):
            assert (answer.status, b"managedFields" in answer.body, b'creationTimestamp' in answer.body) == (200, False, True)
        if accept == LEAN_JSON:
            assert orjson.loads(one.body) == lean(whole)
            assert orjson.loads(listed.body) == lean_list(await api.get(CONFIGMAPS))
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": accept}
        path = f"{CONFIGMAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.session.get(api.base + path, headers=headers) as response, asyncio.timeout(5):
            await api.create(CONFIGMAPS, configmap("b"))
            seen = b""
            while b"ADDED" not in seen.partition(b"BOOKMARK")[2]:
                seen += await response.content.readany()
        assert b"managedFields" not in seen

    with_api(tmp_path, test)


def lean_list(listed: dict[str, Any]) -> dict[str, Any]:
    return listed | {"items": [lean(item) for item in listed["items"]]}


def test_an_update_by_who_never_saw_managed_fields_keeps_them(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a", {"k": "v"}))
        seen = orjson.loads((await api.raw("GET", f"{CONFIGMAPS}/a", Accept=LEAN_JSON)).body)
        body = orjson.dumps(seen | {"data": {"k": "w"}})
        updated = await api.raw("PUT", f"{CONFIGMAPS}/a?fieldManager=other", body, Content_Type="application/json", Accept=LEAN_JSON)
        assert updated.status == 200
        owners = (await api.get(f"{CONFIGMAPS}/a"))["metadata"]["managedFields"]
        assert "other" in {owner["manager"] for owner in owners}
        assert len(owners) == 2

    with_api(tmp_path, test)
