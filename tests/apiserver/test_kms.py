"""Encryption at rest with a KMS plugin: envelopes, another key of the plugin, a plugin that is gone."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.encryption.config import load_entries
from kubecosm.services.apiserver.encryption.kms import GOOD_SECONDS, Kms
from kubecosm.services.apiserver.encryption.kmsplugin import KmsError, KmsPlugin, Wrapped
from kubecosm.services.apiserver.wire import data_of, entries, field, map_of, number_of, parse, text_of
from kubecosm.testing.virtualtime import ManualClock

from .harness import api_server
from .test_encryption import PLAIN, SECRETS, configuration, secret

grpc = pytest.importorskip("grpc")
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Plugin:
    """A KMS plugin: it keeps what it has encrypted under numbers."""

    def __init__(self) -> None:
        self.key_id, self.health = "key-1", "ok"
        self.calls: list[str] = []
        self._kept: dict[bytes, bytes] = {}

    def answer(self, method: str, request: bytes) -> bytes:
        self.calls.append(method)
        fields = parse(request)
        if method == "Status":
            return field(1, "v2") + field(2, self.health) + field(3, self.key_id)
        if method == "Encrypt":
            ciphertext = os.urandom(8)
            self._kept[ciphertext] = data_of(fields, 1)
            return field(1, ciphertext) + field(2, self.key_id) + entries(3, {"version.example.com": b"7"})
        assert map_of(fields, 4) == {"version.example.com": b"7"}
        return field(1, self._kept[data_of(fields, 1)])

    @contextmanager
    def serving(self, path: Path) -> Iterator[str]:
        """Over a Unix socket; gives its endpoint."""

        def unchanged(data: bytes) -> bytes:
            return data

        def handler(method: str) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, _: self.answer(method, request), unchanged, unchanged)

        server = grpc.server(ThreadPoolExecutor(2))
        methods = {name: handler(name) for name in ("Status", "Encrypt", "Decrypt")}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v2.KeyManagementService", methods),))
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield f"unix://{path}"
        finally:
            server.stop(None).wait()


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.fixture
def endpoint(plugin: Plugin, tmp_path: Path) -> Iterator[str]:
    with plugin.serving(tmp_path / "kms.sock") as address:
        yield address


def kms(endpoint: str, **settings: Any) -> dict[str, Any]:
    return {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": endpoint, "timeout": "1s", **settings}}


def newest(tmp_path: Path, name: str) -> bytes:
    with sqlite3.connect(tmp_path / "data" / "kubecosm.db") as database:
        found = database.execute("SELECT value FROM log WHERE key LIKE ? ORDER BY revision DESC", (f"%/secrets/default/{name}",)).fetchone()
    database.close()
    return bytes(found[0])


def test_a_secret_lies_in_an_envelope_that_only_the_plugin_can_open(tmp_path: Path, plugin: Plugin, endpoint: str) -> None:
    async def run(config: Path, name: str) -> None:
        flags = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data"), "encryption_provider_config": str(config)}
        async with api_server(tmp_path, **flags) as api:
            if name:
                await api.create(SECRETS, secret(name))
            for found in ("a", name):
                if found:
                    assert base64.b64decode((await api.get(f"{SECRETS}/{found}"))["data"]["k"]) == PLAIN
            assert (await api.raw("GET", "/livez/kms-providers")).status == 200
            metrics = (await api.raw("GET", "/metrics")).text
            labels = 'grpc_status_code="OK",method_name="/v2.KeyManagementService/Encrypt",provider_name="vault"'
            assert f"apiserver_envelope_encryption_kms_operations_latency_seconds_count{{{labels}}} 1.0" in metrics

    config = configuration(tmp_path, kms(endpoint), {"identity": {}})
    asyncio.run(run(config, "a"))
    stored = newest(tmp_path, "a")
    assert stored.startswith(b"k8s:enc:kms:v2:vault:")
    assert base64.b64encode(PLAIN) not in stored
    envelope = parse(stored.removeprefix(b"k8s:enc:kms:v2:vault:"))
    assert (text_of(envelope, 2), number_of(envelope, 5), len(data_of(envelope, 3))) == ("key-1", 1, 8)
    plugin.calls.clear()
    asyncio.run(run(config, "b"))
    assert plugin.calls.count("Decrypt") == 1  # of the seed of the first run, once


def test_another_key_of_the_plugin_is_taken_up_and_old_values_are_written_anew(tmp_path: Path, plugin: Plugin, endpoint: str) -> None:
    async def main() -> None:
        config = configuration(tmp_path, kms(endpoint))
        flags = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data"), "encryption_provider_config": str(config)}
        async with api_server(tmp_path, **flags) as api:
            created = await api.create(SECRETS, secret("a"))
            await api.put(f"{SECRETS}/a", created)
            before = newest(tmp_path, "a")
            plugin.key_id = "key-2"
            encryption = api.state.encryption
            assert encryption is not None
            encryption.plugins[0].refresh()
            assert (await api.put(f"{SECRETS}/a", created))["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
            after = newest(tmp_path, "a")
            assert (b"key-1" in before, b"key-1" in after, b"key-2" in after) == (True, False, True)

    asyncio.run(main())


def test_writes_stop_when_the_plugin_has_long_been_gone_and_reads_go_on(tmp_path: Path, plugin: Plugin, endpoint: str) -> None:
    clock = ManualClock()
    provider = Kms("vault", KmsPlugin("vault", endpoint, 1.0), clock)
    stored = provider.encrypt(PLAIN, b"/here")
    plugin.health = "sealed"
    with pytest.raises(KmsError, match="unexpected healthz status: sealed"):
        provider.refresh()
    assert provider.complaint() is None
    clock.advance(GOOD_SECONDS + 1)
    with pytest.raises(KmsError, match="has expired"):
        provider.encrypt(PLAIN, b"/here")
    assert provider.complaint() is not None
    assert provider.decrypt(stored, b"/here") == PLAIN
    with pytest.raises(ValueError, match="message authentication failed"):
        provider.decrypt(stored, b"/elsewhere")
    plugin.health = "ok"
    provider.refresh()
    assert provider.decrypt(provider.encrypt(PLAIN, b"/here"), b"/here") == PLAIN
    provider.close()


def test_values_with_a_data_key_of_old_are_read(plugin: Plugin, endpoint: str) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    client = KmsPlugin("vault", endpoint, 1.0)
    provider, secret_key, nonce = Kms("vault", client, ManualClock()), os.urandom(32), os.urandom(12)
    wrapped: Wrapped = client.encrypt(secret_key, "uid")
    data = nonce + AESGCM(secret_key).encrypt(nonce, PLAIN, b"/here")
    stored = field(1, data) + field(2, wrapped.key_id) + field(3, wrapped.ciphertext) + entries(4, dict(wrapped.annotations))
    assert provider.decrypt(stored, b"/here") == PLAIN
    provider.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"apiVersion": "v1"}, "KMSv1 is deprecated and off"), ({"name": "a:b"}, "a provider needs a name without a colon"),
        ({"endpoint": "https://x"}, "only unix is supported"), ({"cachesize": 7}, "cachesize is not supported in v2"),
        ({"endpoint": "unix:///nowhere/kms.sock", "timeout": "100ms"}, "cannot be used"),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_used_is_told_at_start(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(StartupError, match=words):
        load_entries(configuration(tmp_path, kms(**{"endpoint": f"unix://{tmp_path}/none.sock", **settings})))


