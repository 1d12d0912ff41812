"""/metrics: Kubernetes' names, labels and buckets, and figures that are true."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.apiserver.tallies import Durations

from .harness import CONFIGMAPS, USER_TOKEN, Api, configmap, with_api

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Samples = dict[str, list[tuple[dict[str, str], float]]]


def parse(text: str) -> Samples:
    """Name of a sample → its labels and values."""
    found: Samples = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            found.setdefault(match[1], []).append((dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


async def scrape(api: Api) -> Samples:
    return parse((await api.raw("GET", "/metrics")).text)


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for given, value in samples.get(name, ()) if labels.items() <= given.items())


EXPECTED: dict[str, set[str]] = {
    "apiserver_request_total": {
        "code", "component", "dry_run", "group", "resource", "scope", "subresource", "system_client", "verb", "version"},
    "apiserver_request_duration_seconds_count": {
        "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"},
    "apiserver_response_sizes_count": {"component", "group", "resource", "scope", "subresource", "verb", "version"},
    "apiserver_requested_deprecated_apis": {"group", "removed_release", "resource", "subresource", "version"},
    "apiserver_longrunning_requests": {"component", "group", "resource", "scope", "subresource", "verb", "version"},
    "apiserver_current_inflight_requests": {"request_kind"},
    "apiserver_watch_list_duration_seconds_count": {"group", "resource", "scope", "version"},
    "apiserver_storage_objects": {"resource"},
    "apiserver_storage_size_bytes": {"storage_cluster_id"},
    "apiserver_storage_events_received_total": {"group", "resource"},
    "apiserver_request_sli_duration_seconds_count": {"component", "group", "resource", "scope", "subresource", "verb", "version"},
    "apiserver_resource_size_estimate_bytes": {"group", "resource"},
    "apiserver_watch_cache_events_received_total": {"group", "resource"},
    "apiserver_watch_cache_events_dispatched_total": {"group", "resource"},
    "apiserver_watch_cache_resource_version": {"group", "resource"},
    "apiserver_watch_events_total": {"group", "resource", "version"},
    "apiserver_watch_events_sizes_count": {"group", "resource", "version"},
    "apiserver_cache_list_total": {"group", "index", "resource"},
    "apiserver_cache_list_fetched_objects_total": {"group", "index", "resource"},
    "apiserver_cache_list_returned_objects_total": {"group", "resource"},
    "apiserver_tls_handshake_errors_total": set(),
    "etcd_request_duration_seconds_count": {"group", "operation", "resource"},
    "etcd_requests_total": {"group", "operation", "resource"},
    "kube_apiserver_clusterip_allocator_allocated_ips": {"cidr"},
    "kube_apiserver_clusterip_allocator_available_ips": {"cidr"},
    "kube_apiserver_nodeport_allocator_allocated_ports": set(),
    "kube_apiserver_nodeport_allocator_available_ports": set(),
    "kubernetes_healthcheck": {"name", "type"},
    "kubernetes_healthchecks_total": {"name", "status", "type"},
    "kubernetes_build_info": {
        "build_date", "compiler", "git_commit", "git_tree_state", "git_version", "go_version", "major", "minor", "platform"},
    "authenticated_user_requests": {"username"},
    "authentication_attempts": {"result"},
    "authentication_duration_seconds_count": {"result"},
    "authorization_attempts_total": {"result"},
    "authorization_duration_seconds_count": {"result"},
}  # fmt: skip


def test_what_kubernetes_promises_is_there_with_its_labels(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.raw("GET", "/readyz")
        await api.get("/api/v1/namespaces/default/endpoints")
        initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"
        async with api.watch(f"/api/v1/pods?watch=1&{initial}") as watch:
            await watch.next()
            async with api.watch("/api/v1/configmaps?watch=1") as changes:
                await api.create(CONFIGMAPS, configmap("seen"))
                await changes.next()
            samples = await scrape(api)
        found = {name: set(samples[name][0][0]) for name in EXPECTED if name in samples}
        assert found == EXPECTED

    with_api(tmp_path, test)


def test_authentication_and_authorization_are_counted_by_what_came_of_them(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        before = await scrape(api)
        for _ in range(40):
            await api.get("/version")
        await api.raw("GET", "/version", token="nobody's")
        await api.raw("GET", "/api/v1/pods", token=USER_TOKEN)
        after = await scrape(api)

        def grown(name: str, **labels: str) -> float:
            return total(after, name, **labels) - total(before, name, **labels)

        assert grown("authentication_attempts", result="success") == 42  # with the scrape itself
        assert grown("authentication_attempts", result="error") == 1
        assert grown("authentication_duration_seconds_count", result="success") == 42
        assert grown("authenticated_user_requests", username="admin") == 41
        assert grown("authenticated_user_requests", username="other") == 1
        assert grown("authorization_attempts_total", result="allowed") == 41
        assert grown("authorization_attempts_total", result="no-opinion") == 1
        assert grown("authorization_duration_seconds_count", result="allowed") == 41

    with_api(tmp_path, test, authorization_mode=("RBAC",))


def test_sizes_of_reads_and_events_of_the_storage_are_counted(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        path = "/api/v1/namespaces/default/configmaps"
        await api.create(path, configmap("big", {"k": "x" * 20_000}))
        size = len((await api.raw("GET", f"{path}/big")).body)
        samples = await scrape(api)
        labels: dict[str, Any] = {"verb": "GET", "resource": "configmaps"}
        assert total(samples, "apiserver_response_sizes_sum", **labels) == size
        assert total(samples, "apiserver_response_sizes_bucket", **labels, le="10000.0") == 0
        assert total(samples, "apiserver_response_sizes_bucket", **labels, le="100000.0") == 1
        assert total(samples, "apiserver_response_sizes_count", verb="POST") == 0
        received = total(samples, "apiserver_storage_events_received_total", group="", resource="configmaps")
        await api.delete(f"{path}/big")
        assert total(await scrape(api), "apiserver_storage_events_received_total", group="", resource="configmaps") == received + 1

    with_api(tmp_path, test)


def test_writes_lists_and_events_are_counted_by_resource(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        which: dict[str, Any] = {"group": "", "resource": "configmaps"}
        async with api.watch("/api/v1/configmaps?watch=1") as one, api.watch("/api/v1/configmaps?watch=1") as two:
            before = await scrape(api)
            for n in range(20):
                await api.create(CONFIGMAPS, configmap(f"c{n}", labels={"even": str(n % 2)}))
            await api.merge(f"{CONFIGMAPS}/c0", {"data": {"k": "w"}})
            await api.delete(f"{CONFIGMAPS}/c1")
            await one.names(22)
            await two.names(22)
            await api.get(CONFIGMAPS)
            await api.get(f"{CONFIGMAPS}?labelSelector=even=1")
            samples = await scrape(api)

        def grown(name: str, **labels: str) -> float:
            return total(samples, name, **which, **labels) - total(before, name, **which, **labels)

        assert [grown("etcd_requests_total", operation=operation) for operation in ("create", "update", "delete")] == [20, 1, 1]
        assert grown("etcd_request_duration_seconds_count", operation="create") == 20
        assert grown("apiserver_watch_events_total", version="v1") == 44
        assert grown("apiserver_watch_events_sizes_count", version="v1") == 44
        assert grown("apiserver_cache_list_total", index="") == 2
        assert grown("apiserver_cache_list_fetched_objects_total") == 38
        assert grown("apiserver_cache_list_returned_objects_total") == 19 + 9
        stored = (await api.raw("GET", CONFIGMAPS)).body
        assert 0.5 * len(stored) < total(samples, "apiserver_resource_size_estimate_bytes", **which) < 2 * len(stored)

    with_api(tmp_path, test)


def test_addresses_and_ports_that_services_hold_are_counted(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        before = await scrape(api)
        services = "/api/v1/namespaces/default/services"
        made = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
        await api.create(services, made)
        held = await scrape(api)
        await api.delete(f"{services}/s")
        after = await scrape(api)
        addresses, ports = "kube_apiserver_clusterip_allocator", "kube_apiserver_nodeport_allocator"
        for name, count in ((f"{addresses}_allocated_ips", 1), (f"{addresses}_available_ips", -1), (f"{ports}_allocated_ports", 2)):
            assert total(held, name) - total(before, name) == count, name
            assert total(after, name) == total(before, name), name

    with_api(tmp_path, test)


def test_clients_that_cannot_agree_on_tls_are_counted(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert total(await scrape(api), "apiserver_tls_handshake_errors_total") == 0
        host, _, port = api.base.removeprefix("https://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP request to an HTTPS server" in await reader.readuntil(b"server.\n")
        writer.close()
        assert total(await scrape(api), "apiserver_tls_handshake_errors_total") == 1

    with_api(tmp_path, test)


def test_a_watch_that_its_client_ends_is_counted(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with api.watch("/api/v1/pods?watch=1"):
            assert total(await scrape(api), "apiserver_longrunning_requests", verb="WATCH", resource="pods") == 1
        async with asyncio.timeout(5):
            while not total(await scrape(api), "apiserver_request_total", verb="WATCH", resource="pods", code="200"):
                pass

    with_api(tmp_path, test)


def test_encryption_counts_what_goes_into_the_storage_and_comes_out(tmp_path: Path) -> None:
    config = tmp_path / "encryption.yaml"
    key = {"name": "key1", "secret": b64encode(bytes(32)).decode()}
    entry = {"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [key]}}, {"identity": {}}]}
    config.write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]})
    )

    async def test(api: Api) -> None:
        await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
        samples = await scrape(api)
        labels = {"resource": "secrets", "transformer_prefix": "k8s:enc:aesgcm:v1:key1:"}
        for direction in ("to_storage", "from_storage"):
            assert total(samples, "apiserver_storage_transformation_operations_total", **labels, transformation_type=direction, status="OK")
            assert total(samples, "apiserver_storage_transformation_duration_seconds_count", **labels, transformation_type=direction)

    with_api(tmp_path, test, encryption_provider_config=str(config))


def test_service_levels_do_not_count_what_others_took() -> None:
    durations, moved = Durations((0.005, 0.025, 0.05, 1.0)), Durations((0.005, 0.025, 0.05, 1.0))
    for seconds in (0.001, 0.03, 0.5):
        durations.observe(seconds)
    moved.move(0.5, 0.02)  # a webhook took the rest
    found = durations.plus(moved).without_first(2)
    assert (found.bounds, found.counts, round(found.sum, 3)) == ((0.05, 1.0), [3, 0, 0], 0.051)


@pytest.mark.parametrize("samples", [[], [0.0001], [0.0001] * 3 + [5.0], [5.0]])
def test_samples_stand_for_all_without_losing_any(samples: list[float]) -> None:
    durations = Durations((0.001, 1.0))
    for sample in samples:
        durations.observe(sample)
    scaled = durations.scaled_to(101)
    assert scaled.count == 101
    assert scaled.sum == pytest.approx(sum(samples) * 101 / len(samples) if samples else 0.0)
