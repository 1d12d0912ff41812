"""LIST: pages, selectors, resourceVersion rules, forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecosm.services.apiserver.rest import reads

from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, PODS, Api, configmap, pod, with_api


async def names(api: Api, path: str) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.get(path))["items"]]


async def make(api: Api, *wanted: str, **meta: Any) -> None:
    for name in wanted:
        await api.create(CONFIGMAPS, configmap(name, **meta))


def test_items_come_in_key_order_without_their_type(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await make(api, "b", "a.x", "a-x", "a")
        listed = await api.get(CONFIGMAPS)
        assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "a-x", "a.x", "b"]
        assert "kind" not in listed["items"][0]

    with_api(tmp_path, test)


def test_pages_show_the_list_as_it_was_when_the_first_was_read(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await make(api, "a", "b", "c", "d", "e")
        first = await api.get(f"{CONFIGMAPS}?limit=2")
        assert first["metadata"]["remainingItemCount"] == 3
        await make(api, "b-late")
        await api.delete(f"{CONFIGMAPS}/d")
        token, found = first["metadata"]["continue"], ["a", "b"]
        while token:
            page = await api.get(f"{CONFIGMAPS}?limit=2&continue={token}")
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            found += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue", "")
        assert found == ["a", "b", "c", "d", "e"]

    with_api(tmp_path, test)


def test_pages_with_selectors_are_full_and_end(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for n in range(9):
            await api.create(CONFIGMAPS, configmap(f"c{n}", labels={"odd": str(n % 2)}))
        path = f"{CONFIGMAPS}?labelSelector=odd%3D1&limit=2"
        first = await api.get(path)
        second = await api.get(f"{path}&continue={first['metadata']['continue']}")
        assert [i["metadata"]["name"] for i in first["items"] + second["items"]] == ["c1", "c3", "c5", "c7"]
        assert "remainingItemCount" not in first["metadata"]
        assert "continue" not in second["metadata"]

    with_api(tmp_path, test)


def test_a_malformed_continue_token_is_400(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("GET", f"{CONFIGMAPS}?continue=nonsense")
        assert (code, status["reason"]) == (400, "BadRequest")
        assert status["message"].startswith("invalid continue token: continue key is not valid")

    with_api(tmp_path, test)


def test_an_exact_version_shows_the_past(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await make(api, "a")
        version = (await api.get(CONFIGMAPS))["metadata"]["resourceVersion"]
        await make(api, "b")
        assert await names(api, f"{CONFIGMAPS}?resourceVersion={version}&resourceVersionMatch=Exact") == ["a"]
        assert await names(api, f"{CONFIGMAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan") == ["a", "b"]
        assert await names(api, f"{CONFIGMAPS}?resourceVersion=0") == ["a", "b"]

    with_api(tmp_path, test)


def test_a_version_from_the_future_times_out_with_advice(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reads, "FRESH_WAIT_SECONDS_MAX", 0.05)

    async def test(api: Api) -> None:
        code, status = await api.call("GET", f"{CONFIGMAPS}?resourceVersion=100000")
        assert (code, status["reason"], status["details"]["retryAfterSeconds"]) == (504, "Timeout", 1)
        assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        code, status = await api.call("GET", f"{CONFIGMAPS}?resourceVersion=abc")
        assert code == 400

    with_api(tmp_path, test)


def test_match_rules_are_checked(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for query in ("=Exact", "=Exact&resourceVersion=0", "=No&resourceVersion=1"):
            code, status = await api.call("GET", f"{CONFIGMAPS}?resourceVersionMatch{query}")
            assert (code, status["reason"]) == (422, "Invalid"), query

    with_api(tmp_path, test)


def test_field_selectors_select_by_the_fields_of_the_kind(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("here", nodeName="node-1"))
        await api.create(PODS, pod("free"))
        assert await names(api, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1") == ["here"]
        assert await names(api, f"{PODS}?fieldSelector=spec.nodeName%3D,status.phase%3DPending") == ["free"]
        assert await names(api, f"{PODS}?fieldSelector=metadata.name%3Dfree") == ["free"]
        code, status = await api.call("GET", f"{PODS}?fieldSelector=spec.nosuch%3Dx")
        assert (code, status["message"]) == (400, "field label not supported: spec.nosuch")

    with_api(tmp_path, test)


def test_a_list_over_all_namespaces_holds_them_all(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await make(api, "a")
        await api.create("/api/v1/namespaces/kube-system/configmaps", configmap("b"))
        assert set(await names(api, "/api/v1/configmaps")) >= {"a", "b"}
        assert await names(api, CONFIGMAPS) == ["a"]

    with_api(tmp_path, test)


def test_lists_come_as_tables_and_bare_metadata(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await make(api, "a", "b")
        table = await api.get(CONFIGMAPS, Accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        whole = await api.get(f"{CONFIGMAPS}?includeObject=Object", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert whole["rows"][0]["object"]["data"] == {"k": "v"}
        bare = await api.get(CONFIGMAPS, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
        assert (bare["kind"], bare["items"][1]["metadata"]["name"]) == ("PartialObjectMetadataList", "b")

    with_api(tmp_path, test)
