"""What encrypts one value: AES-GCM, AES-CBC, secretbox, or nothing. The stored forms are kube-apiserver's.

A value is its provider's prefix (`k8s:enc:aesgcm:v1:<key name>:`) and the cipher text; AES-GCM binds it to the storage key as well, so that
values cannot be swapped. Imitates apiserver/pkg/storage/value/encrypt. `kms` has the providers that need a program of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

GCM_NONCE_BYTES, CBC_IV_BYTES = 12, 16
AES_KEY_BYTES = (16, 24, 32)
SECRETBOX_KEY_BYTES = (32,)
ENCRYPTED = b"k8s:enc:"


class Provider(Protocol):
    """Encrypts for, and decrypts, values with its prefix."""

    @property
    def prefix(self) -> bytes:
        """What its values begin with."""

    @property
    def stamp(self) -> bytes:
        """What tells values that it would write now from others."""

    def stamp_of(self, value: bytes) -> bytes:
        """The stamp of a value that it (or its like) wrote, without prefix."""

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        """The value without prefix; `key` is where it will be stored. Raises ValueError."""

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        """Raises ValueError."""


class Keyed:
    """One key, which the prefix names."""

    prefix = b""

    @property
    def stamp(self) -> bytes:
        return self.prefix

    def stamp_of(self, value: bytes) -> bytes:
        return self.prefix


class Identity(Keyed):
    """Plain text."""

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        return value

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        if value.startswith(ENCRYPTED):
            raise ValueError("identity transformer tried to read encrypted data")
        return value


class AesGcm(Keyed):
    """Authenticated encryption. A key must not write more than some 2³² values: rotate it."""

    def __init__(self, name: str, secret: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.prefix = b"k8s:enc:aesgcm:v1:%b:" % name.encode()
        self._cipher, self._invalid = AESGCM(secret), InvalidTag

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        nonce = os.urandom(GCM_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, key)

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        try:
            return self._cipher.decrypt(value[:GCM_NONCE_BYTES], value[GCM_NONCE_BYTES:], key)
        except self._invalid:
            raise ValueError("cipher: message authentication failed") from None


class AesCbc(Keyed):
    """AES-CBC with PKCS#7 padding: not authenticated, kept for configurations that use it."""

    def __init__(self, name: str, secret: bytes) -> None:
        self.prefix = b"k8s:enc:aescbc:v1:%b:" % name.encode()
        self._secret = secret

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        iv, missing = os.urandom(CBC_IV_BYTES), CBC_IV_BYTES - len(value) % CBC_IV_BYTES
        encryptor = Cipher(algorithms.AES(self._secret), modes.CBC(iv)).encryptor()
        return iv + encryptor.update(value + bytes([missing]) * missing) + encryptor.finalize()

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if len(value) < 2 * CBC_IV_BYTES or len(value) % CBC_IV_BYTES:
            raise ValueError("the stored data was shorter than the required size")
        decryptor = Cipher(algorithms.AES(self._secret), modes.CBC(value[:CBC_IV_BYTES])).decryptor()
        padded = decryptor.update(value[CBC_IV_BYTES:]) + decryptor.finalize()
        missing = padded[-1]
        if not 1 <= missing <= CBC_IV_BYTES or padded[-missing:] != bytes([missing]) * missing:
            raise ValueError("invalid padding on input")
        return padded[:-missing]


class Secretbox(Keyed):
    """XSalsa20-Poly1305."""

    def __init__(self, name: str, secret: bytes) -> None:
        from . import salsa

        self.prefix = b"k8s:enc:secretbox:v1:%b:" % name.encode()
        self._secret, self._salsa = secret, salsa

    def encrypt(self, value: bytes, key: bytes) -> bytes:
        nonce = os.urandom(self._salsa.NONCE_BYTES)
        return nonce + self._salsa.seal(self._secret, nonce, value)

    def decrypt(self, value: bytes, key: bytes) -> bytes:
        size = self._salsa.NONCE_BYTES
        if len(value) < size + self._salsa.TAG_BYTES:
            raise ValueError("the stored data was shorter than the required size")
        return self._salsa.unseal(self._secret, value[:size], value[size:])


KINDS: dict[str, tuple[Callable[[str, bytes], Provider], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, AES_KEY_BYTES), "aescbc": (AesCbc, AES_KEY_BYTES), "secretbox": (Secretbox, SECRETBOX_KEY_BYTES),
}  # fmt: skip
"""Provider → how it is made from a key's name and bytes, and how long keys may be."""
