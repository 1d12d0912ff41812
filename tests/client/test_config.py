"""Kubeconfigs: everything kubectl would read from them that we support, and a clear word about what is wrong."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubecosm.client.config import ClientConfig, ConfigError
from kubecosm.client.http import ApiClient
from kubecosm.testing.virtualtime import VirtualClock


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(cluster: dict[str, Any], user: dict[str, Any], **context: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }  # fmt: skip


def load(tmp_path: Path, content: Any, **options: Any) -> ClientConfig:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(content))
    return ClientConfig.from_kubeconfig(file, **options)


def test_inline_data_is_decoded(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:6443/", "certificate-authority-data": encoded(b"CA")}
    user = {"client-certificate-data": encoded(b"CERT"), "client-key-data": encoded(b"KEY")}
    config = load(tmp_path, document(cluster, user, namespace="web"))
    assert config == ClientConfig(
        "https://127.0.0.1:6443", ca_data=b"CA", client_certificate_data=b"CERT", client_key_data=b"KEY", namespace="web"
    )


def test_files_are_read_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_bytes(b"CA")
    (tmp_path / "token").write_text("t")
    config = load(tmp_path, document({"server": "https://h", "certificate-authority": "pki/ca.crt"}, {"tokenFile": "token"}))
    assert (config.ca_data, config.token_file) == (b"CA", tmp_path / "token")


def test_token_insecure_and_server_name_are_understood(tmp_path: Path) -> None:
    cluster = {"server": "https://h", "insecure-skip-tls-verify": True, "tls-server-name": "kubernetes"}
    config = load(tmp_path, document(cluster, {"token": "secret"}))
    assert (config.token, config.insecure_skip_tls_verify, config.tls_server_name) == ("secret", True, "kubernetes")
    context = config.ssl_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE
    assert "secret" not in repr(config)


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    content = document({"server": "https://one"}, {})
    content["contexts"].append({"name": "there", "context": {"cluster": "d", "user": "u"}})
    content["clusters"].append({"name": "d", "cluster": {"server": "https://two"}})
    assert load(tmp_path, content, context="there").server == "https://two"


def test_the_default_file_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_text(yaml.safe_dump(document({"server": "https://env"}, {})))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'k'}:/nowhere")
    assert ClientConfig.from_kubeconfig().server == "https://env"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"\.kube/config"):
        ClientConfig.from_kubeconfig()


def without(content: dict[str, Any], member: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != member}


GOOD = document({"server": "https://h"}, {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without(GOOD, "current-context"), "no current-context"),
        (without(GOOD, "contexts"), "no context named 'here'"),
        (without(GOOD, "clusters"), "no cluster named 'c'"),
        (without(GOOD, "users"), "no user named 'u'"),
        (document({}, {}), "has no server"),
        (document({"server": "https://h", "certificate-authority-data": "%"}, {}), "certificate-authority-data .* not base64"),
        (document({"server": "https://h", "certificate-authority": "gone.crt"}, {}), "cannot read .*gone.crt: No such file"),
        (["a", "list"], "not a Config object"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_file(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, content)
    assert str(tmp_path) in str(caught.value)


def test_broken_yaml_and_unusable_certificates_are_said_clearly(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("a: [unclosed")
    with pytest.raises(ConfigError, match="is not YAML"):
        ClientConfig.from_kubeconfig(file)
    with pytest.raises(ConfigError, match="unusable certificate or key for https://h"):
        ClientConfig("https://h", ca_data=b"nonsense").ssl_context()
    with pytest.raises(ConfigError, match="unusable certificate or key for https://h"):
        ClientConfig("https://h", client_certificate_data=b"nonsense").ssl_context()


def test_a_pod_finds_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="not inside a pod"):
        ClientConfig.in_cluster(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.32.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigError, match="token does not exist"):
        ClientConfig.in_cluster(tmp_path)
    for name, text in (("token", "t"), ("namespace", "web\n"), ("ca.crt", "CA")):
        (tmp_path / name).write_text(text)
    expected = ClientConfig("https://127.32.0.1:443", ca_data=b"CA", token_file=tmp_path / "token", namespace="web")
    assert ClientConfig.in_cluster(tmp_path) == expected


def test_a_plain_server_needs_no_tls() -> None:
    assert ClientConfig("http://127.0.0.1:8080").ssl_context() is None


def self_signed(*names: str) -> tuple[bytes, bytes]:
    """A certificate for DNS names that is its own CA, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


async def answer_with_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says whether the client showed a certificate."""
    await reader.readuntil(b"\r\n\r\n")
    body = orjson.dumps({"certificate": bool(writer.get_extra_info("peercert"))})
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


def test_tls_checks_the_server_and_shows_the_client_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed("kubernetes")
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificate + key)

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
        tls.load_verify_locations(pem)
        tls.verify_mode = ssl.CERT_OPTIONAL
        listener = await asyncio.start_server(answer_with_peer, "127.0.0.1", 0, ssl=tls)
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"

        async def ask(**options: Any) -> Any:
            async with ApiClient(ClientConfig(url, **options), clock=VirtualClock()) as client:
                return orjson.loads(await client.request("GET", "/"))["certificate"]

        trusted = {"ca_data": certificate, "tls_server_name": "kubernetes"}
        assert await ask(**trusted) is False
        assert await ask(**trusted, client_certificate_data=certificate, client_key_data=key) is True
        assert await ask(insecure_skip_tls_verify=True) is False
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(ca_data=certificate)  # the name does not match 127.0.0.1
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(ca_data=self_signed("kubernetes")[0], tls_server_name="kubernetes")
        listener.close()
        await listener.wait_closed()

    asyncio.run(main())
