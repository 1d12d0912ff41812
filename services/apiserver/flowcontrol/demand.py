"""How many seats a priority level could have used lately: what borrowing is decided by.

Imitates the seat demand integrator and its smoothing in apiserver/pkg/util/flowcontrol.
"""

from __future__ import annotations

from math import sqrt

SMOOTHING = 0.977
"""Share of the old value that a falling demand keeps per period: a peak is half forgotten after five minutes."""


class Demand:
    """Integrates the number of seats taken or waited for over a period."""

    __slots__ = ("_area", "_at", "_began", "_squares", "deviation", "highest", "mean", "smoothed", "value")

    def __init__(self, now: float) -> None:
        self.value = self.highest = 0
        self.smoothed = self.mean = self.deviation = 0.0
        self._at = self._began = now
        self._area = self._squares = 0.0

    def change(self, by: int, now: float) -> None:
        """The demand grows (or falls) by so many seats."""
        value = self.value
        if value:
            part = value * (now - self._at)
            self._area += part
            self._squares += part * value
        self._at = now
        self.value = value = value + by
        if value > self.highest:
            self.highest = value

    def end_period(self, now: float) -> float:
        """Start the next period; answers the smoothed demand as of this one: mean plus deviation, falling only slowly."""
        self.change(0, now)
        length = now - self._began
        self.mean = mean = self._area / length if length > 0 else float(self.value)
        self.deviation = deviation = sqrt(max(0.0, self._squares / length - mean * mean)) if length > 0 else 0.0
        envelope = mean + deviation
        self.smoothed = max(envelope, SMOOTHING * self.smoothed + (1 - SMOOTHING) * envelope)
        self.highest, self._began = self.value, now
        self._area = self._squares = 0.0
        return self.smoothed
