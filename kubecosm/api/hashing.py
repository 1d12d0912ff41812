"""The hashes that name revisions: `pod-template-hash`, `controller-revision-hash`.

Kubernetes prints a Go struct and takes FNV-1a of the text; nothing but Go can print that text, so ours hash canonical JSON. Alphabet,
length and stability (equal objects, equal hashes) are the same, the values are not.
"""

from __future__ import annotations

from typing import Any

import orjson

_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks like another character, so no hash reads as a word (rand.SafeEncodeString)."""
_FNV_OFFSET, _FNV_PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF


def fnv32a(data: bytes, seed: int = _FNV_OFFSET) -> int:
    """FNV-1a, 32 bits."""
    value = seed
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return value


def safe_encode(text: str) -> str:
    """Each character mapped into the alphabet of generated names (rand.SafeEncodeString)."""
    return "".join([_SAFE_ALPHABET[ord(char) % len(_SAFE_ALPHABET)] for char in text])


def object_hash(value: Any, collision_count: int | None = None) -> str:
    """Hash of any JSON value, as ComputeHash names ReplicaSets: up to ten safe characters; the collision count changes it."""
    number = fnv32a(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    if collision_count is not None:
        number = fnv32a(collision_count.to_bytes(8, "little"), number)
    return safe_encode(str(number))
