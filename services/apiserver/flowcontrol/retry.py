"""How long rejected clients are told to stay away: doubles while a level goes on rejecting, shrinks second by second.

Imitates dropped_requests_tracker.go.
"""

from __future__ import annotations

from collections import deque

RETRY_AFTER_SECONDS_MAX = 32


class RetryAfter:
    """One level's advice."""

    def __init__(self) -> None:
        self.seconds = 1
        self._history: deque[tuple[int, int]] = deque(maxlen=RETRY_AFTER_SECONDS_MAX + 1)  # (second, rejected in it)
        self._second = self._rejected = 0
        self._changed_at = 0

    def rejected(self, now: float) -> int:
        """Count a rejection; the seconds to tell the client."""
        second = int(now)
        if second == self._second:
            self._rejected += 1
            return self.seconds
        self._history.append((self._second, self._rejected))
        self._second, self._rejected = second, 1
        self._adjust(second)
        return self.seconds

    def _adjust(self, second: int) -> None:
        lately = sum(count for at, count in self._history if second - self.seconds <= at < second)
        if second - self._changed_at >= self.seconds and lately >= 3 * self.seconds:
            self.seconds, self._changed_at = min(2 * self.seconds, RETRY_AFTER_SECONDS_MAX), second
        elif lately < self.seconds and self.seconds > 1:
            self.seconds -= 1
