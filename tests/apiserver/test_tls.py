"""TLS of the server: names, rotation, versions, ciphers."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.config import Config
from kubecosm.services.apiserver.tls import ServingTls, named_certificates, openssl_ciphers

from .outsiders import Authority


def serving(tmp_path: Path, **flags: Any) -> ServingTls:
    cert, key = Authority(tmp_path, "serving-ca").issue("default", names=("localhost",))
    return ServingTls(Config(tls_cert_file=str(cert), tls_private_key_file=str(key), **flags), RealClock())


def shake_hands(tls: ServingTls, name: str, client: ssl.SSLContext | None = None) -> str:
    """The common name of the certificate that a client sees who asks for `name`."""

    async def main() -> str:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=tls.context)
        port = server.sockets[0].getsockname()[1]
        context = client or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, "127.0.0.1", port, ssl=context, server_hostname=name
            )
            encoded = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            transport.close()
        finally:
            server.close()
        return encoded.hex()  # type: ignore[no-any-return]

    return asyncio.run(main())


def is_of(shown: str, cert: Path | str) -> bool:
    return ssl.PEM_cert_to_DER_cert(Path(cert).read_text()).hex() == shown


def test_clients_get_the_certificate_of_the_name_they_ask_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "named-ca")
    one, two = authority.issue("one", names=("one.example.com",)), authority.issue("two", names=("two",))
    tls = serving(tmp_path, tls_sni_cert_key=f"{one[0]},{one[1]};{two[0]},{two[1]}:*.two.com,2.com")
    assert is_of(shake_hands(tls, "one.example.com"), one[0])
    assert is_of(shake_hands(tls, "a.two.com"), two[0])
    assert is_of(shake_hands(tls, "localhost"), tmp_path / "default.crt")


def test_rotated_certificates_are_taken_up_and_broken_ones_are_not(tmp_path: Path) -> None:
    tls = serving(tmp_path)
    cert = tmp_path / "default.crt"
    before = shake_hands(tls, "localhost")
    assert not tls.reload_if_changed()
    Authority(tmp_path, "new-ca").issue("default", names=("localhost",))
    os.utime(cert, ns=(1, 1))
    assert tls.reload_if_changed()
    after = shake_hands(tls, "localhost")
    assert (after != before, is_of(after, cert)) == (True, True)
    cert.write_text("broken")
    assert not tls.reload_if_changed()
    assert shake_hands(tls, "localhost") == after


def test_the_authority_of_clients_is_replaced_as_well(tmp_path: Path) -> None:
    old = Authority(tmp_path, "clients-ca")
    file = tmp_path / "clients.crt"
    file.write_bytes(old.file.read_bytes())
    tls = serving(tmp_path, client_ca_file=str(file))
    file.write_bytes(Authority(tmp_path, "other-clients-ca").file.read_bytes())
    os.utime(file, ns=(1, 1))
    assert tls.reload_if_changed()
    assert [dict(entry["subject"][0])["commonName"] for entry in tls.context_for("x").get_ca_certs()] == ["other-clients-ca"]


def test_old_versions_are_refused(tmp_path: Path) -> None:
    tls = serving(tmp_path, tls_min_version="VersionTLS13")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake_hands(tls, "localhost", client)
    assert shake_hands(tls, "localhost")


def test_ciphers_are_named_as_kubernetes_names_them(tmp_path: Path) -> None:
    assert openssl_ciphers(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"]) == "ECDHE-RSA-AES128-GCM-SHA256"
    with pytest.raises(StartupError, match="Cipher suite TLS_X not supported or doesn't exist"):
        serving(tmp_path, tls_cipher_suites=("TLS_X",))
    with pytest.raises(StartupError, match="must be one of"):
        serving(tmp_path, tls_min_version="TLS9")


def test_a_pair_of_files_is_asked_for() -> None:
    with pytest.raises(StartupError, match="expected cert,key"):
        named_certificates("a.crt")
