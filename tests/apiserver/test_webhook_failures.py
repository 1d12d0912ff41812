"""Admission webhooks that are down, slow, garbled or not to be trusted: they fail closed or open, and the server goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from .harness import CONFIGMAPS, Api, configmap, with_api
from .webhook_server import (
    VALIDATING,
    Review,
    WebhookServer,
    allow,
    mutate,
    rule,
    validate,
)


def test_a_webhook_that_is_down_fails_closed_or_open_as_it_says(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        server = WebhookServer(allow)
        async with server:
            port = server.port
            await validate(api, server, rule("configmaps"))
        answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
        why = (
            f'failed calling webhook "hook.example.com": failed to call webhook: Post "https://127.0.0.1:{port}/hook?timeout=10s": '
            f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
        assert answer["message"] == f"Internal error occurred: {why}"
        assert (answer["code"], answer["reason"], answer["details"]) == (500, "InternalError", {"causes": [{"message": why}]})
        await api.call("PATCH", f"{VALIDATING}/v", [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}],
                       Content_Type="application/json-patch+json")  # fmt: skip
        await api.create(CONFIGMAPS, configmap("a"))
        metrics = (await api.raw("GET", "/metrics")).text
        assert 'apiserver_admission_webhook_fail_open_count{name="hook.example.com",type="validating"} 1.0' in metrics
        assert 'error_type="calling_webhook_error",name="hook.example.com",operation="CREATE",rejection_code="503"' in metrics

    with_api(tmp_path, body)


def test_a_webhook_that_is_too_slow_is_not_waited_for(tmp_path: Path) -> None:
    async def slow(_: Review) -> Review:
        await asyncio.Event().wait()
        return {"allowed": True}

    async def body(api: Api) -> None:
        async with WebhookServer(slow) as server:
            await validate(api, server, rule("configmaps"), timeoutSeconds=1)
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            url = f"https://127.0.0.1:{server.port}/hook?timeout=1s"
            assert answer["message"].endswith(f'failed to call webhook: Post "{url}": context deadline exceeded')

    with_api(tmp_path, body)


def test_a_webhook_that_hangs_up_or_answers_with_an_error_fails(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        calls = 0

        def hang_up(_: Review) -> Review:
            nonlocal calls
            calls += 1
            for transport in server.connections:
                transport.abort()
            return {"allowed": True}

        async with WebhookServer(hang_up) as server:
            await validate(api, server, rule("configmaps"))
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"].endswith("EOF")
            assert calls == 1, "nothing is asked twice on a connection of its own"
            server.respond = broken
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            why = 'an error on the server ("out of order") has prevented the request from succeeding'
            assert answer["message"].endswith(f"failed to call webhook: {why}")

    def broken(_: Review) -> Review:
        raise web.HTTPInternalServerError(text="out of order")

    with_api(tmp_path, body)


def test_a_kept_connection_that_the_webhook_closed_is_replaced(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("configmaps"))
            await api.create(CONFIGMAPS, configmap("a"))
            [kept] = server.connections
            kept.close()
            await api.create(CONFIGMAPS, configmap("b"))
            assert len(server.asked) == 2

    with_api(tmp_path, body)


def reply(**response: Any) -> bytes:
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})


def beta(request: Review) -> bytes:
    answer = orjson.loads(reply(uid=request["uid"], allowed=True))
    return orjson.dumps({**answer, "apiVersion": "admission.k8s.io/v1beta1"})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: b"garbage", "failed to call webhook: couldn't get version/kind; json parse error: "
         "invalid character 'g' looking for beginning of value"),
        (lambda _: reply(uid="other", allowed=True), 'received invalid webhook response: expected response.uid="'),
        (lambda _: b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}',
         "received invalid webhook response: webhook response was absent"),
        (beta, "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, "
         "got admission.k8s.io/v1beta1, Kind=AdmissionReview"),
        (lambda r: {"allowed": True, "patch": "e30="},
         "received invalid webhook response: webhook returned response.patch but not response.patchType"),
        (lambda r: {"allowed": True, "patchType": "JSONPatch"},
         "received invalid webhook response: webhook returned response.patchType but not response.patch"),
        (lambda r: {"allowed": True, "patch": "e30=", "patchType": "Merge"}, 'unsupported patch type "Merge"'),
    ],
)  # fmt: skip
def test_garbled_answers_are_failures(tmp_path: Path, answer: Any, why: str) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(answer) as server:
            await mutate(api, server, rule("configmaps"))
            status = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert status["message"].startswith(f'Internal error occurred: failed calling webhook "hook.example.com": {why}')

    with_api(tmp_path, body)


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        async with WebhookServer(allow) as server:
            await validate(api, server, rule("configmaps"), clientConfig={"url": server.client_config["url"]})
            answer = await api.refused("POST", CONFIGMAPS, configmap("a"))
            assert answer["message"].endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")

    with_api(tmp_path, body)
