"""Extension API servers: their kinds are served beside ours, whatever happens to them; ours are told of in APIServices too."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.services.apiserver.aggregation.availability import judge_service
from kubecosm.services.apiserver.aggregation.catalog import Catalog, resources_of_list, version_rank
from kubecosm.services.apiserver.aggregation.localservices import builtin_services, custom_services, plan
from kubecosm.services.apiserver.aggregation.specs import merge_v2, only_paths
from tests.promises import promise

from .extension_server import BASE, GROUP, VERSION, Certificates, ExtensionServer, extension_server, make_certificates
from .harness import ADMIN_TOKEN, USER_TOKEN, Api, api_server, with_api

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
FLUNDERS = f"{BASE}/namespaces/default/flunders"
NAME = f"{VERSION}.{GROUP}"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def api_service(certificates: Certificates, **spec: Any) -> dict[str, Any]:
    service = {"namespace": "default", "name": "extension", "port": 443}
    wanted = {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, "service": service}
    wanted |= {"caBundle": certificates.bundle} | spec
    return {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": wanted}


async def publish(api: Api, port: int) -> None:
    """The Service and its endpoint."""
    spec = {"ports": [{"name": "https", "port": 443}]}
    await api.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extension"}, "spec": spec})
    await api.create(SLICES, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "extension-1", "labels": {"kubernetes.io/service-name": "extension"}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}], "ports": [{"name": "https", "port": port}],
    })  # fmt: skip


async def condition(api: Api, reason: str) -> Any:
    """The condition Available once it has that reason."""
    async with asyncio.timeout(10), api.watch(f"{APISERVICES}?watch=1&fieldSelector=metadata.name={NAME}") as watch:
        while True:
            for found in ((await watch.next(10))["object"].get("status") or {}).get("conditions") or ():
                if found["reason"] == reason:
                    return found


@asynccontextmanager
async def aggregated(tmp_path: Path) -> AsyncIterator[tuple[Api, ExtensionServer, Certificates]]:
    """A server with an extension server that is available."""
    certificates = make_certificates(tmp_path / "pki")
    cert, key = certificates.front_proxy
    flags = {"proxy_client_cert_file": str(cert), "proxy_client_key_file": str(key)}
    async with extension_server(certificates) as extension, api_server(tmp_path, **flags) as api:
        await publish(api, extension.port)
        await api.create(APISERVICES, api_service(certificates))
        assert (await condition(api, "Passed"))["message"] == "all checks passed"
        yield api, extension, certificates


Test = Callable[[Api, ExtensionServer], Awaitable[None]]


def with_extension(tmp_path: Path, test: Test) -> None:
    async def main() -> None:
        async with aggregated(tmp_path) as (api, extension, _):
            await test(api, extension)

    asyncio.run(main())


@promise("Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [Conformance]")
def test_an_extension_servers_kind_is_served_as_if_it_were_ours(tmp_path: Path) -> None:
    async def test(api: Api, extension: ExtensionServer) -> None:
        flunder = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": "f"}}
        reply = await api.raw("POST", FLUNDERS, flunder)
        assert (reply.status, orjson.loads(reply.body)) == (201, flunder)
        assert reply.headers["Warning"] == '299 - "mind the flunder"'
        assert (await api.get(FLUNDERS))["items"] == [flunder]
        assert (await api.raw("GET", f"{FLUNDERS}/none")).status == 404
        groups = [group["name"] for group in (await api.get("/apis"))["groups"]]
        assert groups[-1] == GROUP  # with the lowest priority
        assert (await api.get(f"/apis/{GROUP}"))["preferredVersion"]["version"] == VERSION
        assert (await api.get(BASE))["resources"][0]["name"] == "flunders"
        await api.merge(f"{APISERVICES}/{NAME}", {"spec": {"groupPriorityMinimum": 17790}})
        groups = [group["name"] for group in (await api.get("/apis"))["groups"]]
        assert groups.index("apps") + 1 == groups.index(GROUP) == groups.index("events.k8s.io") - 1
        await api.delete(f"{APISERVICES}/{NAME}")
        assert (await api.raw("GET", FLUNDERS)).status == 404
        assert (await api.raw("GET", f"/apis/{GROUP}")).status == 404

    with_extension(tmp_path, test)


def test_the_extension_learns_who_asks_from_the_front_proxy_alone(tmp_path: Path) -> None:
    async def test(api: Api, extension: ExtensionServer) -> None:
        await api.raw("GET", FLUNDERS, token=USER_TOKEN, X_Remote_User="root", X_Remote_Group="system:masters")
        headers = extension.requests[-1].headers
        assert headers.getall("X-Remote-User") == ["jane"]
        assert headers.getall("X-Remote-Group") == ["devs", "qa", "system:authenticated"]
        assert "Authorization" not in headers
        await api.raw("GET", FLUNDERS, Impersonate_User="bob", **{"Impersonate_Extra_Acme%2Fproject": "x"})
        headers = extension.requests[-1].headers
        assert headers["X-Remote-User"] == "bob"
        assert headers["X-Remote-Extra-acme%2Fproject"] == "x"
        assert not any(name.lower().startswith("impersonate-") for name in headers)
        assert extension.certificates_seen == {"front-proxy-client"}

    with_extension(tmp_path, test)


def test_a_rotated_certificate_is_shown_to_the_extension(tmp_path: Path) -> None:
    async def main() -> None:
        async with aggregated(tmp_path) as (api, extension, certificates):
            cert, key = certificates.front_proxy
            cert.write_bytes(certificates.renewed[0].read_bytes())
            key.write_bytes(certificates.renewed[1].read_bytes())
            for files in api.state.rotated_files:
                files.reload_if_changed()
            async with api.watch(f"{FLUNDERS}?watch=1"):  # keeps the connection that is there
                await api.get(FLUNDERS)
            assert extension.certificates_seen == {"front-proxy-client", "front-proxy-renewed"}

    asyncio.run(main())


def test_watches_of_an_extension_stream_and_upgrades_pass(tmp_path: Path) -> None:
    async def test(api: Api, extension: ExtensionServer) -> None:
        async with api.watch(f"{FLUNDERS}?watch=1") as watch:
            await api.create(FLUNDERS, {"kind": "Flunder", "metadata": {"name": "w"}})
            assert (await watch.next())["object"]["metadata"]["name"] == "w"
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            async with api.session.ws_connect(f"{api.base}{FLUNDERS}/w/connect", headers=headers) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "HELLO"
            assert extension.requests[-1].headers["X-Remote-User"] == "admin"

    with_extension(tmp_path, test)


def test_discovery_and_openapi_tell_of_the_extension_and_keep_what_was_known(tmp_path: Path) -> None:
    async def entry(api: Api) -> Any:
        document = orjson.loads((await api.raw("GET", "/apis", Accept=AGGREGATED)).body)
        return next(item["versions"][0] for item in document["items"] if item["metadata"]["name"] == GROUP)

    async def test(api: Api, extension: ExtensionServer) -> None:
        async with asyncio.timeout(5):
            while not (known := await entry(api)).get("resources"):
                await api.get("/version")
        assert (known["freshness"], known["resources"][0]["resource"]) == ("Current", "flunders")
        assert (await api.get("/openapi/v3"))["paths"][BASE[1:]]["serverRelativeURL"].endswith("hash=ABC")
        assert f"{BASE}/flunders" in (await api.get(f"/openapi/v3{BASE}"))["paths"]
        swagger = await api.get("/openapi/v2")
        assert {f"{BASE}/flunders", "/api/v1/pods"} <= set(swagger["paths"])
        assert {"example.Flunder", "example.Unused"} & set(swagger["definitions"]) == {"example.Flunder"}
        extension.is_healthy = False
        await api.merge(f"{SLICES}/extension-1", {"metadata": {"labels": {"touched": "yes"}}})
        found = await condition(api, "FailedDiscoveryCheck")
        assert found["message"] == f"bad status from https://extension.default.svc:443{BASE}: 500"
        metrics = (await api.raw("GET", "/metrics")).text
        assert f'aggregator_unavailable_apiservice{{name="{NAME}"}} 1.0' in metrics
        assert f'aggregator_unavailable_apiservice_total{{name="{NAME}",reason="FailedDiscoveryCheck"}} 1.0' in metrics
        assert 'aggregator_unavailable_apiservice{name="v1.apps"} 0.0' in metrics
        reply = await api.raw("GET", FLUNDERS)
        assert (reply.status, reply.text) == (503, "service unavailable\n")
        async with asyncio.timeout(5):
            while (known := await entry(api))["freshness"] != "Stale":
                await api.get("/version")
        assert known["resources"][0]["resource"] == "flunders"

    with_extension(tmp_path, test)


def test_how_large_a_body_may_be_is_the_extensions_business(tmp_path: Path) -> None:
    async def test(api: Api, extension: ExtensionServer) -> None:
        size = 5 * 1024 * 1024
        reply = await api.raw("POST", f"{BASE}/upload", b"x" * size, Content_Type="application/octet-stream")
        assert (reply.status, orjson.loads(reply.body)) == (200, {"size": size})

    with_extension(tmp_path, test)


def test_an_extension_that_publishes_only_v2_is_explained_in_v3(tmp_path: Path) -> None:
    async def test(api: Api, extension: ExtensionServer) -> None:
        extension.publishes_v3 = False
        url = (await api.get("/openapi/v3"))["paths"][BASE[1:]]["serverRelativeURL"]
        reply = await api.raw("GET", url)
        assert reply.headers["Cache-Control"] == "public, immutable"
        document = orjson.loads(reply.body)
        assert document["openapi"] == "3.0.0"
        answer = document["paths"][f"{BASE}/flunders"]["get"]["responses"]["200"]
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/example.Flunder"}
        assert list(document["components"]["schemas"]) == ["example.Flunder"]

    with_extension(tmp_path, test)


@pytest.mark.process
@pytest.mark.parametrize("publishes_v3", [True, False])
@pytest.mark.parametrize("version", ["1.27", "1.33"])
def test_kubectl_explains_an_extensions_kind(tmp_path: Path, version: str, publishes_v3: bool) -> None:
    binary = Path(f"/usr/lib/google-cloud-sdk/bin/kubectl.{version}")
    if not binary.exists():
        pytest.skip(f"no {binary} on this machine")

    async def test(api: Api, extension: ExtensionServer) -> None:
        extension.publishes_v3 = publishes_v3
        flags = (f"--server={api.base}", f"--token={ADMIN_TOKEN}", "--insecure-skip-tls-verify", f"--cache-dir={tmp_path}")
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        kubectl = await asyncio.create_subprocess_exec(binary, *flags, "explain", "flunders.colour", **pipes)
        said, complained = map(bytes.decode, await asyncio.wait_for(kubectl.communicate(), 30))
        assert "Colour of the flunder." in said, complained

    with_extension(tmp_path, test)


def test_a_certificate_that_the_bundle_does_not_vouch_for_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    async def main() -> None:
        certificates = make_certificates(tmp_path / "pki")
        other = make_certificates(tmp_path / "other")
        cert, key = map(str, certificates.front_proxy)
        async with extension_server(certificates) as extension, api_server(
            tmp_path, proxy_client_cert_file=cert, proxy_client_key_file=key
        ) as api:
            await publish(api, extension.port)
            await api.create(APISERVICES, api_service(certificates, caBundle=other.bundle))
            assert "certificate" in (await condition(api, "FailedDiscoveryCheck"))["message"].lower()
            await api.merge(f"{APISERVICES}/{NAME}", {"spec": {"caBundle": b64encode(b"no certificate").decode()}})
            async with asyncio.timeout(5):
                while "unable to load root certificates" not in (await condition(api, "FailedDiscoveryCheck"))["message"]:
                    pass
            await api.merge(f"{APISERVICES}/{NAME}", {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})
            await condition(api, "Passed")

    asyncio.run(main())


def test_availability_follows_the_service_and_its_endpoints(tmp_path: Path) -> None:
    async def main() -> None:
        certificates = make_certificates(tmp_path / "pki")
        cert, key = map(str, certificates.front_proxy)
        async with extension_server(certificates) as extension, api_server(
            tmp_path, proxy_client_cert_file=cert, proxy_client_key_file=key
        ) as api:
            await api.create(APISERVICES, api_service(certificates))
            found = await condition(api, "ServiceNotFound")
            assert (found["status"], found["message"]) == ("False", 'service/extension in "default" is not present')
            extension.knows_aggregated = False
            await publish(api, extension.port)
            await condition(api, "Passed")
            await api.delete(f"{SLICES}/extension-1")
            assert (await condition(api, "EndpointsNotFound"))["message"] == 'cannot find endpointslices for service/extension in "default"'

    asyncio.run(main())


SERVICE: Any = {"spec": {"ports": [{"name": "https", "port": 443}]}}
REFERENCE = {"namespace": "ns", "name": "s"}
SLICE: Any = {"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "https", "port": 8443}]}


@pytest.mark.parametrize(
    ("port", "service", "slices", "reason"),
    [
        (443, None, [], "ServiceNotFound"),
        (444, SERVICE, [SLICE], "ServicePortError"),
        (443, SERVICE, [], "EndpointsNotFound"),
        (443, SERVICE, [{**SLICE, "endpoints": []}], "MissingEndpoints"),
        (443, SERVICE, [{**SLICE, "ports": [{"name": "http", "port": 1}]}], "MissingEndpoints"),
        (443, SERVICE, [SLICE], None),
        (444, {"spec": {"type": "ExternalName"}}, [], None),
    ],
)
def test_the_reason_names_what_is_missing_first(port: int, service: Any, slices: list[Any], reason: str | None) -> None:
    verdict = judge_service(REFERENCE, port, service, slices)
    assert (verdict[1] if verdict else None) == reason


def test_what_is_served_here_has_local_apiservices(tmp_path: Path) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crontabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "crontabs", "kind": "CronTab"}, "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    }  # fmt: skip
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    async def test(api: Api) -> None:
        async with asyncio.timeout(10), api.watch(f"{APISERVICES}?watch=1") as watch:
            seen: dict[str, Any] = {}
            while "v1." not in seen or "v1.apps" not in seen or "v2.autoscaling" not in seen:
                event = await watch.next()
                seen[event["object"]["metadata"]["name"]] = event["object"]
            assert seen["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
            assert seen["v1."]["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
            assert seen["v1.apps"]["status"]["conditions"][0]["reason"] == "Local"
            assert seen["v2.autoscaling"]["spec"]["versionPriority"] == 30
            await api.create(definitions, crd)
            while "v1.example.com" not in seen:
                event = await watch.next()
                seen[event["object"]["metadata"]["name"]] = event["object"]
            spec = seen["v1.example.com"]["spec"]
            assert (spec["groupPriorityMinimum"], spec["versionPriority"]) == (1000, 100)
            await api.merge(f"{APISERVICES}/v1.example.com", {"spec": {"versionPriority": 5}})
            while (await watch.next())["object"]["spec"]["versionPriority"] != 100:  # comes back
                pass
            await api.delete(f"{definitions}/crontabs.example.com")
            while (event := await watch.next())["type"] != "DELETED":
                pass
            assert event["object"]["metadata"]["name"] == "v1.example.com"

    with_api(tmp_path, test)


def test_apiservices_of_others_are_left_alone_and_those_of_the_start_only_looked_at_then() -> None:
    builtin = next(builtin_services([("apps", "v1")]))
    custom = next(custom_services([("example.com", "v1")]))
    theirs = {**custom, "metadata": {"name": "v1.example.com"}, "spec": {}}
    changed = {**builtin, "spec": {}}
    wanted = {"v1.apps": builtin, "v1.example.com": custom}
    assert plan(wanted, {"v1.apps": changed, "v1.example.com": theirs}, starting=False) == ([], [], [])
    assert plan(wanted, {"v1.apps": changed}, starting=True) == ([custom], [(changed, builtin["spec"])], [])
    assert plan({}, {"v1.apps": builtin, "v1.example.com": custom}, starting=False) == ([], [], [custom])


def test_versions_and_groups_stand_in_the_order_of_their_priorities() -> None:
    names = ["v1", "v10", "v2beta1", "foo", "v1alpha1", "v2", "v2beta3"]
    assert sorted(names, key=version_rank) == ["v10", "v2", "v1", "v2beta3", "v2beta1", "v1alpha1", "foo"]
    catalog = Catalog(priorities={("z.example.com", "v1"): (18500, 5), ("z.example.com", "v2"): (10, 6)})
    assert catalog.group_versions([]) == {"z.example.com": ["v2", "v1"]}


def test_documents_of_two_servers_become_one() -> None:
    theirs = {
        "paths": {"/apis/x/v1/a": {"get": {"$ref": "#/definitions/A"}}, "/other": {}},
        "definitions": {"A": {"properties": {"b": {"$ref": "#/definitions/B"}}}, "B": {"type": "string"}, "C": {}},
    }
    part = only_paths(theirs, "/apis/x/v1")
    assert set(part["definitions"]) == {"A", "B"}
    merged = merge_v2({"paths": {"/api": {}}, "definitions": {"A": {"type": "object"}, "B": {"type": "string"}}}, part)
    assert set(merged["paths"]) == {"/api", "/apis/x/v1/a"}
    assert merged["definitions"]["A"] == {"type": "object"}
    assert merged["paths"]["/apis/x/v1/a"] == {"get": {"$ref": "#/definitions/A_v2"}}


def test_a_plain_list_of_resources_is_discovery_too() -> None:
    (found,) = resources_of_list(ExtensionServer._resource_list(), GROUP, VERSION)
    assert (found["resource"], found["scope"], found["shortNames"]) == ("flunders", "Namespaced", ["fl"])
    assert found["subresources"][0]["subresource"] == "status"
