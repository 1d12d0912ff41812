"""XSalsa20-Poly1305 (NaCl's secretbox). The stream cipher is written out here because `cryptography` has only the authenticator.

Some milliseconds for each KiB: fine for Secrets, too slow to encrypt everything with.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

KEY_BYTES, NONCE_BYTES, TAG_BYTES, BLOCK_BYTES = 32, 24, 16, 64
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
_QUARTERS = (*_COLUMNS, *_ROWS)
_STEPS = tuple(step for a, b, c, d in _QUARTERS for step in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)))


def _rounds(words: list[int]) -> list[int]:
    """Salsa20's twenty rounds, without the final addition."""
    x = list(words)
    for _ in range(10):
        for into, first, second, by in _STEPS:
            total = (x[first] + x[second]) & _MASK
            x[into] ^= ((total << by) | (total >> (32 - by))) & _MASK
    return x


def _state(key: Sequence[int], middle: Sequence[int]) -> list[int]:
    a, b, c, d = _CONSTANTS
    return [a, *key[:4], b, *middle, c, *key[4:], d]


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """A key for Salsa20 out of a key and the first 16 bytes of a long nonce."""
    x = _rounds(_state(struct.unpack("<8I", key), struct.unpack("<4I", nonce)))
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _stream(key: bytes, nonce: bytes, length: int) -> bytes:
    words, short = struct.unpack("<8I", key), struct.unpack("<2I", nonce)
    blocks = []
    for counter in range(-(-length // BLOCK_BYTES)):
        state = _state(words, (*short, counter & _MASK, counter >> 32))
        blocks.append(struct.pack("<16I", *[(a + b) & _MASK for a, b in zip(state, _rounds(state), strict=True)]))
    return b"".join(blocks)[:length]


def _xor(data: bytes, stream: bytes) -> bytes:
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(data), "little")


def seal(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """Tag and cipher text."""
    stream = _stream(hsalsa20(key, nonce[:16]), nonce[16:], len(data) + KEY_BYTES)
    encrypted = _xor(data, stream[KEY_BYTES:])
    return Poly1305.generate_tag(stream[:KEY_BYTES], encrypted) + encrypted


def unseal(key: bytes, nonce: bytes, box: bytes) -> bytes:
    """Raises ValueError."""
    tag, encrypted = box[:TAG_BYTES], box[TAG_BYTES:]
    stream = _stream(hsalsa20(key, nonce[:16]), nonce[16:], len(encrypted) + KEY_BYTES)
    try:
        Poly1305.verify_tag(stream[:KEY_BYTES], encrypted, tag)
    except InvalidSignature:
        raise ValueError("secretbox: message authentication failed") from None
    return _xor(encrypted, stream[KEY_BYTES:])
