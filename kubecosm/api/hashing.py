"""What the hashes in names are made of: FNV-1a, and an alphabet that forms no words."""

from __future__ import annotations

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
