"""etcd fulfils the storage contract, and API servers that share one see each other's writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.peers import LIVES_SECONDS, MASTER_LEASES, living, record_of
from kubecosm.services.apiserver.rest.services import ServiceStore
from kubecosm.services.apiserver.serviceips.claims import key_of
from kubecosm.services.apiserver.storage.contract import Change, StorageError, Store
from kubecosm.services.apiserver.storage.etcd import open_etcd
from kubecosm.services.apiserver.storage.etcdclient import range_end

from .etcd_server import etcd_server, free_port, needs_etcd
from .harness import CONFIGMAPS, Api, api_server, configmap
from .store_suite import CLAUSES, check_store

_fresh = count()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with etcd_server(tmp_path_factory.mktemp("etcd")) as address:
        yield address


@needs_etcd
@pytest.mark.process
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_the_contract(etcd: str, clause: Callable[[Store], Awaitable[None]]) -> None:
    async def open_backend() -> Store:
        return await open_etcd([etcd], root="/", namespace=f"/suite-{next(_fresh)}")

    check_store(open_backend, clause)


@needs_etcd
@pytest.mark.process
def test_a_store_that_opens_later_knows_the_past(etcd: str) -> None:
    async def main() -> None:
        namespace = f"/past-{next(_fresh)}"
        store = await open_etcd([etcd], root="/", namespace=namespace)
        start = store.revision
        created = await store.create(key="/a", value=b"1")
        await store.update(key="/a", value=b"2", expected_revision=created.revision)
        later = await open_etcd([etcd], root="/", namespace=namespace)
        seen: list[Change] = []
        await later.subscribe(prefix="/", after_revision=start, deliver=seen.extend)
        assert [(change.key, change.value) for change in seen] == [("/a", b"1"), ("/a", b"2")]
        await later.close()
        await store.close()

    asyncio.run(main())


@needs_etcd
@pytest.mark.process
def test_two_servers_share_one_etcd(etcd: str, tmp_path: Path) -> None:
    async def main() -> None:
        flags = {"storage_backend": "etcd", "etcd_servers": (etcd,)}
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        async with api_server(folders[0], **flags) as one, api_server(folders[1], **flags) as two:
            async with two.watch(f"{CONFIGMAPS}?watch=1&resourceVersion=0") as watch:
                created = await one.create(CONFIGMAPS, configmap("shared"))
                event = await watch.next()
                assert (event["type"], event["object"]) == ("ADDED", created)
                await two.merge(f"{CONFIGMAPS}/shared", {"data": {"k": "w"}})
                async with asyncio.timeout(5):
                    while (await one.get(f"{CONFIGMAPS}/shared"))["data"]["k"] != "w":
                        pass
            stale = await one.call("PUT", f"{CONFIGMAPS}/shared", created)
            assert (stale[0], stale[1]["reason"]) == (409, "Conflict")
            await asyncio.gather(*(server.create(CONFIGMAPS, configmap(f"c-{i}")) for i, server in enumerate([one, two] * 20)))
            listed = await one.get(f"{CONFIGMAPS}?resourceVersion={(await two.get(CONFIGMAPS))['metadata']['resourceVersion']}")
            assert len(listed["items"]) == 41
            leases = await one.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")
            assert len([lease for lease in leases["items"] if lease["metadata"]["name"].startswith("apiserver-")]) == 2
        async with api_server(folders[0], **flags) as again:
            assert len((await again.get(CONFIGMAPS))["items"]) == 41

    asyncio.run(main())


SERVICES = "/api/v1/namespaces/default/services"


def node_port_service(name: str, **port: int) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80, **port}]}}


@asynccontextmanager
async def two_servers(etcd: str, tmp_path: Path, **config: Any) -> AsyncIterator[tuple[Api, Api]]:
    flags = {"storage_backend": "etcd", "etcd_servers": (etcd,), **config}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with api_server(folders[0], **flags) as one, api_server(folders[1], **flags) as two:
        yield one, two


@needs_etcd
@pytest.mark.process
def test_two_servers_never_give_out_one_port_or_address_twice(tmp_path: Path) -> None:
    async def main() -> None:
        ranges = {"service_node_port_range": "30000-30063", "service_cluster_ip_range": "127.32.0.0/26"}
        with etcd_server(tmp_path) as etcd:
            async with two_servers(etcd, tmp_path, **ranges) as (one, two):
                made = await asyncio.gather(*(api.create(SERVICES, node_port_service(f"s-{i}")) for i, api in enumerate([one, two] * 25)))
                assert len({service["spec"]["ports"][0]["nodePort"] for service in made}) == 50
                assert len({service["spec"]["clusterIP"] for service in made}) == 50
                taken = {service["spec"]["ports"][0]["nodePort"] for service in made}
                free = next(port for port in range(30000, 30064) if port not in taken)
                answers = await asyncio.gather(
                    *(api.call("POST", SERVICES, node_port_service(name, nodePort=free)) for name, api in (("a", one), ("b", two)))
                )
                assert sorted(code for code, _ in answers) == [201, 422]
                refused = next(status for code, status in answers if code == 422)
                assert f"spec.ports[0].nodePort: Invalid value: {free}: provided port is already allocated" in refused["message"]
                winner = next(service["metadata"]["name"] for code, service in answers if code == 201)
                await one.delete(f"{SERVICES}/{winner}")
                async with asyncio.timeout(5):
                    while (await two.call("POST", SERVICES, node_port_service("c", nodePort=free)))[0] != 201:
                        pass

    asyncio.run(main())


@needs_etcd
@pytest.mark.process
def test_what_a_dead_server_left_behind_is_put_right(tmp_path: Path) -> None:
    async def main() -> None:
        with etcd_server(tmp_path) as etcd:
            async with two_servers(etcd, tmp_path) as (one, _):
                service = await one.create(SERVICES, node_port_service("web"))
                port = service["spec"]["ports"][0]["nodePort"]
                storage = one.state.storage
                left = orjson.dumps({"namespace": "default", "name": "gone", "since": "2026-01-01T00:00:00Z"})
                await storage.create(key=key_of(("TCP", 31999)), value=left)
                claimed = (await storage.get(key=key_of(("TCP", port)))).item
                assert claimed is not None
                await storage.delete(key=claimed.key, expected_revision=claimed.revision)
                store = one.state.store("", "v1", "services")
                assert isinstance(store, ServiceStore)
                assert store.claims is not None
                await store.claims.repair()
                assert (await storage.get(key=key_of(("TCP", 31999)))).item is None
                assert (await storage.get(key=key_of(("TCP", port)))).item is not None
                changed = await one.merge(f"{SERVICES}/web", {"spec": {"type": "ClusterIP"}})
                assert "nodePort" not in changed["spec"]["ports"][0]
                assert (await storage.get(key=key_of(("TCP", port)))).item is None

    asyncio.run(main())


@needs_etcd
@pytest.mark.process
def test_a_store_goes_on_when_etcd_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        seen: list[Change] = []
        with etcd_server(tmp_path, port) as address:
            store = await open_etcd([address])
            await store.subscribe(prefix="/registry/", after_revision=store.revision, deliver=seen.extend)
            assert (await store.create(key="/registry/core/x/a", value=b"1")).succeeded
        with pytest.raises(StorageError, match="etcd"):
            await store.create(key="/registry/core/x/b", value=b"2")
        with etcd_server(tmp_path, port):
            assert (await store.create(key="/registry/core/x/b", value=b"3")).succeeded
            assert [(change.key[-1], change.value) for change in seen] == [("a", b"1"), ("b", b"3")]
            await store.close()

    asyncio.run(main())


def test_servers_that_live_are_endpoints_in_order_and_those_that_have_gone_quiet_are_not() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    quiet = now - timedelta(seconds=LIVES_SECONDS + 1)
    places = [(("10.0.0.10", 6443), now), (("10.0.0.9", 6443), now), (("10.0.0.1", 6443), quiet), (("10.0.0.11", 6444), now)]
    records = [orjson.loads(record_of(place, at)) for place, at in places]
    assert living(records, ("10.0.0.10", 6443), now) == (["10.0.0.9", "10.0.0.10"], 6443)
    assert living([], ("10.0.0.10", 6443), now) == (["10.0.0.10"], 6443)


@needs_etcd
@pytest.mark.process
def test_servers_do_not_give_out_the_same_address_or_port(etcd: str, tmp_path: Path) -> None:
    async def main() -> None:
        flags = {"storage_backend": "etcd", "etcd_servers": (etcd,)}
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
        async with api_server(tmp_path / "one", **flags) as one, api_server(tmp_path / "two", **flags) as two:
            services = "/api/v1/namespaces/default/services"
            for number in range(20):
                spec = {"type": "NodePort", "ports": [{"port": 80}]}
                body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{number}"}, "spec": spec}
                created = await (one, two)[number % 2].create(services, body)
            clash = {**body, "metadata": {"name": "clash"}, "spec": {**spec, "clusterIP": created["spec"]["clusterIP"]}}
            async with asyncio.timeout(5):
                while (await one.raw("GET", f"{services}/s19")).status != 200:
                    pass
            status, answer = await one.call("POST", services, clash)
            assert (status, answer["message"].rpartition(": ")[2]) == (422, "provided IP is already allocated")
            found = [item["spec"] for item in (await one.get(services))["items"]]
            assert len({spec["clusterIP"] for spec in found}) == len(found)
            assert len({port["nodePort"] for spec in found for port in spec["ports"] if "nodePort" in port}) == 20
            for number in range(20):
                await (two, one)[number % 2].delete(f"{services}/s{number}")

    asyncio.run(main())


@needs_etcd
@pytest.mark.process
def test_the_kubernetes_service_leads_to_all_servers(etcd: str, tmp_path: Path) -> None:
    async def main() -> None:
        store = await open_etcd([etcd])
        for left in (await store.list(prefix=MASTER_LEASES)).items:  # a server that another test has killed is thought to live for a while
            await store.delete(key=left.key, expected_revision=left.revision)
        now = datetime.now(UTC) + timedelta(hours=1)  # the others live as long as the test takes
        await store.create(key=f"{MASTER_LEASES}127.0.0.9:1", value=record_of(("127.0.0.9", 1), now))
        port = free_port()
        await store.create(key=f"{MASTER_LEASES}127.0.0.8:{port}", value=record_of(("127.0.0.8", port), now))
        async with api_server(tmp_path, storage_backend="etcd", etcd_servers=(etcd,), secure_port=port) as api:
            async with asyncio.timeout(10):
                while len((found := await api.get("/api/v1/namespaces/default/endpoints/kubernetes"))["subsets"][0]["addresses"]) != 2:
                    pass
            assert [address["ip"] for address in found["subsets"][0]["addresses"]] == ["127.0.0.1", "127.0.0.8"]
            assert (await store.get(key=f"{MASTER_LEASES}127.0.0.1:{port}")).item is not None
        async with asyncio.timeout(5):
            while (await store.get(key=f"{MASTER_LEASES}127.0.0.1:{port}")).item is not None:
                await store.create(key="/registry/core/tests/ping", value=b"")  # the watch brings the news of the others with its answer
        await store.close()

    asyncio.run(main())


def test_an_etcd_that_is_not_there_is_one_clear_line() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StartupError, match=f"cannot use etcd at {address}: etcd cannot be reached.*check --etcd-servers"):
        asyncio.run(open_etcd([address]))


def test_a_prefix_ends_before_the_next_key_that_does_not_have_it() -> None:
    assert range_end("/registry/") == "L3JlZ2lzdHJ5MA=="  # /registry0
    assert range_end("") == "AA=="  # everything
