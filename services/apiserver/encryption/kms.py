"""Envelope encryption: values are encrypted here, with a seed that a KMS plugin has encrypted and that is stored beside them.

Imitates apiserver/pkg/storage/value/encrypt/envelope/kmsv2 (envelope.go) and its stored form `k8s:enc:kms:v2:<name>:` + EncryptedObject.
Each value has a key of its own, derived from the seed by HKDF-Expand with 32 random bytes, and AES-GCM binds it to its place. Values with
a data key instead of a seed, as Kubernetes 1.28 wrote them, are read as well.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..wire import data_of, entries, field, map_of, number_of, parse, text_of
from .kmsplugin import KmsError, KmsPlugin, Wrapped

log = get_logger("apiserver")

SEED_BYTES, INFO_BYTES, NONCE_BYTES = 32, 32, 12
DATA_KEY, SEED = 0, 1
SEEDS_REMEMBERED_MAX = 1000
GOOD_SECONDS = 180.0
"""How long values may be written with a seed after the plugin was last well."""
STATUS_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """A seed (or data key) and how it is stored."""

    kind: int
    secret: bytes
    wrapped: Wrapped


class Kms:
    """One `kms` provider."""

    def __init__(self, name: str, plugin: KmsPlugin, clock: Clock) -> None:
        """Raises KmsError if the plugin is not there, or not well."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        self.name = name
        self.prefix = b"k8s:enc:kms:v2:%b:" % name.encode()
        self.plugin = plugin
        self.status_seen: tuple[str, float] = ("", 0.0)
        """Hash of the key that the plugin named last, and when (Unix time)."""
        self._clock = clock
        self._gcm, self._invalid = AESGCM, InvalidTag

        def expand(secret: bytes, info: bytes) -> bytes:
            return HKDFExpand(hashes.SHA256(), SEED_BYTES, info).derive(secret)

        self._expand: Callable[[bytes, bytes], bytes] = expand
        self._known: OrderedDict[tuple[int, Wrapped], bytes] = OrderedDict()
        self._good_until = 0.0
        self._source = self._new_source()
        self.refresh()

    @property
    def stamp(self) -> bytes:
        """What tells values that would be written now from older ones."""
        return _stamp(self.prefix, self._source.wrapped.key_id)

    def stamp_of(self, value: bytes) -> bytes:
        """The same of a stored value, without its prefix."""
        try:
            return _stamp(self.prefix, text_of(parse(value), 2))
        except ValueError:
            return self.prefix

    def _new_source(self) -> Source:
        secret = os.urandom(SEED_BYTES)
        wrapped = self.plugin.encrypt(secret, str(uuid.uuid4()))
        self._remember((SEED, wrapped), secret)
        return Source(SEED, secret, wrapped)

    def refresh(self) -> None:
        """Ask how the plugin fares; with a new key of its own there is a new seed. Raises KmsError."""
        key_id = self.plugin.status()
        self.status_seen = key_hash(key_id), self._clock.now().timestamp()
        if key_id != self._source.wrapped.key_id:
            self._source = self._new_source()
            log.info("the KMS plugin has another key", provider=self.name, key=key_hash(key_id))
        self._good_until = self._clock.monotonic() + GOOD_SECONDS

    def complaint(self) -> str | None:
        """Why nothing can be written with it; None if it can."""
        return None if self._clock.monotonic() <= self._good_until else f"the KMS plugin {self.name} has not been well"

    def close(self) -> None:
        self.plugin.close()

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        """Raises KmsError if the plugin has not been well for too long."""
        if self.complaint() is not None:
            raise KmsError(f"KMS plugin {self.name}: EDEK with keyID has expired: the plugin has not been well for {GOOD_SECONDS:.0f} s")
        source, info, nonce = self._source, os.urandom(INFO_BYTES), os.urandom(NONCE_BYTES)
        data = info + nonce + self._gcm(self._expand(source.secret, info)).encrypt(nonce, value, key)
        wrapped = source.wrapped
        return (
            field(1, data) + field(2, wrapped.key_id) + field(3, wrapped.ciphertext) + entries(4, dict(wrapped.annotations))
            + field(5, source.kind)
        )  # fmt: skip

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        """Raises ValueError."""
        fields = parse(value)
        data, kind = data_of(fields, 1), number_of(fields, 5)
        wrapped = Wrapped(data_of(fields, 3), text_of(fields, 2), tuple(sorted(map_of(fields, 4).items())))
        secret = self._secret(kind, wrapped)
        if kind == SEED:
            if len(data) < INFO_BYTES + NONCE_BYTES:
                raise ValueError("the stored data was shorter than the required size")
            secret, data = self._expand(secret, data[:INFO_BYTES]), data[INFO_BYTES:]
        try:
            return self._gcm(secret).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], key)
        except self._invalid:
            raise ValueError("cipher: message authentication failed") from None

    def _secret(self, kind: int, wrapped: Wrapped) -> bytes:
        """Raises KmsError."""
        if kind not in (DATA_KEY, SEED):
            raise KmsError(f"unknown encryptedDEKSourceType {kind}")
        found = self._known.get((kind, wrapped))
        if found is None:
            found = self.plugin.decrypt(wrapped, str(uuid.uuid4()))
            self._remember((kind, wrapped), found)
        return found

    def _remember(self, key: tuple[int, Wrapped], secret: bytes) -> None:
        self._known[key] = secret
        if len(self._known) > SEEDS_REMEMBERED_MAX:
            self._known.popitem(last=False)


def key_hash(key_id: str) -> str:
    """Ids of keys may be secret."""
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"


def _stamp(prefix: bytes, key_id: str) -> bytes:
    return prefix + key_id.encode()
