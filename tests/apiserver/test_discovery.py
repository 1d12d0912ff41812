"""Discovery tells the truth in both its forms, and as Kubernetes 1.36 words it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest

from kubecosm.api.resources import load_builtin
from kubecosm.services.apiserver.aggregation.catalog import Catalog
from kubecosm.services.apiserver.discovery.documents import aggregated

from .harness import Api, with_api

REFERENCE = Path(__file__).parent / "data" / "discovery-1.36.json"
"""The groups in order and, per group and version, the first digits of the SHA-256 of Kubernetes' own document (sorted keys, no spaces)."""
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
EVERYTHING = ("api/all=true",)


def digest_of(document: object) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def test_aggregated_discovery_equals_kubernetes_own_document() -> None:
    reference = orjson.loads(REFERENCE.read_bytes())
    rows = load_builtin()
    document = aggregated(rows, Catalog().group_versions(rows), {}, core=False)
    assert [group["metadata"]["name"] for group in document["items"]] == reference["groups"]
    digests = {
        f"{group['metadata']['name']}/{version['version']}": digest_of(version)
        for group in document["items"]
        for version in group["versions"]
    }
    assert digests == reference["versions"]


def test_aggregated_discovery_is_served_with_an_etag(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        first = await api.raw("GET", "/apis", Accept=AGGREGATED)
        assert first.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        again = await api.raw("GET", "/apis", Accept=AGGREGATED, If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        core = orjson.loads((await api.raw("GET", "/api", Accept=AGGREGATED)).body)
        pods = next(r for r in core["items"][0]["versions"][0]["resources"] if r["resource"] == "pods")
        assert {s["subresource"] for s in pods["subresources"]} >= {"binding", "eviction", "exec", "log", "portforward", "status"}

    with_api(tmp_path, test)


def test_only_stable_versions_are_served_unless_told_otherwise(tmp_path: Path) -> None:
    async def versions(api: Api) -> set[str]:
        groups = (await api.get("/apis"))["groups"]
        return {version["groupVersion"] for group in groups for version in group["versions"]}

    async def test_default(api: Api) -> None:
        assert not any("alpha" in version or "beta" in version for version in await versions(api))

    async def test_all(api: Api) -> None:
        assert {"resource.k8s.io/v1beta1", "networking.k8s.io/v1beta1"} <= await versions(api)

    with_api(tmp_path, test_default)
    with_api(tmp_path, test_all, runtime_config=EVERYTHING)


def test_unaggregated_discovery_hangs_together(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.get("/api"))["versions"] == ["v1"]
        for group in (await api.get("/apis"))["groups"]:
            assert await api.get(f"/apis/{group['name']}") == {"kind": "APIGroup", "apiVersion": "v1", **group}
            for version in group["versions"]:
                assert (await api.get(f"/apis/{version['groupVersion']}"))["resources"]
        resources = {r["name"]: r for r in (await api.get("/apis/apps/v1"))["resources"]}
        assert resources["deployments"]["shortNames"] == ["deploy"]
        assert (resources["deployments/scale"]["group"], resources["deployments/scale"]["kind"]) == ("autoscaling", "Scale")
        assert "group" not in resources["deployments/status"]

    with_api(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "name", "digest"),
    [
        ("/api/v1", "pods", "xPOwRZ+Yhw8="), ("/api/v1", "events", "r2yiGXH7wu8="), ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),
        ("/apis/apps/v1", "deployments", "8aSe+NMegvE="), ("/apis/autoscaling/v1", "horizontalpodautoscalers", "qwQve8ut294="),
        ("/apis/coordination.k8s.io/v1", "leases", "gqkMMb/YqFM="),
    ],
)  # fmt: skip
def test_storage_version_hashes_are_those_of_kubernetes(tmp_path: Path, path: str, name: str, digest: str) -> None:
    async def test(api: Api) -> None:
        resources = (await api.get(path))["resources"]
        assert next(r for r in resources if r["name"] == name)["storageVersionHash"] == digest

    with_api(tmp_path, test)
