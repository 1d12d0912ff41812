"""Clients that take their time, servers that are told to stop, and what health checks say meanwhile."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.service import ReadyInfo
from kubecosm.services.apiserver.app import serve
from kubecosm.services.apiserver.config import Config
from kubecosm.services.apiserver.http import connection

from .harness import Api, with_api


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "half a head"])
def test_a_client_that_sends_no_whole_head_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS_MAX", 0.2)

    async def test(api: Api) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(api.base).port, ssl=context)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        async with api.watch("/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1") as watch:
            await watch.wait_end()  # whoever has sent his head is left alone, however long the answer takes

    with_api(tmp_path, test)


def test_health_is_told_check_by_check(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        verbose = (await api.raw("GET", "/readyz?verbose", token="")).text.splitlines()
        assert verbose[:3] == ["[+]ping ok", "[+]log ok", "[+]etcd ok"]
        assert {"[+]poststarthook/priority-and-fairness-config-producer ok", "[+]informer-sync ok", "[+]shutdown ok"} <= set(verbose)
        assert verbose[-1] == "readyz check passed"
        assert "[+]shutdown ok" not in (await api.raw("GET", "/livez?verbose")).text
        assert (await api.raw("GET", "/livez/poststarthook/crd-informer-synced")).text == "ok"
        api.state.is_stopping = True
        failing = await api.raw("GET", "/readyz")
        assert (failing.status, "[-]shutdown failed: reason withheld" in failing.text) == (500, True)
        assert (await api.raw("GET", "/readyz?exclude=shutdown")).status == 200
        assert (await api.raw("GET", "/livez")).status == 200

    with_api(tmp_path, test)


def test_a_server_that_is_told_to_stop_serves_on_for_the_shutdown_delay(tmp_path: Path) -> None:
    async def main() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        config = Config(secure_port=0, storage_backend="memory", shutdown_delay_duration=0.3)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()

        def on_ready(_info: ReadyInfo) -> None:
            ready.set()

        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(config, clock=RealClock(), stop=stop, on_ready=on_ready))
            await ready.wait()
            stopped = loop.time()
            stop.set()
            await serving
        assert loop.time() - stopped >= 0.3

    asyncio.run(main())


def test_a_bad_timeout_is_400(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        status, answer = await api.call("GET", "/api/v1/pods?timeout=invalid")
        assert (status, answer["reason"]) == (400, "BadRequest")
        assert answer["message"] == 'invalid timeout specified in the request URL - time: invalid duration "invalid"'

    with_api(tmp_path, test)
