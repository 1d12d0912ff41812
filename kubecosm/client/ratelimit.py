"""A token bucket for requests (client-go's flowcontrol): so many a second, and a burst of some more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock


class RateLimiter:
    """`burst` requests at once, then `per_second`. Those who wait are served in the order they came."""

    def __init__(self, per_second: float, burst: int, clock: Clock) -> None:
        """ValueError for a rate that is not positive."""
        if per_second <= 0 or burst < 1:
            raise ValueError("a rate limit needs a positive rate and a burst of at least 1")
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._tokens, self._at = float(burst), clock.monotonic()

    async def wait(self) -> float:
        """Return when the next request may be sent; how many seconds that took."""
        now = self._clock.monotonic()
        self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._per_second) - 1
        self._at = now
        if self._tokens >= 0:
            return 0.0
        seconds = -self._tokens / self._per_second
        await self._clock.sleep(seconds)
        return seconds
