"""The API client: what it sends, what it makes of answers, and what it leaves to its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from kubecosm.api import errors
from kubecosm.api.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, Object
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import (
    REQUEST_TIMEOUT_SECONDS,
    RETRIES_AFTER_429_MAX,
    TRANSPORT_ERRORS,
    ApiClient,
    PatchType,
)
from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.client.ratelimit import RateLimiter
from kubecosm.client.stream import LineSplitter
from kubecosm.testing.scripted import ScriptedServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

POD: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "default", "resourceVersion": "7"}}


def scripted(scenario: Callable[[ScriptedServer, ApiClient], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with ScriptedServer() as server, server.client(clock) as client:
            await scenario(server, client)

    run_virtual(main())


class TestVerbs:
    def test_get_reads_one_object(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            call = server.expect("GET", "/api/v1/namespaces/default/pods/web-0").answer(POD)
            assert await client.get(PODS, "web-0", "default") == POD
            assert call.headers["Accept"] == "application/json"
            assert call.headers["User-Agent"] == "kubecosm-test"
            server.expect("GET", "/api/v1/nodes/node-1/status").answer({})
            await client.get(NODES, "node-1", subresource="status")

        scripted(scenario)

    def test_list_sends_its_options_and_only_those_given(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            query = {"labelSelector": "app in (web,db)", "fieldSelector": "spec.nodeName=n1", "limit": "500", "continue": "t=="}
            server.expect("GET", "/api/v1/pods", query).answer({"items": []})
            assert await client.list(
                PODS, label_selector="app in (web,db)", field_selector="spec.nodeName=n1", limit=500, continue_token="t=="
            ) == {"items": []}
            server.expect("GET", "/api/v1/namespaces/default/pods", {}).answer({"items": []})
            await client.list(PODS, "default")

        scripted(scenario)

    def test_create_takes_the_namespace_from_the_object_or_the_argument(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            for namespace in (None, "default"):
                call = server.expect("POST", "/api/v1/namespaces/default/pods").answer(POD, 201)
                assert await client.create(PODS, POD, namespace) == POD
                assert (call.body, call.headers["Content-Type"]) == (POD, "application/json")
            binding = {"target": {"kind": "Node", "name": "n1"}}
            server.expect("POST", "/api/v1/namespaces/default/pods/web-0/binding", {"dryRun": "All"}).answer({}, 201)
            await client.create(PODS, binding, "default", name="web-0", subresource="binding", params={"dryRun": "All"})

        scripted(scenario)

    def test_update_goes_to_the_object_or_its_subresource(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("PUT", "/api/v1/namespaces/default/pods/web-0").answer(POD)
            await client.update(PODS, POD)
            server.expect("PUT", "/api/v1/namespaces/default/pods/web-0/status").answer(POD)
            await client.update(PODS, POD, subresource="status")

        scripted(scenario)

    @pytest.mark.parametrize("patch_type", PatchType)
    def test_patch_names_its_type(self, patch_type: PatchType) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            call = server.expect("PATCH", "/apis/apps/v1/namespaces/default/deployments/web", {"fieldManager": "me"}).answer({})
            await client.patch(DEPLOYMENTS, "web", {"spec": {}}, "default", patch_type=patch_type, params={"fieldManager": "me"})
            assert (call.headers["Content-Type"], call.body) == (patch_type.value, {"spec": {}})

        scripted(scenario)

    def test_delete_sends_its_options_as_a_body(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            call = server.expect("DELETE", "/api/v1/namespaces/default/pods/web-0").answer(POD)
            await client.delete(PODS, "web-0", "default", options={"gracePeriodSeconds": 0})
            assert call.body == {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
            call = server.expect("DELETE", "/api/v1/namespaces/default/pods/web-0").answer(POD)
            await client.delete(PODS, "web-0", "default")
            assert call.body is None
            server.expect("DELETE", "/api/v1/namespaces/default/pods", {"labelSelector": "app=web"}).answer({})
            await client.delete_collection(PODS, "default", label_selector="app=web")

        scripted(scenario)

    def test_names_are_quoted_and_an_empty_name_never_reaches_the_collection(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/api/v1/namespaces/default/pods/a/../b?c d").answer({})  # as decoded by the server: one segment
            await client.get(PODS, "a/../b?c d", "default")
            with pytest.raises(ValueError, match="name"):
                await client.delete(PODS, "", "default")

        scripted(scenario)

    def test_request_answers_raw_bytes(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/version", {"pretty": "1"}).answer({"major": "1"})
            assert await client.request("GET", "/version", params={"pretty": "1"}) == b'{"major":"1"}'

        scripted(scenario)


class TestFailures:
    @pytest.mark.parametrize("error", [errors.not_found(PODS, "x"), errors.modified_conflict(PODS, "x"), errors.Invalid("bad")])
    def test_a_status_becomes_the_class_it_stands_for(self, error: errors.ApiError) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/api/v1/namespaces/default/pods/x").fail(error)
            with pytest.raises(type(error)) as caught:
                await client.get(PODS, "x", "default")
            assert caught.value.status() == error.status()

        scripted(scenario)

    def test_too_many_requests_are_repeated_as_late_as_the_server_asks(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            for _ in range(2):
                server.expect("POST", "/api/v1/namespaces/default/pods").fail(errors.TooManyRequests("later", retry_after_seconds=3))
            server.expect("POST", "/api/v1/namespaces/default/pods").answer(POD, 201)
            await client.create(PODS, POD)
            assert client.clock.monotonic() == pytest.approx(6)

        scripted(scenario)

    def test_too_many_requests_without_a_time_or_too_often_are_the_callers_problem(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/x").fail(errors.TooManyRequests("disruption budget"))
            with pytest.raises(errors.TooManyRequests):
                await client.request("GET", "/x")
            for _ in range(RETRIES_AFTER_429_MAX + 1):
                server.expect("GET", "/x").fail(errors.TooManyRequests("later", retry_after_seconds=1))
            with pytest.raises(errors.TooManyRequests):
                await client.request("GET", "/x")
            assert client.clock.monotonic() == pytest.approx(RETRIES_AFTER_429_MAX)

        scripted(scenario)

    def test_a_broken_connection_is_not_repeated(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("POST", "/api/v1/namespaces/default/pods").drop()
            with pytest.raises(TRANSPORT_ERRORS):
                await client.create(PODS, POD)

        scripted(scenario)

    def test_a_refused_connection_passes_through(self) -> None:
        async def main() -> None:
            async with ApiClient(ClientConfig("http://127.0.0.1:1"), clock=VirtualClock()) as client:
                with pytest.raises(OSError):
                    await client.get(PODS, "x", "default")

        run_virtual(main())

    def test_a_silent_server_is_given_up_after_a_minute(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/x").stream()
            with pytest.raises(TimeoutError):
                await client.request("GET", "/x")
            assert client.clock.monotonic() == pytest.approx(REQUEST_TIMEOUT_SECONDS, abs=1)

        scripted(scenario)

    def test_a_server_that_does_not_begin_to_answer_a_stream_is_given_up_too(self) -> None:
        async def main() -> None:
            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()

            listener = await asyncio.start_server(accept, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            async with ApiClient(ClientConfig(url), clock=VirtualClock()) as client:
                with pytest.raises(TimeoutError):
                    await client.open_watch(PODS, timeout_seconds=3000)
                assert client.clock.monotonic() == pytest.approx(REQUEST_TIMEOUT_SECONDS, abs=1)
            listener.close()
            await listener.wait_closed()

        run_virtual(main())

    def test_a_cancelled_request_does_not_poison_the_next_one(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            stuck = server.expect("GET", "/stuck").stream()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await client.request("GET", "/stuck")
            stuck.send_bytes(b"late")
            server.expect("GET", "/next").answer({"fresh": True})
            assert await client.request("GET", "/next") == b'{"fresh":true}'

        scripted(scenario)

    def test_an_unopened_client_says_so(self) -> None:
        async def main() -> None:
            client = ApiClient(ClientConfig("http://127.0.0.1:1"), clock=VirtualClock())
            with pytest.raises(RuntimeError, match="async with"):
                await client.get(PODS, "x", "default")
            with pytest.raises(RuntimeError, match="async with"):
                await client.open_watch(PODS)

        run_virtual(main())


class TestStreams:
    def test_watch_yields_events_and_raises_the_error_event(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            query = {"watch": "true", "resourceVersion": "5", "timeoutSeconds": "300", "fieldSelector": "metadata.name=web-0"}
            stream = server.expect("GET", "/api/v1/namespaces/default/pods", query).stream()
            stream.send({"type": "ADDED", "object": POD})
            stream.send({"type": "ERROR", "object": errors.Expired("too old").status()})
            events = client.watch(PODS, "default", resource_version="5", field_selector="metadata.name=web-0")
            assert await anext(events) == ("ADDED", POD)
            with pytest.raises(errors.Expired):
                await anext(events)

        scripted(scenario)

    def test_a_refused_watch_raises_before_the_first_event(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            server.expect("GET", "/api/v1/pods", {"watch": "true"}).fail(errors.Expired("too old"))
            with pytest.raises(errors.Expired):
                await client.open_watch(PODS, resource_version="1")

        scripted(scenario)

    def test_a_stream_gives_pieces_as_they_arrive(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            log = server.expect("GET", "/api/v1/namespaces/default/pods/web-0/log", {"follow": "true"}).stream()
            async with client.stream("/api/v1/namespaces/default/pods/web-0/log", params={"follow": "true"}) as stream:
                for line in (b"one\n", b"two\n"):
                    log.send_bytes(line)
                    assert await stream.read() == line
                log.end()
                assert await stream.read() == b""

        scripted(scenario)

    def test_open_watches_do_not_use_up_the_connections_of_requests(self) -> None:
        async def scenario(server: ScriptedServer, client: ApiClient) -> None:
            watches = []
            for _ in range(100):
                server.expect("GET", "/api/v1/pods", {"watch": "true"}).stream()
                watches.append(await client.open_watch(PODS))
            server.expect("GET", "/version").answer({})
            await client.request("GET", "/version")
            for watch in watches:
                await watch.aclose()

        scripted(scenario)

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_lines_are_cut_wherever_chunks_end(self, size: int) -> None:
        text = b"first\n\nsecond line\n" + b"x" * 50 + b"\nunfinished"
        splitter, lines = LineSplitter(), []
        for start in range(0, len(text), size):
            lines += splitter.feed(text[start : start + size])
        assert lines == text.split(b"\n")[:-1]

    def test_a_line_without_end_is_refused_before_it_fills_memory(self) -> None:
        splitter = LineSplitter(line_bytes_max=10)
        splitter.feed(b"0123456789")
        with pytest.raises(ValueError, match="longer than 10 bytes"):
            splitter.feed(b"x")


class TestAuthentication:
    def test_a_token_is_sent(self) -> None:
        async def main() -> None:
            async with ScriptedServer() as server:
                call = server.expect("GET", "/x").answer({})
                async with ApiClient(ClientConfig(server.url, token="secret"), clock=VirtualClock()) as client:
                    await client.request("GET", "/x", headers={"X-More": "1"})
                assert (call.headers["Authorization"], call.headers["X-More"]) == ("Bearer secret", "1")

        run_virtual(main())

    def test_a_token_file_is_read_again_every_minute(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("first\n")

        async def main() -> None:
            clock = VirtualClock()
            async with ScriptedServer() as server, ApiClient(ClientConfig(server.url, token_file=file), clock=clock) as client:

                async def sent() -> Any:
                    call = server.expect("GET", "/x").answer({})
                    await client.request("GET", "/x")
                    return call.headers["Authorization"]

                assert await sent() == "Bearer first"
                file.write_text("second\n")
                assert await sent() == "Bearer first"
                await clock.sleep(60)
                assert await sent() == "Bearer second"

        run_virtual(main())


def test_requests_are_counted_by_method_code_and_host() -> None:
    async def main() -> None:
        registry = CollectorRegistry()
        async with ScriptedServer() as server:
            metrics = PrometheusClientMetrics(registry)
            async with ApiClient(ClientConfig(server.url), clock=VirtualClock(), metrics=metrics) as client:
                server.expect("GET", "/x").answer({})
                await client.request("GET", "/x")
                for _ in range(2):  # a read on a kept connection is tried once more
                    server.expect("GET", "/x").drop()
                with pytest.raises(TRANSPORT_ERRORS):
                    await client.request("GET", "/x")
            host = server.url.removeprefix("http://")
            for code in ("200", "<error>"):
                labels = {"method": "GET", "code": code, "host": host}
                assert registry.get_sample_value("rest_client_requests_total", labels) == 1
            count = registry.get_sample_value("rest_client_request_duration_seconds_count", {"verb": "GET", "host": host})
            assert count == 2

    run_virtual(main())


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "error", "message"),
    [
        ("GET", "/x", "<html>bad gateway</html>", 503, errors.ServiceUnavailable, "the server is currently unable to handle the request"),
        ("GET", "/api/v1/namespaces/default/pods/web-0", "404 page not found\n", 404, errors.NotFound,
         "the server could not find the requested resource (get pods web-0)"),
        ("POST", "/apis/apps/v1/namespaces/default/deployments?dryRun=All", {"kind": "Odd"}, 409, errors.AlreadyExists,
         "the server reported a conflict (post deployments.apps)"),
        ("GET", "/api/v1/nodes/n/proxy/stats", "boom", 500, errors.InternalError,
         'an error on the server ("boom") has prevented the request from succeeding (get nodes n)'),
        ("GET", "/version", "no entry\n", 403, errors.Forbidden, "no entry"),
        ("GET", "/version", "", 418, errors.ApiError, "the server responded with the status code 418 but did not return more information"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_explain_itself_is_worded_as_client_go_words_it(
    method: str, path: str, body: Any, code: int, error: type[errors.ApiError], message: str
) -> None:
    async def scenario(server: ScriptedServer, client: ApiClient) -> None:
        where, _, query = path.partition("?")
        server.expect(method, where, dict([query.split("=")]) if query else None).answer(body, code)
        with pytest.raises(errors.ApiError) as caught:
            await client.request(method, path)
        assert (type(caught.value), caught.value.code, caught.value.message) == (error, code, message)
        found = caught.value.details or {}
        text = body.strip() if isinstance(body, str) else "unknown"
        assert found["causes"] == [{"reason": "UnexpectedServerResponse", "message": text}]

    scripted(scenario)


def test_large_bodies_go_both_ways() -> None:
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big", "namespace": "default"}, "data": {"x": "y" * 900_000}}

    async def scenario(server: ScriptedServer, client: ApiClient) -> None:
        call = server.expect("POST", "/api/v1/namespaces/default/configmaps").answer(big, 201)
        assert await client.create(CONFIGMAPS, big) == big
        assert call.body == orjson.loads(orjson.dumps(big))

    scripted(scenario)


def test_a_limited_client_sends_a_burst_and_then_at_its_rate() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with ScriptedServer() as server, ApiClient(
            ClientConfig(server.url), clock=clock, limiter=RateLimiter(10, 5, clock)
        ) as client:  # fmt: skip
            for _ in range(25):
                server.expect("GET", "/x").answer({})
            await asyncio.gather(*(client.request("GET", "/x") for _ in range(25)))
            assert clock.monotonic() == pytest.approx(2.0, abs=0.1)

    run_virtual(main())
