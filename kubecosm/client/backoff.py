"""How long to wait before trying again: exponential with jitter, and forgotten after success."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

RELIST_SECONDS_FIRST = 0.05
"""client-go waits 0.8 s at first; our apiserver is back 0.2 s after it died, and everything waits for the watches."""
RELIST_SECONDS_MAX = 30.0
RELIST_FACTOR = 2.0
RELIST_JITTER = 1.0
"""Each wait is multiplied by one to two, as in client-go's Reflector, so that clients do not come back in step."""


@dataclass
class Backoff:
    """Waits that double from `first` to `max` seconds; every wait is stretched by up to `jitter` of itself."""

    random: Random
    first: float = RELIST_SECONDS_FIRST
    max: float = RELIST_SECONDS_MAX
    factor: float = RELIST_FACTOR
    jitter: float = RELIST_JITTER
    failures: int = 0

    def next_seconds(self) -> float:
        """The wait after one more failure."""
        base = self.first * self.factor ** min(self.failures, 64)
        self.failures += 1
        return min(base, self.max) * (1 + self.jitter * self.random.random())

    def reset(self) -> None:
        """It worked: the next failure waits the first time again."""
        self.failures = 0
