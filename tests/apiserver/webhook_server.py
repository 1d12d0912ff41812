"""A webhook in the test's own process: a real TLS server whose answers the test words."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from kubecosm.runtime.clock import RealClock

from .harness import Api

Review = dict[str, Any]
Respond = Callable[[Review], "Review | bytes | Awaitable[Review | bytes]"]
"""From an AdmissionRequest to the response (completed with its uid), or to the whole body of the answer."""


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="webhook-")


@cache
def authority() -> tuple[str, Path, Path]:
    """(certificate as PEM, its file, key file) of a server that is its own authority; made once for all tests."""
    from datetime import timedelta
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")])
    names = [x509.DNSName("hook.default.svc"), x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    now = RealClock().now()
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = Path(_folder().name)
    cert_file, key_file = folder / "tls.crt", folder / "tls.key"
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    cert_file.write_bytes(pem)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem.decode(), cert_file, key_file


def ca_bundle() -> str:
    return base64.b64encode(authority()[0].encode()).decode()


class WebhookServer:
    """Async context manager. `asked` holds the requests in order; `connections` counts how many clients connected.

    `callers` are who asked: the Authorization header, and the common name of the client's certificate if `client_authority` is given.
    """

    def __init__(self, respond: Respond, client_authority: Path | None = None) -> None:
        self.respond = respond
        self.client_authority = client_authority
        self.callers: list[tuple[str, str]] = []
        self.asked: list[Review] = []
        self.paths: list[str] = []
        self.connections: set[Any] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority()[1], authority()[2])
        if self.client_authority is not None:
            context.load_verify_locations(self.client_authority)
            context.verify_mode = ssl.CERT_OPTIONAL
        self._server = web.Server(self._handle)
        self._listener = await asyncio.get_running_loop().create_server(self._server, "127.0.0.1", 0, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._listener.close()
        await self._server.shutdown(0.01)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self.connections.add(request.transport)
        review = orjson.loads(await request.read())
        self.asked.append(review["request"])
        self.paths.append(str(request.rel_url))
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
        self.callers.append((request.headers.get("Authorization", ""), "".join(names)))
        answer = self.respond(review["request"])
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        response = {"uid": review["request"]["uid"], **answer}  # type: ignore[dict-item]
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    @property
    def client_config(self) -> dict[str, Any]:
        return {"url": f"https://127.0.0.1:{self.port}/hook", "caBundle": ca_bundle()}


def allow(_: Review) -> Review:
    return {"allowed": True}


def deny(message: str = "no", **status: Any) -> Respond:
    return lambda _: {"allowed": False, "status": {"message": message, **status}}


def patch(*operations: dict[str, Any]) -> Respond:
    """Allow, and change the object."""
    encoded = base64.b64encode(orjson.dumps(operations)).decode()
    return lambda _: {"allowed": True, "patch": encoded, "patchType": "JSONPatch"}


def rule(resource: str, *operations: str, group: str = "", version: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": list(operations or ("*",)), **fields}


def webhook(server: WebhookServer, *rules: dict[str, Any], name: str = "hook.example.com", **fields: Any) -> dict[str, Any]:
    return {
        "name": name, "clientConfig": server.client_config, "rules": list(rules), "sideEffects": "None",
        "admissionReviewVersions": ["v1"], **fields,
    }  # fmt: skip


def configuration(kind: str, name: str, *webhooks: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """`kind` is Validating or Mutating."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration", "metadata": {"name": name, **meta},
        "webhooks": list(webhooks),
    }  # fmt: skip


VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


async def validate(api: Api, server: WebhookServer, *rules: dict[str, Any], **fields: Any) -> None:
    """Have a webhook asked whether it allows what the rules name."""
    await api.create(VALIDATING, configuration("Validating", fields.pop("config", "v"), webhook(server, *rules, **fields)))


async def mutate(api: Api, server: WebhookServer, *rules: dict[str, Any], **fields: Any) -> None:
    """Have a webhook change what the rules name."""
    await api.create(MUTATING, configuration("Mutating", fields.pop("config", "m"), webhook(server, *rules, **fields)))
