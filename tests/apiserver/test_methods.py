"""Which HTTP methods a path is served for: web services are routed by method, custom resources by verb, the other paths not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .custom_objects import CRDS, CUSTOM, custom, custom_definition
from .harness import CONFIGMAPS, PODS, Api, configmap, with_api

NOT_ALLOWED = "the server does not allow this method on the requested resource"
ONE = f"{CUSTOM}/one"


def test_built_in_resources_are_not_routed_for_head(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("one"))
        served = (f"{CONFIGMAPS}/one", f"{PODS}/p/status", f"{PODS}/p/log", f"{PODS}/p/exec", "/api/v1/componentstatuses")
        for path in (CONFIGMAPS, *served):
            reply, told = await api.raw("HEAD", path), await api.raw("PUT", f"{PODS}/p/log", {})
            assert (reply.status, reply.body) == (405, b""), path
            assert reply.headers["Content-Length"] == told.headers["Content-Length"], path
            assert NOT_ALLOWED in told.text
        assert (await api.raw("HEAD", "/api/v1/namespaces/default/nothings")).status == 404

    with_api(tmp_path, test)


def test_head_of_a_custom_resource_is_a_get_without_its_body(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CRDS, custom_definition())
        await api.create(CUSTOM, custom("one", {}))
        for path in (CUSTOM, ONE, "/apis/stable.example.com/v1", "/apis/stable.example.com"):
            reply = await api.raw("HEAD", path)
            assert (reply.status, reply.body) == (200, b""), path
            assert int(reply.headers["Content-Length"]) == len((await api.raw("GET", path)).body), path
        assert (await api.raw("HEAD", f"{CUSTOM}/absent")).status == 404

    with_api(tmp_path, test)


def test_custom_resources_say_which_verb_they_have_not(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        definition = custom_definition()
        definition["spec"]["versions"][0]["subresources"] = {"status": {}}
        await api.create(CRDS, definition)
        await api.create(CUSTOM, custom("one", {}))
        status = await api.refused("POST", f"{ONE}/status", {})
        assert (status["code"], status["message"]) == (405, 'create is not supported on resources of kind "e2etests.stable.example.com"')
        assert status["details"] == {"group": "stable.example.com", "kind": "e2etests"}
        status = await api.refused("GET", f"{ONE}/nothing")
        assert (status["code"], status["message"]) == (404, 'e2etests.stable.example.com "one" not found')

    with_api(tmp_path, test)


@pytest.mark.parametrize("path", ["/version", "/api", "/api/v1", "/apis/apps/v1", "/openid/v1/jwks", "/.well-known/openid-configuration"])
def test_web_services_are_routed_for_get_alone(tmp_path: Path, path: str) -> None:
    async def test(api: Api) -> None:
        assert (await api.raw("GET", path)).status == 200
        assert (await api.raw("HEAD", path)).status == 405
        assert (await api.refused("POST", path, {}))["message"] == NOT_ALLOWED

    with_api(tmp_path, test)


@pytest.mark.parametrize("path", ["/", "/index.html", "/apis", "/apis/apps", "/healthz", "/livez/ping", "/metrics", "/openapi/v3"])
def test_other_paths_are_served_for_every_method(tmp_path: Path, path: str) -> None:
    async def test(api: Api) -> None:
        for method in ("GET", "POST", "PUT"):
            reply = await api.raw(method, path)
            assert (reply.status, bool(reply.body)) == (200, True), method
        reply = await api.raw("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")
        assert int(reply.headers["Content-Length"]) > 0

    with_api(tmp_path, test)
