"""The certificates do what TLS stacks check, and renew only what changed."""

from __future__ import annotations

import dataclasses
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubecosm.cluster import kubeconfig, pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime import tls
from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.errors import StartupError

SPEC = ClusterSpec("dev", 26443, Slots(3), nodes=2)


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    paths = ClusterPaths(tmp_path)
    pki.ensure(paths, SPEC, RealClock())
    return paths


def certificate(paths: ClusterPaths, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.cert(name).read_bytes())


def subject(cert: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in cert.subject.get_attributes_for_oid(oid)]


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """A TLS handshake in memory; ssl.SSLError when one side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _round in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert len(done) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "kubernetes.default.svc", "kubernetes", "apiserver", "127.32.192.1"])
def test_the_apiserver_is_trusted_under_all_its_names(paths: ClusterPaths, host: str) -> None:
    server = tls.server_context(paths.cert(pki.APISERVER), paths.key(pki.APISERVER), client_ca=paths.cert(pki.CA))
    client = tls.client_context(paths.cert(pki.CA), paths.cert(pki.ADMIN), paths.key(pki.ADMIN))
    shake_hands(server, client, host)


def test_another_name_or_another_authority_is_refused(paths: ClusterPaths, tmp_path: Path) -> None:
    server = tls.server_context(paths.cert(pki.APISERVER), paths.key(pki.APISERVER))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, tls.client_context(paths.cert(pki.CA)), "example.com")
    other = ClusterPaths(tmp_path / "other")
    pki.ensure(other, SPEC, RealClock())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, tls.client_context(other.cert(pki.CA)), "localhost")


@pytest.mark.parametrize("host", ["127.16.192.1", "127.16.192.2", "node-0", "node-1", "kubelet.kubecosm.internal"])
def test_the_kubelet_is_trusted_for_each_of_its_nodes_and_demands_a_client(paths: ClusterPaths, host: str) -> None:
    server = tls.server_context(paths.cert(pki.KUBELET), paths.key(pki.KUBELET), client_ca=paths.cert(pki.CA), require_client=True)
    shake_hands(server, tls.client_context(paths.cert(pki.CA), paths.cert(pki.KUBELET_CLIENT), paths.key(pki.KUBELET_CLIENT)), host)
    with pytest.raises(ssl.SSLError):
        shake_hands(server, tls.client_context(paths.cert(pki.CA)), host)


def test_each_identity_has_its_user_and_group(paths: ClusterPaths) -> None:
    found = {
        name: (subject(certificate(paths, name), NameOID.COMMON_NAME), subject(certificate(paths, name), NameOID.ORGANIZATION_NAME))
        for name, _user, _group in pki.IDENTITIES
    }
    assert found == {
        "admin": (["kubernetes-admin"], ["system:masters"]),
        "scheduler": (["system:kube-scheduler"], []),
        "controller": (["system:kube-controller-manager"], []),
        "kubelet-client": (["kubecosm:node-host"], ["kubecosm:node-hosts"]),
        "proxy": (["system:kube-proxy"], []),
    }


def test_certificates_are_valid_now_and_for_years(paths: ClusterPaths) -> None:
    now = datetime.now(UTC)
    cert = certificate(paths, pki.APISERVER)
    assert cert.not_valid_before_utc < now - timedelta(minutes=30)
    assert cert.not_valid_after_utc > now + timedelta(days=3000)


def test_private_keys_are_for_the_owner_only(paths: ClusterPaths) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.pki.glob("*.key")} == {0o600}
    assert stat.S_IMODE(paths.pki.stat().st_mode) == 0o700


def test_a_second_start_changes_nothing(paths: ClusterPaths) -> None:
    before = {path.name: path.read_bytes() for path in paths.pki.iterdir()}
    pki.ensure(paths, SPEC, RealClock())
    assert {path.name: path.read_bytes() for path in paths.pki.iterdir()} == before


def test_more_nodes_renew_only_the_kubelet_certificate(paths: ClusterPaths) -> None:
    before = {path.name: path.read_bytes() for path in paths.pki.glob("*.crt")}
    pki.ensure(paths, dataclasses.replace(SPEC, nodes=3), RealClock())
    changed = {path.name for path in paths.pki.glob("*.crt") if path.read_bytes() != before[path.name]}
    assert changed == {"kubelet.crt"}


def test_thousands_of_nodes_still_fit_one_handshake(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    spec = ClusterSpec("big", 26443, Slots(0, 32), nodes=5000)
    pki.ensure(paths, spec, RealClock())
    server = tls.server_context(paths.cert(pki.KUBELET), paths.key(pki.KUBELET))
    shake_hands(server, tls.client_context(paths.cert(pki.CA)), str(spec.slots.node_ip(4999)))


def test_broken_files_are_told_in_one_line(paths: ClusterPaths, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read .*missing.crt: no such file"):
        tls.server_context(tmp_path / "missing.crt", paths.key(pki.APISERVER))
    with pytest.raises(StartupError, match="the key does not belong to the certificate"):
        tls.server_context(paths.cert(pki.APISERVER), paths.key(pki.ADMIN))
    broken = tmp_path / "broken.crt"
    broken.write_text("nonsense")
    with pytest.raises(StartupError, match="not a PEM certificate"):
        tls.client_context(broken)


def test_the_users_kubeconfig_carries_everything_and_the_components_name_files(paths: ClusterPaths) -> None:
    import yaml

    kubeconfig.write_all(paths, SPEC)
    mine = yaml.safe_load(paths.kubeconfig.read_text())
    assert mine["current-context"] == "kubecosm-dev"
    assert mine["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:26443"
    assert set(mine["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    theirs = yaml.safe_load(paths.component_kubeconfig("scheduler").read_text())
    assert theirs["users"][0]["user"]["client-certificate"] == str(paths.cert("scheduler"))
    assert stat.S_IMODE(paths.kubeconfig.stat().st_mode) == 0o600
