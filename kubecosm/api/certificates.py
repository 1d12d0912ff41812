"""Certificate signing requests: what they ask for, and whether it is what a kubelet or a client of the API may have.

Imitates pkg/apis/certificates/helpers.go. Needs the cryptography package, which is imported when the first request is parsed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubecosm.api import names
from kubecosm.api.resources import Object

if TYPE_CHECKING:
    from cryptography import x509

NODES_ORGANIZATION, NODE_NAME_PREFIX = "system:nodes", "system:node:"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
SIGNATURE, ENCIPHERMENT, CLIENT, SERVER = "digital signature", "key encipherment", "client auth", "server auth"
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----\r?\n.*?-----END \1-----", re.DOTALL)


class RequestError(ValueError):
    """The request cannot be read; the message says why."""


@dataclass(frozen=True)
class CertificateRequest:
    """A PKCS#10 request, read."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    parsed: x509.CertificateSigningRequest | None = field(default=None, compare=False, repr=False)
    """The request itself, for whoever signs it."""


def has_condition(request: Object, kind: str) -> bool:
    """Whether a CertificateSigningRequest was Approved, Denied or has Failed."""
    conditions = (request.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == kind for condition in conditions)


def decode_request(text: str) -> CertificateRequest:
    """Of spec.request, which is PEM in base64. Raises RequestError."""
    try:
        return parse_request(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise RequestError(str(error)) from error


def parse_request(pem: bytes) -> CertificateRequest:
    """Raises RequestError with the words of Kubernetes."""
    found = _PEM.search(pem)
    if found is None or found[1] != b"CERTIFICATE REQUEST":
        raise RequestError("PEM block type must be CERTIFICATE REQUEST")
    from cryptography import x509  # here: 40 ms that only who meets a request pays
    from cryptography.x509.oid import NameOID

    try:
        parsed = x509.load_pem_x509_csr(found[0])
        alternatives = _alternatives(parsed)
    except ValueError as error:
        raise RequestError(str(error)) from error
    subject = parsed.subject
    common = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    if alternatives is None:
        return CertificateRequest(common[-1] if common else "", organizations, parsed=parsed)
    return CertificateRequest(
        common[-1] if common else "",
        organizations,
        tuple(alternatives.get_values_for_type(x509.DNSName)),
        tuple(alternatives.get_values_for_type(x509.RFC822Name)),
        tuple(alternatives.get_values_for_type(x509.UniformResourceIdentifier)),
        tuple(str(address) for address in alternatives.get_values_for_type(x509.IPAddress)),
        parsed,
    )


def _alternatives(parsed: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def complaint_of_signer(signer: str, request: CertificateRequest, usages: Collection[str]) -> str:
    """Why one of Kubernetes' own signers does not issue such a certificate; empty if it does."""
    if signer == names.SIGNER_API_CLIENT:
        return _client_usages(usages)
    if signer == names.SIGNER_KUBELET_CLIENT:
        return kubelet_client_complaint(request, usages)
    if signer == names.SIGNER_KUBELET_SERVING:
        return kubelet_serving_complaint(request, usages)
    return ""


def _client_usages(usages: Collection[str]) -> str:
    for usage in usages:
        if usage not in (SIGNATURE, ENCIPHERMENT, CLIENT):
            return f"invalid usage for client certificate: {usage}"
    return "" if CLIENT in usages else f"missing required usage for client certificate: {CLIENT}"


def kubelet_client_complaint(request: CertificateRequest, usages: Collection[str]) -> str:
    """Why this is no request for a kubelet's client certificate (ValidateKubeletClientCSR)."""
    if request.organizations != (NODES_ORGANIZATION,):
        return "subject organization is not system:nodes"
    for kind, given in (("DNS", request.dns_names), ("Email", request.emails), ("IP", request.addresses), ("URI", request.uris)):
        if given:
            return f"{kind} subjectAltNames are not allowed"
    if not request.common_name.startswith(NODE_NAME_PREFIX):
        return "subject common name does not begin with system:node:"
    return _exact_usages(usages, CLIENT)


def kubelet_serving_complaint(request: CertificateRequest, usages: Collection[str]) -> str:
    """Why this is no request for a kubelet's serving certificate (ValidateKubeletServingCSR)."""
    if request.organizations != (NODES_ORGANIZATION,):
        return "subject organization is not system:nodes"
    if not request.dns_names and not request.addresses:
        return "DNS or IP subjectAltName is required"
    for kind, given in (("Email", request.emails), ("URI", request.uris)):
        if given:
            return f"{kind} subjectAltNames are not allowed"
    if not request.common_name.startswith(NODE_NAME_PREFIX):
        return "subject common name does not begin with system:node:"
    return _exact_usages(usages, SERVER)


def _exact_usages(usages: Collection[str], purpose: str) -> str:
    """Keys that cannot encipher (all but RSA) leave that usage out."""
    wanted = {SIGNATURE, purpose}
    if set(usages) in (wanted, {*wanted, ENCIPHERMENT}):
        return ""
    return f"usages did not match [{ENCIPHERMENT} {SIGNATURE} {purpose}]"
