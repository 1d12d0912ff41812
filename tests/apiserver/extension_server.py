"""An extension API server for tests: TLS, demands the front proxy's certificate, serves `flunders` of wardle.example.com/v1alpha1."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

GROUP, VERSION = "wardle.example.com", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
SERVER_NAME = "extension.default.svc"
VERBS = ["create", "delete", "get", "list", "watch"]

KIND = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
FLUNDER: Any = {
    "type": "object", "description": "Flunder is a thing.",
    "properties": {"colour": {"type": "string", "description": "Colour of the flunder."}},
    "x-kubernetes-group-version-kind": [KIND],
}  # fmt: skip
LISTING = {"operationId": "listFlunders", "x-kubernetes-group-version-kind": KIND}


@dataclass
class Certificates:
    """Files (PEM) of an authority with a server's and a front proxy's certificate."""

    authority: Path
    server: tuple[Path, Path]
    front_proxy: tuple[Path, Path]
    renewed: tuple[Path, Path]
    """Another one of the front proxy's."""

    @property
    def bundle(self) -> str:
        return b64encode(self.authority.read_bytes()).decode()


def make_certificates(folder: Path) -> Certificates:
    folder.mkdir(parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test-ca")])
    ca = _signed(ca_name, ca_name, ca_key.public_key(), ca_key, authority=True)
    authority = folder / "ca.crt"
    authority.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    pairs = []
    for name in (SERVER_NAME, "front-proxy-client", "front-proxy-renewed"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = _signed(subject, ca_name, key.public_key(), ca_key, dns=name)
        cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        pairs.append((cert_file, key_file))
    return Certificates(authority, *pairs)


def _signed(
    subject: x509.Name, issuer: x509.Name, public: Any, key: ec.EllipticCurvePrivateKey, *, authority: bool = False, dns: str = ""
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    return builder.sign(key, hashes.SHA256())


@dataclass
class ExtensionServer:
    """Keeps flunders in memory and remembers what it was asked, by whom."""

    port: int = 0
    knows_aggregated: bool = True
    is_healthy: bool = True
    publishes_v3: bool = True
    flunders: dict[str, Any] = field(default_factory=dict)
    requests: list[web.BaseRequest] = field(default_factory=list)
    certificates_seen: set[str] = field(default_factory=set)
    watchers: list[asyncio.Queue[Any]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        peer = request.get_extra_info("peercert")
        assert peer, "no client certificate"
        self.certificates_seen.add(dict(pair for part in peer["subject"] for pair in part)["commonName"])
        self.requests.append(request)
        path = request.path
        if not self.is_healthy:
            return web.json_response({"kind": "Status"}, status=500)
        if path == "/apis" and self.knows_aggregated:
            return self._aggregated()
        if path == BASE:
            return web.json_response(self._resource_list())
        if path.startswith("/openapi/v3") and not self.publishes_v3:
            return web.Response(status=404)
        if path == "/openapi/v3":
            return web.json_response({"paths": {BASE[1:]: {"serverRelativeURL": f"/openapi/v3{BASE}?hash=ABC"}}})
        if path == f"/openapi/v3{BASE}":
            schemas: Any = {"components": {"schemas": {"example.Flunder": FLUNDER}}}
            return web.json_response({"openapi": "3.0.0", "paths": {f"{BASE}/flunders": {"get": LISTING}}, **schemas})
        if path == "/openapi/v2":
            return web.json_response(self._openapi())
        if path == f"{BASE}/upload":
            size = 0
            async for piece in request.content.iter_any():
                size += len(piece)
            return web.json_response({"size": size})
        if path.startswith(f"{BASE}/namespaces/"):
            return await self._resource(request)
        return web.json_response({"kind": "Status", "code": 404}, status=404)

    async def _resource(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._echo(request)
        if request.query.get("watch"):
            return await self._watch(request)
        name = request.path.partition("/flunders/")[2]
        if request.method == "POST":
            flunder = await request.json()
            self.flunders[flunder["metadata"]["name"]] = flunder
            for queue in self.watchers:
                queue.put_nowait({"type": "ADDED", "object": flunder})
            return web.json_response(flunder, status=201, headers={"Warning": '299 - "mind the flunder"'})
        if name:
            found = self.flunders.get(name)
            return web.json_response(found or {"kind": "Status", "reason": "NotFound"}, status=200 if found else 404)
        return web.json_response({"kind": "FlunderList", "items": list(self.flunders.values())})

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[Any] = asyncio.Queue(100)
        self.watchers.append(queue)
        while (event := await queue.get()) is not None:
            await response.write(web.json_response(event).body + b"\n")  # type: ignore[operator]
        return response

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)  # type: ignore[arg-type]
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
        return socket

    def _aggregated(self) -> web.Response:
        resource = {"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "scope": "Namespaced",
                    "singularResource": "flunder", "verbs": VERBS}  # fmt: skip
        item = {"metadata": {"name": GROUP}, "versions": [{"version": VERSION, "resources": [resource], "freshness": "Current"}]}
        document = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [item]}
        content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        return web.Response(body=orjson.dumps(document), headers={"Content-Type": content_type})

    @staticmethod
    def _resource_list() -> Any:
        flunders = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": VERBS,
                    "shortNames": ["fl"]}  # fmt: skip
        status = {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]}
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [flunders, status]}

    @staticmethod
    def _openapi() -> Any:
        item = {"get": {**LISTING, "responses": {"200": {"schema": {"$ref": "#/definitions/example.Flunder"}}}}}
        return {
            "swagger": "2.0", "paths": {f"{BASE}/flunders": item, "/healthz": {"get": {}}},
            "definitions": {"example.Flunder": FLUNDER, "example.Unused": {"type": "object"}},
        }  # fmt: skip


@asynccontextmanager
async def extension_server(certificates: Certificates) -> AsyncIterator[ExtensionServer]:
    """A running one; its port is a free one of 127.0.0.1."""
    server = ExtensionServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        for queue in server.watchers:
            queue.put_nowait(None)
        await runner.cleanup()
