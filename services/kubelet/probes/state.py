"""One probe of one container as a state machine without I/O or clock (pkg/kubelet/prober/worker.go)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.resources import Object


class ProbeKind(enum.Enum):
    """The value is how messages name the probe."""

    LIVENESS = "Liveness"
    READINESS = "Readiness"
    STARTUP = "Startup"

    @property
    def field(self) -> str:
        return f"{self.value.lower()}Probe"


INITIAL_RESULT: dict[ProbeKind, bool | None] = {ProbeKind.LIVENESS: True, ProbeKind.READINESS: False, ProbeKind.STARTUP: None}
"""What counts until the first verdict; None is unknown."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Object) -> ProbeSettings:
        """From a probe of the spec, with the API's defaults."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            success_threshold=probe.get("successThreshold") or 1,
            failure_threshold=probe.get("failureThreshold") or 3,
        )


class ProbeState:
    """Counts results of one container's probe; `result` is the verdict that counts now."""

    __slots__ = ("_last", "_run", "kind", "on_hold", "result", "settings")

    def __init__(self, kind: ProbeKind, settings: ProbeSettings) -> None:
        self.kind = kind
        self.settings = settings
        self.result = INITIAL_RESULT[kind]
        self.on_hold = False
        self._last: bool | None = None
        self._run = 0

    def first_delay(self, started_at: datetime, now: datetime) -> float:
        """Seconds until the first probe of a container that started then."""
        return max(0.0, self.settings.initial_delay - (now - started_at).total_seconds())

    def observe(self, success: bool) -> bool:
        """Take one result; true if the verdict changed. A failed liveness or startup probe then rests until there is a new container."""
        if success is self._last:
            self._run += 1
        else:
            self._last, self._run = success, 1
        needed = self.settings.success_threshold if success else self.settings.failure_threshold
        if self._run < needed:
            return False
        changed = self.result is not success
        self.result = success
        if self.kind is ProbeKind.STARTUP or (self.kind is ProbeKind.LIVENESS and not success):
            self.on_hold = True
            self._run = 0
        return changed
