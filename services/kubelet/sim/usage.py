"""How much CPU and memory a simulated container uses: a share of its requests plus what traffic costs; annotations override both.

Pure functions of the container's spec, age and request counts.
"""

from __future__ import annotations

from collections.abc import Callable

from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object

from .. import notes

IDLE_SHARE_OF_CPU_REQUEST = 0.1
SHARE_OF_MEMORY_REQUEST = 0.6
IDLE_CPU_NANOCORES = 1_000_000
"""Of a container that requests nothing: 1m."""
IDLE_MEMORY_BYTES = 8 * 1024**2
CPU_NANOSECONDS_PER_REQUEST = 2_000_000
"""What answering one request costs: 2 ms of one core."""


def cpu_nanocores(spec: Object, note: Callable[[str], str | None], requests_per_second: float) -> int:
    """The present rate, capped by the limit."""
    resources = spec.get("resources") or {}
    override = _nanos(note(notes.CPU))
    if override is not None:
        return override
    request = _nanos((resources.get("requests") or {}).get("cpu"))
    idle = IDLE_CPU_NANOCORES if request is None else int(request * IDLE_SHARE_OF_CPU_REQUEST)
    used = idle + int(requests_per_second * CPU_NANOSECONDS_PER_REQUEST)
    limit = _nanos((resources.get("limits") or {}).get("cpu"))
    return used if limit is None else min(used, limit)


def memory_bytes(spec: Object, note: Callable[[str], str | None]) -> int:
    override = _nanos(note(notes.MEMORY))
    if override is not None:
        return override // 10**9
    request = _nanos(((spec.get("resources") or {}).get("requests") or {}).get("memory"))
    return IDLE_MEMORY_BYTES if request is None else int(request // 10**9 * SHARE_OF_MEMORY_REQUEST)


def exceeds_limit(spec: Object, note: Callable[[str], str | None]) -> bool:
    """Whether the annotations have the container use more memory than it may."""
    wanted, limit = _nanos(note(notes.MEMORY)), _nanos(((spec.get("resources") or {}).get("limits") or {}).get("memory"))
    return wanted is not None and limit is not None and wanted > limit


def _nanos(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return Quantity.of(str(text)).nanos
    except QuantityError:
        return None
