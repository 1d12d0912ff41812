"""Keys that sign and check JSON web tokens: RSA (RS256) and EC (ES256/384/512). `cryptography` is imported when first needed."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError, startup

_CURVES = {"secp256r1": ("ES256", "P-256", 32), "secp384r1": ("ES384", "P-384", 48), "secp521r1": ("ES512", "P-521", 66)}
RSA_ALGORITHM = "RS256"
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
"""Others sign with all of them, this server with the first."""


def encode64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def decode64(text: str) -> bytes:
    """Raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures; `key_id` is how tokens name it (the hash of its encoding, as Kubernetes does)."""

    key: Any
    key_id: str
    algorithm: str

    def verify(self, message: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, padding
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        try:
            if self.algorithm in RSA_ALGORITHMS:
                self.key.verify(signature, message, padding.PKCS1v15(), _hash_of(self.algorithm))
            else:
                half = len(signature) // 2
                numbers = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
                self.key.verify(encode_dss_signature(*numbers), message, ec.ECDSA(_hash_of(self.algorithm)))
        except InvalidSignature:
            return False
        return True

    def jwk(self) -> Object:
        """As published at /openid/v1/jwks."""
        entry: Object = {"use": "sig", "kid": self.key_id, "alg": self.algorithm}
        numbers = self.key.public_numbers()
        if self.algorithm in RSA_ALGORITHMS:
            return entry | {"kty": "RSA", "n": encode64(_big_endian(numbers.n)), "e": encode64(_big_endian(numbers.e))}
        _, curve, size = _CURVES[self.key.curve.name]
        x, y = numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")
        return entry | {"kty": "EC", "crv": curve, "x": encode64(x), "y": encode64(y)}


@dataclass(frozen=True)
class SigningKey:
    """A private key and its public half."""

    private: Any
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import ec, padding
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        algorithm = self.public.algorithm
        if algorithm == RSA_ALGORITHM:
            return bytes(self.private.sign(message, padding.PKCS1v15(), _hash_of(algorithm)))
        size = _CURVES[self.private.curve.name][2]
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(_hash_of(algorithm))))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _hash_of(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    known: dict[str, Any] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
    return known[algorithm[2:]]()


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def public_key(key: Any) -> PublicKey:
    """Raises ValueError for a kind of key that cannot sign tokens."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(key, RSAPublicKey):
        algorithm = RSA_ALGORITHM
    elif isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        algorithm = _CURVES[key.curve.name][0]
    else:
        raise ValueError("neither an RSA nor an EC key")
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key, encode64(hashlib.sha256(encoded).digest()), algorithm)


def load_signing_key(path: Path) -> SigningKey:
    """From a PEM file. Raises StartupError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with startup(f"read the ServiceAccount signing key {path}"):
        data = path.read_bytes()
    try:
        private: Any = load_pem_private_key(data, None)
        return SigningKey(private, public_key(private.public_key()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartupError(f"cannot use the ServiceAccount signing key {path}: {error}") from error


def make_signing_key() -> SigningKey:
    """A key for this run only, for servers that were given none."""
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(private, public_key(private.public_key()))


def load_public_keys(paths: Iterable[Path]) -> list[PublicKey]:
    """The public keys (or public halves of private ones) in PEM files. Raises StartupError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for path in paths:
        with startup(f"read the ServiceAccount key {path}"):
            data = path.read_bytes()
        if b"PRIVATE KEY" in data:
            found.append(load_signing_key(path).public)
            continue
        try:
            found.append(public_key(load_pem_public_key(data)))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StartupError(f"cannot use the ServiceAccount key {path}: {error}") from error
    return found


def key_of_jwk(entry: Object) -> PublicKey | None:
    """A key as published; None for a kind that is not for signatures we know."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves: dict[str, Any] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    if entry.get("use", "sig") != "sig":
        return None
    try:
        if entry.get("kty") == "RSA":
            key: Any = rsa.RSAPublicNumbers(_number(entry["e"]), _number(entry["n"])).public_key()
        elif entry.get("kty") == "EC" and entry.get("crv") in curves:
            key = ec.EllipticCurvePublicNumbers(_number(entry["x"]), _number(entry["y"]), curves[entry["crv"]]).public_key()
        else:
            return None
    except (KeyError, ValueError, TypeError):
        return None
    found = public_key(key)
    return PublicKey(key, entry.get("kid", ""), entry.get("alg") or found.algorithm)


def _number(text: str) -> int:
    return int.from_bytes(decode64(text), "big")
