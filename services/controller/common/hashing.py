"""The hash of a ControllerRevision, as history.HashControllerRevision computes it.

Unlike the hash of a pod template it is taken over JSON in Kubernetes too, so the names of revisions are those of a real cluster.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.hashing import safe_encode

_FNV_OFFSET, _FNV_PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF


def fnv32(data: bytes) -> int:
    """FNV-1 (not 1a), 32 bits."""
    value = _FNV_OFFSET
    for byte in data:
        value = (value * _FNV_PRIME & _MASK) ^ byte
    return value


def canonical_json(value: Any) -> bytes:
    """The bytes that Go's json.Marshal of a map gives: sorted keys, HTML characters escaped."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")


def revision_hash(data: Any, collision_count: int | None) -> str:
    """The hash of a revision's data, changed by the collision count."""
    salt = b"" if collision_count is None else str(collision_count).encode()
    return safe_encode(str(fnv32(canonical_json(data) + salt)))
