"""The health endpoints answer as k8s.io/apiserver's healthz package does."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from multidict import MultiDict

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.health import Answer, HealthEndpoints, HealthServer, split_address
from kubecosm.runtime.metrics import Metrics


def ask(path: str, query: dict[str, str] | None = None, **checks: Any) -> Answer | None:
    return asyncio.run(HealthEndpoints(Metrics(), **checks).answer(path, MultiDict(query or {})))


def well() -> None:
    return None


def ill() -> str:
    return "storage is closed"


async def slowly_well() -> None:
    await asyncio.sleep(0)


def test_all_well_is_just_ok() -> None:
    assert ask("/readyz", readyz={"storage": well, "informers": slowly_well}) == Answer(200, "text/plain; charset=utf-8", b"ok")


def test_verbose_lists_every_check() -> None:
    answer = ask("/readyz", {"verbose": ""}, livez={"loop": well}, readyz={"storage": well})
    assert answer is not None
    assert answer.body == b"[+]ping ok\n[+]loop ok\n[+]storage ok\nreadyz check passed\n"


def test_a_failing_check_fails_readyz_and_says_why() -> None:
    answer = ask("/readyz", readyz={"storage": ill})
    assert answer is not None
    assert (answer.status, answer.body) == (500, b"[+]ping ok\n[-]storage failed: storage is closed\nreadyz check failed\n")


def test_livez_ignores_what_only_readiness_needs() -> None:
    answer = ask("/livez", readyz={"storage": ill})
    assert answer is not None
    assert answer.status == 200


def test_an_excluded_check_does_not_count() -> None:
    answer = ask("/readyz", {"exclude": "storage", "verbose": ""}, readyz={"storage": ill})
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"[+]ping ok\n[+]storage excluded: ok\nreadyz check passed\n")


@pytest.mark.parametrize(("name", "status"), [("storage", 500), ("ping", 200), ("nonsense", 404)])
def test_one_check_can_be_asked_alone(name: str, status: int) -> None:
    answer = ask(f"/readyz/{name}", readyz={"storage": ill})
    assert answer is not None
    assert answer.status == status


def test_other_paths_are_left_to_the_server() -> None:
    assert ask("/api") is None


def test_metrics_carry_process_and_build_figures() -> None:
    answer = ask("/metrics")
    assert answer is not None
    assert b"process_resident_memory_bytes" in answer.body
    assert b'git_version="v1.36.0",go_version=' in answer.body


def test_the_server_serves_health_and_metrics_on_a_free_port() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        metrics.counter("things_total", "Things.", ("kind",)).labels("a").inc(2)
        async with (
            HealthServer(HealthEndpoints(metrics), "127.0.0.1:0") as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client,
        ):
            async with client.get("/healthz") as response:
                assert (response.status, await response.text()) == (200, "ok")
            async with client.get("/metrics") as response:
                assert 'things_total{kind="a"} 2.0' in await response.text()
            async with client.get("/nothing") as response:
                assert response.status == 404
            async with client.post("/healthz") as response:
                assert response.status == 405

    asyncio.run(scenario())


def test_a_port_in_use_is_a_startup_error() -> None:
    async def scenario() -> None:
        async with HealthServer(HealthEndpoints(Metrics()), "127.0.0.1:0") as first:
            with pytest.raises(StartupError, match=rf"127.0.0.1:{first.port}: the address is already in use"):
                async with HealthServer(HealthEndpoints(Metrics()), f"127.0.0.1:{first.port}"):
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize(("text", "parsed"), [("127.0.0.1:80", ("127.0.0.1", 80)), (":0", ("127.0.0.1", 0)), ("[::1]:1", ("::1", 1))])
def test_addresses_are_host_and_port(text: str, parsed: tuple[str, int]) -> None:
    assert split_address(text) == parsed


@pytest.mark.parametrize("text", ["localhost", "localhost:http", "x:70000", ""])
def test_a_wrong_address_names_the_flag(text: str) -> None:
    with pytest.raises(StartupError, match="invalid --metrics-bind-address"):
        split_address(text)
