"""The cluster's certificates: two authorities, serving certificates, one client certificate an identity, the service-account key.

What is wanted is data (`leaves`); what lies on disk is kept when it still matches, so restarts change nothing and a changed port,
address block or node count renews only what names it. Keys are EC P-256. This is the only module that imports cryptography here, and
only the process that runs `ensure` pays for it. Left out: rotation and certificate requests (the controller signs those).
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from kubecosm.api import names
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.spec import ClusterSpec, write_atomically
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import startup

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VALID_FOR = datetime.timedelta(days=3650)
BACKDATED_BY = datetime.timedelta(hours=1)
NAMED_NODES_MAX = 256
"""A kubelet certificate names so many nodes; beyond, it lists addresses only (TLS stacks refuse certificates of 100 KB)."""

CA = "ca"
FRONT_PROXY_CA = "front-proxy-ca"
FRONT_PROXY = "front-proxy-client"
AUTHORITIES = {CA: "kubecosm-ca", FRONT_PROXY_CA: "kubecosm-front-proxy-ca"}
"""File → common name. Front proxies have an authority of their own, because whoever it certifies may speak for anybody."""
SERVICE_ACCOUNT = "sa"
APISERVER = "apiserver"
KUBELET = "kubelet"
KUBELET_CLIENT = "apiserver-kubelet-client"
ADMIN = "admin"


@dataclass(frozen=True)
class Leaf:
    """A certificate to be: `names` and `addresses` make it a server's, otherwise it is a client's."""

    file: str
    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    authority: str = CA


def leaves(spec: ClusterSpec, nodes: tuple[str, ...] = ()) -> tuple[Leaf, ...]:
    """Every certificate of the cluster besides its authorities; `nodes` are those whose kubelets have identities of their own."""
    node_names = tuple(f"node-{i}" for i in range(min(spec.nodes, NAMED_NODES_MAX)))
    node_addresses = tuple(str(spec.slots.node_ip(i)) for i in range(spec.nodes))
    return (
        Leaf(APISERVER, "kube-apiserver", names=apiserver_names(), addresses=("127.0.0.1", str(spec.slots.apiserver_service_ip))),
        Leaf(KUBELET, "kubelet", names=(names.KUBELET_SERVER_NAME, "localhost", *node_names), addresses=("127.0.0.1", *node_addresses)),
        Leaf(KUBELET_CLIENT, "kube-apiserver-kubelet-client", "system:masters"),
        Leaf(FRONT_PROXY, "front-proxy-client", authority=FRONT_PROXY_CA),
        *(Leaf(identity, common_name, organization) for identity, common_name, organization in identities(nodes)),
    )


IDENTITIES = (
    (ADMIN, "kubernetes-admin", "system:masters"),
    ("scheduler", "system:kube-scheduler", ""),
    ("controller", "system:kube-controller-manager", ""),
    ("kubelet-client", "kubecosm:node-host", "kubecosm:node-hosts"),
    ("proxy", "system:kube-proxy", ""),
)
"""File name, user and group of each client certificate that a kubeconfig carries."""


def identities(nodes: tuple[str, ...] = ()) -> tuple[tuple[str, str, str], ...]:
    """File name, user and group of every client certificate that a kubeconfig carries."""
    return (*IDENTITIES, *((f"kubelet-{name}", f"system:node:{name}", "system:nodes") for name in nodes))


def apiserver_names() -> tuple[str, ...]:
    """The DNS names of the API server: the Service's, this machine's, and those it has in container networks."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    return ("localhost", *service, "apiserver", "kube-apiserver", "kubecosm", "host.docker.internal")


def ensure(paths: ClusterPaths, spec: ClusterSpec, clock: Clock, nodes: tuple[str, ...] = ()) -> None:
    """Makes what is missing or no longer fits; `nodes` as in `leaves`. StartupError when the disk refuses."""
    with startup(f"create {paths.pki}"):
        paths.pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    issued_path = paths.pki / "issued.json"
    issued = json.loads(issued_path.read_bytes()) if issued_path.exists() and paths.cert(CA).exists() else {}
    wanted = {leaf.file: json.loads(json.dumps(asdict(leaf))) for leaf in leaves(spec, nodes)}
    missing = [leaf for leaf in leaves(spec, nodes) if issued.get(leaf.file) != wanted[leaf.file]]
    if not missing:
        return
    issuer = _Issuer(clock.now())
    if not issued:
        issuer.create_account_key(paths)
    authorities = {
        file: issuer.load(paths, file) if issued and paths.cert(file).exists() else issuer.create_authority(paths, file, name)
        for file, name in AUTHORITIES.items()
    }
    for leaf in missing:
        issuer.issue(paths, leaf, *authorities[leaf.authority])
    write_atomically(issued_path, json.dumps(wanted, indent=1).encode())


class _Issuer:
    """Makes keys and certificates that are valid from `now`."""

    def __init__(self, now: datetime.datetime) -> None:
        from cryptography import x509  # imported here: only a first start pays its 40 ms
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self._x509, self._ec, self._serialization, self._sha256 = x509, ec, serialization, hashes.SHA256()
        self._now = now

    def create_authority(self, paths: ClusterPaths, file: str, common_name: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
        """A new authority on disk."""
        x509 = self._x509
        key = self._new_key()
        name = self._name(common_name, "")
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = (
            self._builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        certificate = builder.sign(key, self._sha256)
        self._write_pair(paths, file, certificate, key)
        return certificate, key

    def create_account_key(self, paths: ClusterPaths) -> None:
        """A new key for ServiceAccount tokens on disk."""
        account_key = self._new_key()
        public = account_key.public_key().public_bytes(
            self._serialization.Encoding.PEM, self._serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(paths.key(SERVICE_ACCOUNT), self._private_pem(account_key))
        _write(paths.pki / f"{SERVICE_ACCOUNT}.pub", public, 0o644)

    def load(self, paths: ClusterPaths, file: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
        with startup(f"read the certificate authority in {paths.pki}"):
            certificate = self._x509.load_pem_x509_certificate(paths.cert(file).read_bytes())
            key = self._serialization.load_pem_private_key(paths.key(file).read_bytes(), None)
        if not isinstance(key, self._ec.EllipticCurvePrivateKey):
            raise TypeError(f"{paths.key(file)} is not an EC key")
        return certificate, key

    def issue(self, paths: ClusterPaths, leaf: Leaf, ca: x509.Certificate, ca_key: EllipticCurvePrivateKey) -> None:
        x509 = self._x509
        key = self._new_key()
        serves = bool(leaf.names or leaf.addresses)
        purpose = x509.ExtendedKeyUsageOID.SERVER_AUTH if serves else x509.ExtendedKeyUsageOID.CLIENT_AUTH
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        builder = (
            self._builder(self._name(leaf.common_name, leaf.organization), ca.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(authority_id, critical=False)
        )
        if serves:
            names = [x509.DNSName(name) for name in leaf.names]
            addresses = [x509.IPAddress(IPv4Address(address)) for address in leaf.addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        self._write_pair(paths, leaf.file, builder.sign(ca_key, self._sha256), key)

    def _builder(self, subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            self._x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(self._x509.random_serial_number())
            .not_valid_before(self._now - BACKDATED_BY)
            .not_valid_after(self._now + VALID_FOR)
        )

    def _name(self, common_name: str, organization: str) -> x509.Name:
        oid = self._x509.NameOID
        attributes = [self._x509.NameAttribute(oid.ORGANIZATION_NAME, organization)] if organization else []
        return self._x509.Name([*attributes, self._x509.NameAttribute(oid.COMMON_NAME, common_name)])

    def _new_key(self) -> EllipticCurvePrivateKey:
        return self._ec.generate_private_key(self._ec.SECP256R1())

    def _private_pem(self, key: EllipticCurvePrivateKey) -> bytes:
        kinds = self._serialization
        return key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption())

    def _write_pair(self, paths: ClusterPaths, name: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        _write(paths.key(name), self._private_pem(key))
        _write(paths.cert(name), certificate.public_bytes(self._serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Without fsync: `issued.json`, written last and synced, is what makes these files count."""
    with startup(f"write {path}"):
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
