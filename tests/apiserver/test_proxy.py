"""Pods and Services through the API server: every method, bodies of any size, redirects and links, WebSockets, clear failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from kubecosm.services.apiserver.connect.rewriting import proxied_prefix, rewritten_address, rewritten_page

from .etcd_server import free_port
from .harness import ACCOUNT, ACCOUNTS, ADMIN_TOKEN, PODS, Api, api_server, pod

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


async def backend(request: web.BaseRequest) -> web.StreamResponse:
    """Says what it was asked; some paths do something of their own."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)  # type: ignore[arg-type]
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(f"{request.path_qs} {message.data}")
        return socket
    if request.path == "/away":
        return web.Response(status=302, headers={"Location": "/login?next=/away"})
    if request.path == "/page":
        page = '<html><a href="/x/">x</a> <a href="y">y</a> <img src="http://elsewhere/z.png"></html>'
        return web.Response(text=page, content_type="text/html", headers={"Access-Control-Allow-Origin": "*"})
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.json_response({
        "method": request.method, "path": request.path_qs, "size": size, "chunked": "Transfer-Encoding" in request.headers,
        "uri": request.headers.get("X-Forwarded-Uri"), "token": request.headers.get("Authorization"),
    })  # fmt: skip


@asynccontextmanager
async def proxied(tmp_path: Path) -> AsyncIterator[tuple[Api, int]]:
    """A server with the pod `web` and the Service `web` (port 80, named http) in front of a backend."""
    runner = web.ServerRunner(web.Server(backend), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with api_server(tmp_path) as api:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("web"))
        await api.merge(f"{PODS}/web/status", {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}})
        spec = {"ports": [{"name": "http", "port": 80}]}
        await api.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
        await api.create(SLICES, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "http", "port": port}],
        })  # fmt: skip
        yield api, port
    await runner.cleanup()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reaches_pods_and_services(tmp_path: Path, method: str) -> None:
    """sig-network: Proxy version v1 A set of valid responses are returned for both Pod and Service Proxy, and ProxyWithPath."""

    async def main() -> None:
        async with proxied(tmp_path) as (api, port):
            for where in (f"{PODS}/web:{port}", f"{PODS}/http:web:{port}", f"{SERVICES}/web:http", f"{SERVICES}/http:web:80"):
                reply = await api.raw(method, f"{where}/proxy/a%20b/?q=1", b"hello" if method in ("PATCH", "POST", "PUT") else None)
                assert reply.status == 200
                if method != "HEAD":
                    assert f'"method": "{method}", "path": "/a%20b/?q=1"' in reply.text
                    assert f'"uri": "{where}/proxy/a%20b/", "token": null' in reply.text
            if method in ("GET", "HEAD"):
                async with api.session.request(
                    method, f"{api.base}{SERVICES}/web:http/proxy?a=b", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
                    allow_redirects=False,
                ) as moved:  # fmt: skip
                    assert (moved.status, moved.headers["Location"]) == (301, f"{SERVICES}/web:http/proxy/?a=b")

    asyncio.run(main())


def test_bodies_larger_than_any_object_are_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with proxied(tmp_path) as (api, port):
            reply = await api.raw("PUT", f"{PODS}/web:{port}/proxy/upload", b"x" * 5_000_000)
            assert '"size": 5000000, "chunked": false' in reply.text

    asyncio.run(main())


def test_redirects_and_links_lead_through_the_proxy(tmp_path: Path) -> None:
    async def main() -> None:
        async with proxied(tmp_path) as (api, _):
            base = f"{SERVICES}/web:http/proxy"
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            async with api.session.get(f"{api.base}{base}/away", headers=headers, allow_redirects=False) as moved:
                assert (moved.status, moved.headers["Location"]) == (302, f"{base}/login?next=/away")
            page = await api.raw("GET", f"{base}/page")
            assert page.text == (
                f'<html><a href="{base}/x/">x</a> <a href="y">y</a> <img src="http://elsewhere/z.png"></html>'
            )
            assert "Access-Control-Allow-Origin" not in page.headers

    asyncio.run(main())


def test_websockets_pass_through_pods_and_services(tmp_path: Path) -> None:
    async def main() -> None:
        async with proxied(tmp_path) as (api, port):
            for where in (f"{PODS}/web:{port}", f"{SERVICES}/web:http"):
                headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
                async with api.session.ws_connect(f"{api.base}{where}/proxy/chat?room=1", headers=headers) as socket:
                    await socket.send_str("hi")
                    assert await socket.receive_str(timeout=5) == "/chat?room=1 hi"

    asyncio.run(main())


def test_what_cannot_be_reached_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with proxied(tmp_path) as (api, _):
            closed = free_port()
            for path, message in (
                (f"{PODS}/web:{closed}", f"error trying to reach service: dial tcp 127.0.0.1:{closed}: connect: connection refused"),
                (f"{SERVICES}/web:81", 'no service port 81 found for service "web"'),
                (f"{SERVICES}/web:nope", 'no endpoints available for service "web"'),
                (f"{SERVICES}/web", 'no endpoints available for service "web"'),
            ):
                status, answer = await api.call("GET", f"{path}/proxy/")
                assert (status, answer["reason"]) == (503, "ServiceUnavailable")
                assert answer["message"] == message
            status, answer = await api.call("GET", f"{SERVICES}/ftp:web:80/proxy/")
            assert (status, answer["message"]) == (400, 'invalid request "ftp:web:80"')

    asyncio.run(main())


HOSTS = ("10.0.0.1:80",)


@pytest.mark.parametrize(
    ("address", "rewritten"),
    [
        ("/login", "/p/login"), ("/a/", "/p/a/"), ("/", "/p/"), ("login", "login"), ("#top", "#top"), ("?q=1", "?q=1"), ("/p/x", "/p/x"),
        ("http://10.0.0.1:80/x?y#z", "/p/x?y#z"), ("http://elsewhere/x", "http://elsewhere/x"), ("mailto:a@b", "mailto:a@b"),
        ("http://[bad", "http://[bad"),
    ],
)  # fmt: skip
def test_only_absolute_paths_of_the_backend_are_rewritten(address: str, rewritten: str) -> None:
    assert rewritten_address(address, "/p", HOSTS) == rewritten


def test_only_attributes_that_hold_addresses_are_rewritten() -> None:
    page = b"""<IMG SRC='/a.png' alt="/b"><form action = "/go" name="/n"><p title="/t">href="/not"</p>"""
    assert rewritten_page(page, "/p", HOSTS) == (
        b"""<IMG SRC='/p/a.png' alt="/b"><form action = "/p/go" name="/n"><p title="/t">href="/not"</p>"""
    )
    assert proxied_prefix("/api/v1/x/proxy/a/b", "/a/b") == proxied_prefix("/api/v1/x/proxy", "") == "/api/v1/x/proxy"
