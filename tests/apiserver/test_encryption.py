"""Encryption at rest: what lies in the file, rotation of keys, wrong keys."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.encryption import salsa
from kubecosm.services.apiserver.encryption.config import load_entries, providers_for
from kubecosm.services.apiserver.encryption.providers import KINDS
from kubecosm.services.apiserver.encryption.store import EncryptingStore
from kubecosm.services.apiserver.storage.contract import Change, StorageError
from kubecosm.services.apiserver.storage.memory import open_memory

from .harness import Api, api_server, configmap

SECRETS = "/api/v1/namespaces/default/secrets"
PLAIN = b"open sesame"


def key(name: str, size: int = 32) -> dict[str, str]:
    return {"name": name, "secret": base64.b64encode(os.urandom(size)).decode()}


def configuration(tmp_path: Path, *providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> Path:
    path = tmp_path / "encryption.yaml"
    entry = {"resources": list(resources), "providers": list(providers)}
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    path.write_text(yaml.safe_dump(document))
    return path


def secret(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"k": base64.b64encode(PLAIN).decode()}}


def run(tmp_path: Path, config: Path | None, test: Any) -> None:
    async def main() -> None:
        flags = {} if config is None else {"encryption_provider_config": str(config)}
        async with api_server(tmp_path, storage_backend="sqlite", data_dir=str(tmp_path / "data"), **flags) as api:
            await test(api)

    asyncio.run(main())


def newest(tmp_path: Path, storage_key: str) -> bytes:
    with sqlite3.connect(tmp_path / "data" / "kubecosm.db") as database:
        found = database.execute("SELECT value FROM log WHERE key = ? ORDER BY revision DESC", (storage_key,)).fetchone()
    database.close()
    return bytes(found[0])


def files(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_database_has_no_plain_text_and_readers_see_it_all_the_same(tmp_path: Path, kind: str) -> None:
    config = configuration(tmp_path, {kind: {"keys": [key("key1")]}}, {"identity": {}})

    async def write(api: Api) -> None:
        async with api.watch(f"{SECRETS}?watch=true") as watch:
            await api.create(SECRETS, secret("a"))
            await api.create("/api/v1/namespaces/default/configmaps", configmap("plain", {"k": "in the open"}))
            assert (await watch.next())["object"]["data"] == secret("a")["data"]
        assert (await api.get(f"{SECRETS}/a"))["data"] == secret("a")["data"]
        merged = await api.merge(f"{SECRETS}/a", {"metadata": {"labels": {"x": "y"}}})
        old = await api.get(f"{SECRETS}?resourceVersion={merged['metadata']['resourceVersion']}&resourceVersionMatch=Exact")
        assert old["items"][0]["data"] == secret("a")["data"]

    async def read(api: Api) -> None:
        assert (await api.get(f"{SECRETS}/a"))["data"] == secret("a")["data"]

    run(tmp_path, config, write)
    assert newest(tmp_path, "/registry/core/secrets/default/a").startswith(b"k8s:enc:%b:v1:key1:" % kind.encode())
    assert base64.b64encode(PLAIN) not in files(tmp_path)
    assert b"in the open" in files(tmp_path)
    run(tmp_path, config, read)


def test_keys_are_rotated_by_writing_what_has_not_changed(tmp_path: Path) -> None:
    old, new = key("old"), key("new")

    async def create(api: Api) -> None:
        await api.create(SECRETS, secret("a"))
        await api.create(SECRETS, secret("b"))

    async def rewrite(api: Api) -> None:
        for item in (await api.get(SECRETS))["items"]:
            before = item["metadata"]["resourceVersion"]
            after = await api.put(f"{SECRETS}/{item['metadata']['name']}", item)
            again = await api.put(f"{SECRETS}/{item['metadata']['name']}", after)
            assert after["metadata"]["resourceVersion"] != before
            assert again["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]

    async def read(api: Api) -> None:
        assert [item["data"] for item in (await api.get(SECRETS))["items"]] == [secret("a")["data"]] * 2

    run(tmp_path, None, create)
    rotation: tuple[tuple[dict[str, Any], ...], ...] = (
        ({"aesgcm": {"keys": [old]}}, {"identity": {}}), ({"aesgcm": {"keys": [new, old]}},),
    )  # fmt: skip
    for providers in rotation:
        run(tmp_path, configuration(tmp_path, *providers), rewrite)
    assert newest(tmp_path, "/registry/core/secrets/default/b").startswith(b"k8s:enc:aesgcm:v1:new:")
    run(tmp_path, configuration(tmp_path, {"aesgcm": {"keys": [new]}}), read)


def test_a_wrong_key_stops_the_start_and_names_the_object(tmp_path: Path) -> None:
    async def create(api: Api) -> None:
        await api.create(SECRETS, secret("a"))

    run(tmp_path, configuration(tmp_path, {"aesgcm": {"keys": [key("key1")]}}), create)
    for providers, words in (
        (({"aesgcm": {"keys": [key("key1")]}},), "message authentication failed"),
        (({"aesgcm": {"keys": [key("key2")]}},), "no matching prefix found"),
        (({"identity": {}},), "tried to read encrypted data"),
    ):
        with pytest.raises(StartupError) as refused:
            run(tmp_path, configuration(tmp_path, *providers), create)
        assert words in str(refused.value)
        assert 'secrets "default/a"' in str(refused.value)
    with pytest.raises(StartupError, match="--encryption-provider-config"):
        run(tmp_path, None, create)


def test_a_value_moved_to_another_key_is_refused() -> None:
    async def main(path: Path) -> None:
        inner = open_memory()
        store = EncryptingStore(inner, load_entries(path))
        await store.create(key="/registry/core/secrets/default/a", value=PLAIN)
        stolen = (await inner.get(key="/registry/core/secrets/default/a")).item
        assert stolen is not None
        await inner.create(key="/registry/core/secrets/default/b", value=stolen.value)
        assert (await store.get(key="/registry/core/secrets/default/a")).item is not None
        with pytest.raises(StorageError, match="message authentication failed"):
            await store.get(key="/registry/core/secrets/default/b")
        await store.close()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(configuration(Path(folder), {"aesgcm": {"keys": [key("k")]}})))


def test_a_new_configuration_is_taken_up_while_the_server_runs(tmp_path: Path) -> None:
    async def main() -> None:
        inner = open_memory()
        old, new = key("old"), key("new")
        store = EncryptingStore(inner, load_entries(configuration(tmp_path, {"aescbc": {"keys": [old]}})))
        seen: list[Change] = []
        await store.subscribe(prefix="/registry/", after_revision=0, deliver=seen.extend)
        name = "/registry/core/secrets/default/a"
        written = await store.create(key=name, value=PLAIN)
        assert not store.is_stale(name)
        store.configure(load_entries(configuration(tmp_path, {"aesgcm": {"keys": [new]}}, {"aescbc": {"keys": [old]}})))
        assert store.is_stale(name)
        await store.update(key=name, value=PLAIN, expected_revision=written.revision)
        assert not store.is_stale(name)
        assert [change.value for change in seen] == [PLAIN, PLAIN]
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("resources", "covered", "others"),
    [
        (("secrets",), [("", "secrets")], [("", "configmaps"), ("x.io", "secrets")]),
        (("*.apps", "widgets.x.io"), [("apps", "deployments"), ("x.io", "widgets")], [("x.io", "others"), ("", "secrets")]),
        (("*.",), [("", "secrets"), ("", "pods")], [("apps", "deployments")]),
        (("*.*",), [("", "secrets"), ("x.io", "widgets")], []),
    ],
)
def test_resources_are_named_with_wildcards(tmp_path: Path, resources: Any, covered: Any, others: Any) -> None:
    entries = load_entries(configuration(tmp_path, {"aesgcm": {"keys": [key("k", 16)]}}, resources=resources))
    assert all(providers_for(entries, *kind) for kind in covered)
    assert not any(providers_for(entries, *kind) for kind in others)


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"aesgcm": {"keys": [{"name": "k", "secret": "c2hvcnQ="}]}}, "got 5, expected one of 16, 24, 32"),
        ({"secretbox": {"keys": [{"name": "k", "secret": "not base64"}]}}, "secrets must be base64 encoded"),
        ({"aescbc": {"keys": []}}, "at least one key is required"),
        ({"kms": {"name": "k"}}, "KMSv1 is deprecated and off, use v2"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_with_the_field(tmp_path: Path, provider: Any, words: str) -> None:
    with pytest.raises(StartupError) as refused:
        load_entries(configuration(tmp_path, provider))
    assert words in str(refused.value)
    assert "providers[0]" in str(refused.value)


def test_salsa_gives_the_published_values() -> None:
    """The example of "Cryptography in NaCl"."""
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    first = salsa.hsalsa20(shared, bytes(16))
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    assert first.hex() == "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
    assert salsa.hsalsa20(first, nonce[:16]).hex() == "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"
    box = salsa.seal(first, nonce, PLAIN * 20)
    assert salsa.unseal(first, nonce, box) == PLAIN * 20
    with pytest.raises(ValueError, match="authentication"):
        salsa.unseal(first, nonce, box[:-1] + bytes([box[-1] ^ 1]))
