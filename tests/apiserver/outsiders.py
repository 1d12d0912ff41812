"""Services outside the server under test: something that answers JSON over HTTPS, and the certificates for it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives in a folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def file(self) -> Path:
        path = self.folder / f"{self.name}.crt"
        if not path.exists():
            path.write_bytes(self._certificate(self.name, (), self.key, None, days=100, is_ca=True))
        return path

    def issue(self, common_name: str, *organizations: str, names: tuple[str, ...] = (), days: float = 1) -> tuple[Path, Path]:
        """(certificate file, key file); a server's if it has names."""
        assert self.file
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = self.folder / f"{common_name}.crt", self.folder / f"{common_name}.key"
        cert_file.write_bytes(self._certificate(common_name, organizations, key, names, days=days, is_ca=False))
        key_file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return cert_file, key_file

    def _certificate(
        self, common_name: str, organizations: tuple[str, ...], key: ec.EllipticCurvePrivateKey, names: tuple[str, ...] | None,
        *, days: float, is_ca: bool,
    ) -> bytes:  # fmt: skip
        def name(text: str, groups: tuple[str, ...] = ()) -> x509.Name:
            parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
            return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(name(common_name, organizations)).issuer_name(name(self.name))
            .public_key(key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=days)).add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )  # fmt: skip
        if names:
            places = [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(places), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


@dataclass
class Service:
    """`asked` are the bodies (or paths, for GET) it was sent, `credentials` the Authorization headers that came with them."""

    url: str
    authority: Path
    asked: list[Any] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)

    def kubeconfig(self, folder: Path) -> str:
        """A file that describes it, as flags want it."""
        path = folder / "webhook.kubeconfig"
        path.write_bytes(orjson.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}],
            "users": [{"name": "u", "user": {"token": "secret"}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))  # fmt: skip
        return str(path)


@asynccontextmanager
async def service(folder: Path, answer: Callable[[Any], Any]) -> AsyncIterator[Service]:
    """An HTTPS server that answers `answer(body or path)`; an int is a status code, a str plain text."""
    authority = Authority(folder, "outside-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("outside", names=("127.0.0.1", "localhost")))
    found = Service("", authority.file)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        question = orjson.loads(await request.read()) if request.method == "POST" else request.path
        found.asked.append(question)
        found.credentials.append(request.headers.get("Authorization", ""))
        told = answer(question)
        if isinstance(told, str):
            return web.Response(text=told)
        return web.Response(status=told) if isinstance(told, int) else web.json_response(told)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.SockSite(runner, sock := _bound(), ssl_context=context)
    await site.start()
    found.url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock
