"""TLS of the server: the configured certificate, or a self-signed one made for this run."""

from __future__ import annotations

import socket
import ssl
import tempfile
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.tls import client_context, server_context

from .config import Config

SELF_SIGNED_DAYS = 365
DOCUMENTATION_ADDRESS = "192.0.2.1"
"""Nobody has it (RFC 5737); asking for the route to it tells which address is ours."""


def tls_context(config: Config, clock: Clock) -> ssl.SSLContext:
    """The server's context; client certificates are asked for if an authority is configured. Raises StartupError."""
    client_ca = config.client_ca_file or None
    if bool(config.tls_cert_file) != bool(config.tls_private_key_file):
        raise StartupError("--tls-cert-file and --tls-private-key-file belong together: give both or none")
    if config.tls_cert_file:
        return server_context(config.tls_cert_file, config.tls_private_key_file, client_ca=client_ca)
    with tempfile.TemporaryDirectory(prefix="kubecosm-tls-") as folder:
        cert, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        _write_self_signed(cert, key, config.bind_address, clock)
        return server_context(cert, key, client_ca=client_ca)


def advertised_address(config: Config) -> str:
    """The address that others reach this server at: the flag, the address it listens on, or else this machine's own."""
    address = config.advertise_address or config.bind_address
    return primary_address() if ip_address(address).is_unspecified else address


def primary_address() -> str:
    """The address this machine would call the outside from; loopback if it has no outside. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((DOCUMENTATION_ADDRESS, 1))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def kubelet_context(config: Config) -> ssl.SSLContext | None:
    """How kubelets are called: with our certificate, trusting their authority; None if that is not configured. Raises StartupError."""
    if not config.kubelet_certificate_authority:
        return None
    cert, key = config.kubelet_client_certificate or None, config.kubelet_client_key or None
    return client_context(config.kubelet_certificate_authority, cert, key)


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
