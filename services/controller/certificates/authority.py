"""The cluster's authority as a signer: from a request to a certificate. Imitates pkg/controller/certificates/authority.

Reads its files when the first certificate is wanted, and again whenever they have changed.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kubecosm.api.certificates import CertificateRequest
from kubecosm.client.controller import ReconcileError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

BACKDATED_BY = timedelta(minutes=5)
SHORT_LIVED = timedelta(hours=8)
"""Certificates that live shorter are not cut by what they are backdated."""
SECONDS_MIN = 600
KEY_USAGES = {
    "digital signature": "digital_signature", "signing": "digital_signature", "content commitment": "content_commitment",
    "key encipherment": "key_encipherment", "key agreement": "key_agreement", "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign", "crl sign": "crl_sign", "encipher only": "encipher_only", "decipher only": "decipher_only",
}  # fmt: skip
PURPOSES = {
    "any": "2.5.29.37.0", "server auth": "1.3.6.1.5.5.7.3.1", "client auth": "1.3.6.1.5.5.7.3.2", "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4", "s/mime": "1.3.6.1.5.5.7.3.4", "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6", "ipsec user": "1.3.6.1.5.5.7.3.7", "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9", "microsoft sgc": "1.3.6.1.4.1.311.10.3.3", "netscape sgc": "2.16.840.1.113730.4.1",
}  # fmt: skip


def plan_lifetime(wanted_seconds: int | None, most: timedelta) -> timedelta:
    """As wanted, but no less than ten minutes and no more than `most`."""
    if wanted_seconds is None:
        return most
    return min(timedelta(seconds=max(wanted_seconds, SECONDS_MIN)), most)


def plan_validity(lifetime: timedelta, now: datetime, authority_ends: datetime) -> tuple[datetime, datetime]:
    """(not before, not after)."""
    end = now + lifetime - (BACKDATED_BY if lifetime >= SHORT_LIVED else timedelta())
    return now - BACKDATED_BY, min(end, authority_ends)


class Authority:
    """A certificate and its key in two files (PEM)."""

    def __init__(self, certificate_file: str, key_file: str) -> None:
        self._files = Path(certificate_file), Path(key_file)
        self._loaded: tuple[x509.Certificate, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] | None = None
        self._as_of: tuple[float, float] = (0.0, 0.0)

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]:
        """Raises ReconcileError."""
        from cryptography import x509  # here: only who signs pays for it
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        certificate_file, key_file = self._files
        try:
            as_of = certificate_file.stat().st_mtime, key_file.stat().st_mtime
            if self._loaded is None or as_of != self._as_of:
                key = load_pem_private_key(key_file.read_bytes(), None)
                if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
                    raise ReconcileError(f"--cluster-signing-key-file: {key_file} is neither an EC nor an RSA key")
                self._loaded, self._as_of = (x509.load_pem_x509_certificate(certificate_file.read_bytes()), key), as_of
        except (OSError, ValueError, TypeError) as error:
            raise ReconcileError(f"--cluster-signing-cert-file, --cluster-signing-key-file: {error}") from error
        return self._loaded

    def sign(self, request: CertificateRequest, usages: Collection[str], lifetime: timedelta, now: datetime) -> bytes:
        """A certificate (PEM) for the request's key, subject and names. Raises ReconcileError."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        certificate, key = self._load()
        parsed = request.parsed
        assert parsed is not None, "only requests that were parsed are signed"
        begin, end = plan_validity(lifetime, now, certificate.not_valid_after_utc)
        if end <= now:
            raise ReconcileError("the signer has expired")
        builder = (
            x509.CertificateBuilder()
            .subject_name(parsed.subject)
            .issuer_name(certificate.subject)
            .public_key(parsed.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        if not KEY_USAGES.keys().isdisjoint(usages):  # an extension without any usage would forbid them all
            builder = builder.add_extension(_key_usage(usages), critical=True)
        purposes = [x509.ObjectIdentifier(PURPOSES[usage]) for usage in usages if usage in PURPOSES]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        try:
            names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=False)
        except x509.ExtensionNotFound:
            pass
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: Collection[str]) -> x509.KeyUsage:
    from cryptography import x509

    wanted = {KEY_USAGES[usage] for usage in usages if usage in KEY_USAGES}
    agreement = "key_agreement" in wanted
    only = {name: agreement and name in wanted for name in ("encipher_only", "decipher_only")}
    return x509.KeyUsage(**{name: name in wanted for name in set(KEY_USAGES.values())} | only)
