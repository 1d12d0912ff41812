"""Keys for components that something else starts."""

import ssl
from pathlib import Path

from cryptography import x509

from kubecosm.cli.keys import write_keys
from kubecosm.client.config import ClientConfig
from kubecosm.runtime.tls import server_context


def test_the_kubeconfigs_reach_the_named_server_and_the_certificates_fit(tmp_path: Path) -> None:
    write_keys(tmp_path, "https://apiserver:6443", shared=False)
    for name in ("scheduler", "controller", "proxy", "kubelet-client"):
        config = ClientConfig.from_kubeconfig(tmp_path / "kubeconfigs" / f"{name}.kubeconfig")
        assert config.server == "https://apiserver:6443"
        assert isinstance(config.ssl_context(), ssl.SSLContext)
    server_context(tmp_path / "pki" / "apiserver.crt", tmp_path / "pki" / "apiserver.key", client_ca=tmp_path / "pki" / "ca.crt")


def test_the_user_may_reach_the_server_by_another_name(tmp_path: Path) -> None:
    write_keys(tmp_path, "https://apiserver:6443", user_server="https://127.0.0.1:6443", shared=False)
    assert ClientConfig.from_kubeconfig(tmp_path / "kubeconfig").server == "https://127.0.0.1:6443"
    assert ClientConfig.from_kubeconfig(tmp_path / "kubeconfigs" / "proxy.kubeconfig").server == "https://apiserver:6443"


def test_a_second_call_keeps_what_is_there(tmp_path: Path) -> None:
    write_keys(tmp_path, "https://apiserver:6443", shared=False)
    before = (tmp_path / "pki" / "ca.crt").read_bytes()
    write_keys(tmp_path, "https://apiserver:6443", shared=False)
    assert (tmp_path / "pki" / "ca.crt").read_bytes() == before


def test_secret_files_are_readable_by_others_only_when_asked(tmp_path: Path) -> None:
    write_keys(tmp_path, "https://apiserver:6443", shared=False)
    assert not (tmp_path / "pki" / "ca.key").stat().st_mode & 0o077
    write_keys(tmp_path, "https://apiserver:6443", shared=True)
    assert (tmp_path / "pki" / "ca.key").stat().st_mode & 0o004


def test_a_kubelet_that_hosts_one_node_gets_the_identity_of_that_node(tmp_path: Path) -> None:
    write_keys(tmp_path, "https://apiserver:6443", shared=False, nodes=("alpha",))
    config = ClientConfig.from_kubeconfig(tmp_path / "kubeconfigs" / "kubelet-alpha.kubeconfig")
    name = x509.load_pem_x509_certificate(config.client_certificate_data).subject.rfc4514_string()
    assert name == "CN=system:node:alpha,O=system:nodes"
