"""TLS of the server: certificates by the name that clients ask for, rotated files taken up without a restart, versions and ciphers.

Imitates k8s.io/apiserver/pkg/server/dynamiccertificates, which watches the files; here they are looked at once a minute.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError, startup
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.tls import ServerContext, server_context

from .config import Config
from .rotatedfiles import stamp_of

log = get_logger("apiserver")

LOOK_SECONDS = 60.0
SELF_SIGNED_DAYS = 365
VERSIONS = {
    "VersionTLS10": ssl.TLSVersion.TLSv1, "VersionTLS11": ssl.TLSVersion.TLSv1_1, "VersionTLS12": ssl.TLSVersion.TLSv1_2,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
}  # fmt: skip
TLS13_SUITES = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
"""Always on: neither Go nor OpenSSL's interface lets one choose among them."""
SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
"""IANA name → OpenSSL's."""


@dataclass(frozen=True)
class NamedCertificate:
    """A certificate for clients that ask for one of these names."""

    cert: str
    key: str
    names: tuple[str, ...]


class ServingTls:
    """The contexts of one server. `context` is for its listener; which certificate a client gets is decided at each handshake."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Raises StartupError."""
        self._config = config
        self._named = named_certificates(config.tls_sni_cert_key)
        if bool(config.tls_cert_file) != bool(config.tls_private_key_file):
            raise StartupError("--tls-cert-file and --tls-private-key-file belong together: give both or none")
        if config.tls_cert_file:
            self._load()
        else:
            with tempfile.TemporaryDirectory(prefix="kubecosm-tls-") as folder:
                cert, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
                _write_self_signed(cert, key, config.bind_address, clock)
                self._load(str(cert), str(key))
        self._seen = self._stamps()
        self.context = self._default
        if config.tls_cert_file:
            self.context = self._context(config.tls_cert_file, config.tls_private_key_file)
            self.context.sni_callback = self._choose

    def register(self, metrics: Metrics) -> None:
        metrics.registry.register(HandshakeMetrics(self.context))

    def _load(self, cert: str = "", key: str = "") -> None:
        """(Re)make all contexts, or none. Raises StartupError."""
        config = self._config
        default = self._context(cert or config.tls_cert_file, key or config.tls_private_key_file)
        by_name = {name: self._context(named.cert, named.key) for named in self._named for name in named.names or names_in(named.cert)}
        self._default: ssl.SSLContext = default
        self._by_name: Mapping[str, ssl.SSLContext] = by_name

    def _context(self, cert: str, key: str) -> ssl.SSLContext:
        config = self._config
        authorities = [path for path in (config.client_ca_file, config.requestheader_client_ca_file) if path]
        context = server_context(cert, key, client_ca=authorities[0] if authorities else None)
        for path in authorities[1:]:
            with startup(f"read {path}"):
                context.load_verify_locations(path)
        if config.tls_min_version not in VERSIONS:
            raise StartupError(f"--tls-min-version must be one of {', '.join(VERSIONS)}")
        context.minimum_version = VERSIONS[config.tls_min_version]
        if config.tls_cipher_suites:
            context.set_ciphers(openssl_ciphers(config.tls_cipher_suites))
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        """Called within each handshake: the newest certificate for the name, and the newest authorities of clients."""
        connection.context = self.context_for(name or "")

    def context_for(self, name: str) -> ssl.SSLContext:
        """By the name itself, by a wildcard for it, or else the default."""
        if not self._by_name:
            return self._default
        wild = f"*.{name.partition('.')[2]}"
        return self._by_name.get(name) or self._by_name.get(wild) or self._default

    def reload_if_changed(self) -> bool:
        """Take up files that have changed since they were read. False, and a line in the log, if they cannot be used: the old ones stay."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        try:
            self._load()
        except StartupError as error:
            log.error("rotated certificates cannot be used", error=str(error))
            return False
        self._seen = stamps
        log.info("rotated certificates are in use")
        return True

    def _stamps(self) -> dict[str, int]:
        config = self._config
        files = [config.tls_cert_file, config.tls_private_key_file, config.client_ca_file, config.requestheader_client_ca_file]
        files += [file for named in self._named for file in (named.cert, named.key)]
        return {file: stamp_of(file) for file in files if file}


class HandshakeMetrics(Collector):
    """Clients that could not agree with the server on TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context`: the listener's."""
        self._context = context

    def collect(self) -> Iterable[Metric]:
        text = "Number of requests dropped with 'TLS handshake error from' error"
        failed = self._context.failed_handshakes if isinstance(self._context, ServerContext) else 0
        yield CounterMetricFamily("apiserver_tls_handshake_errors", text, value=failed)


class Reloadable(Protocol):
    def reload_if_changed(self) -> None: ...


async def reload_forever(serving: ServingTls, clock: Clock, others: Iterable[Reloadable] = ()) -> None:
    """Look at the files of certificates, and at `others`, once a minute."""
    while True:
        await clock.sleep(LOOK_SECONDS)
        serving.reload_if_changed()
        for file in others:
            file.reload_if_changed()


def openssl_ciphers(names: Iterable[str]) -> str:
    """Raises StartupError for a suite that does not exist."""
    found = []
    for name in names:
        if name not in SUITES and name not in TLS13_SUITES:
            raise StartupError(f"--tls-cipher-suites: Cipher suite {name} not supported or doesn't exist")
        if name in SUITES:
            found.append(SUITES[name])
    return ":".join(found) or "DEFAULT"


def named_certificates(text: str) -> tuple[NamedCertificate, ...]:
    """The value of --tls-sni-cert-key. Raises StartupError."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        files, _, names = part.partition(":")
        cert, comma, key = files.partition(",")
        if not comma or not cert or not key:
            raise StartupError(f"--tls-sni-cert-key {part!r}: expected cert,key or cert,key:name,*.name")
        found.append(NamedCertificate(cert, key, tuple(name.strip() for name in names.split(",") if name.strip())))
    return tuple(found)


def names_in(cert: str) -> tuple[str, ...]:
    """The DNS names of a certificate's subject alternative names. Raises StartupError."""
    from cryptography import x509

    with startup(f"read {cert}"):
        data = Path(cert).read_bytes()
    try:
        found = x509.load_pem_x509_certificate(data).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise StartupError(f"--tls-sni-cert-key: {cert} names nobody: say for which names it is, after a colon") from error
    return tuple(found.value.get_values_for_type(x509.DNSName))


def _write_self_signed(cert: Path, key: Path, address: str, clock: Clock) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    names = [x509.DNSName("localhost"), x509.DNSName("kubernetes"), x509.IPAddress(ip_address(address))]
    now = clock.now()
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=SELF_SIGNED_DAYS)).add_extension(x509.SubjectAlternativeName(names), critical=False)
    )  # fmt: skip
    cert.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
