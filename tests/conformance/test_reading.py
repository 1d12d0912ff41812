"""Lists in chunks, Tables, and what a server says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.harness import Api, with_api
from tests.conformance.wire import Wire
from tests.promises import promise

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
TOTAL, LIMIT = 400, 30


def template(number: int) -> dict[str, Any]:
    spec = {"containers": [{"name": "test", "image": "test2"}]}
    return {"metadata": {"name": f"template-{number:04d}"}, "template": {"metadata": {"labels": {"pod": "yes"}}, "spec": spec}}


@pytest.mark.process
@promise("Servers with support for API chunking should return chunks of results for list calls")
def test_a_list_comes_in_chunks_of_one_version(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    for number in range(TOTAL):
        wire.create(path, template(number))
    for _attempt in range(2):
        seen, token, version = 0, "", ""
        while True:
            page = wire.get(path, limit=LIMIT, **{"continue": token})
            metadata, items = page["metadata"], page["items"]
            assert len(items) <= LIMIT
            version = version or metadata["resourceVersion"]
            assert metadata["resourceVersion"] == version
            assert [item["metadata"]["name"] for item in items] == [f"template-{n:04d}" for n in range(seen, seen + len(items))]
            seen += len(items)
            token = metadata.get("continue", "")
            if not token:
                assert "remainingItemCount" not in metadata
                break
            assert metadata["remainingItemCount"] == TOTAL - seen
        assert seen == TOTAL
    assert len(wire.get(path)["items"]) == TOTAL


@promise(
    "Servers with support for API chunking should support continue listing from the last key if the original version "
    "has been compacted away, though the list is inconsistent"
)
def test_an_expired_list_goes_on_inconsistently_from_its_last_key(tmp_path: Path) -> None:
    path = "/api/v1/namespaces/default/podtemplates"

    async def scenario(api: Api) -> None:
        for number in range(100):
            await api.create(path, template(number))
        first = await api.get(f"{path}?limit=40")
        await api.delete(f"{path}/template-0050")
        await api.create(path, template(200))
        await forget(api)
        code, expired = await api.call("GET", f"{path}?limit=40&continue={first['metadata']['continue']}")
        assert (code, expired["reason"]) == (410, "Expired")
        inconsistent = expired["metadata"]["continue"]
        assert inconsistent
        second = await api.get(f"{path}?limit=40&continue={inconsistent}")
        names = [item["metadata"]["name"] for item in second["items"]]
        assert names == [f"template-{n:04d}" for n in range(40, 81) if n != 50]
        assert second["metadata"]["remainingItemCount"] == 20
        assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
        last = await api.get(f"{path}?limit=40&continue={second['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in last["items"]] == [f"template-{n:04d}" for n in [*range(81, 100), 200]]
        assert last["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        assert "continue" not in last["metadata"]

    with_api(tmp_path, scenario)


async def forget(api: Api) -> None:
    """What the server does every few minutes with what is old."""
    await api.state.storage.compact(revision=api.state.storage.revision)


@pytest.mark.process
@promise("Servers with support for Table transformation should return a 406 for a backend which does not implement metadata")
def test_what_has_no_metadata_cannot_be_a_table(wire: Wire) -> None:
    body = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    refused = wire.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, headers={"Accept": TABLE})
    assert refused.status == 406
    assert refused.json["reason"] == "NotAcceptable"


@pytest.mark.process
def test_pods_come_as_a_table_with_kubernetes_columns(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    wire.create(path, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody"}})
    table = wire.get(path, headers={"Accept": TABLE})
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [c["name"] for c in table["columnDefinitions"][:5]] == ["Name", "Ready", "Status", "Restarts", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:4] == ["p", "0/1", "Pending", "0"]
    assert row["object"]["kind"] == "PartialObjectMetadata"


@pytest.mark.process
def test_chunks_come_as_tables_too(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    for number in range(20):
        wire.create(path, template(number))
    page = wire.get(path, headers={"Accept": f"{TABLE},application/json"}, limit=8, includeObject="Metadata")
    assert len(page["rows"]) == 8
    assert page["rows"][0]["cells"][0] == "template-0000"
    assert page["metadata"]["continue"]
    assert page["metadata"]["remainingItemCount"] == 12


@pytest.mark.process
@promise("server version should find the server version")
def test_the_server_tells_its_version_in_whole_numbers(wire: Wire) -> None:
    version = wire.get("/version")
    assert (version["major"], version["minor"]) == ("1", "36")
    assert version["gitVersion"].startswith("v1.36.")


@pytest.mark.process
@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/livez/ping", "/readyz/ping"])
def test_health_is_told_plainly(wire: Wire, path: str) -> None:
    reply = wire.send("GET", path)
    assert (reply.status, reply.data) == (200, b"ok")


@pytest.mark.process
def test_verbose_health_names_its_checks(wire: Wire) -> None:
    text = wire.send("GET", "/readyz", verbose="true").data.decode()
    assert "[+]ping ok" in text
    assert text.rstrip().endswith("readyz check passed")
