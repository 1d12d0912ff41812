"""The configuration files of authentication and authorization are read again when they have changed.

Imitates pkg/server/options: the files are looked at once a minute; one that cannot be used leaves things as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

log = get_logger("apiserver")

LABELS = ("apiserver_id_hash", "status")


class Reloads:
    """How often a file was taken up anew. `kind` is authentication, authorization or encryption, as metrics name it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.by_status: dict[str, tuple[int, float]] = {}
        """success or failure → how often, and when last (Unix time)."""

    def count(self, status: str, moment: datetime) -> None:
        self.by_status[status] = (self.by_status.get(status, (0, 0.0))[0] + 1, moment.timestamp())


class ConfigFile(Reloads):
    """One file that is in use."""

    def __init__(self, kind: str, path: str, take_up: Callable[[], None], clock: Clock) -> None:
        """`take_up` reads the file anew and uses it from then on. It raises StartupError."""
        super().__init__(kind)
        self._path = path
        self._take_up = take_up
        self._clock = clock
        self._content = self._read()

    def reload_if_changed(self) -> None:
        """Take up what has changed; what cannot be used is told in the log, once."""
        content = self._read()
        if content == self._content:
            return
        self._content = content
        status = "success"
        try:
            self._take_up()
            log.info("configuration reloaded", file=self._path)
        except StartupError as error:
            status = "failure"
            log.error("configuration cannot be used: the old one stays", error=str(error))
        self.count(status, self._clock.now())

    def _read(self) -> bytes:
        try:
            return Path(self._path).read_bytes()
        except OSError:
            return b""


class ReloadMetrics:
    """apiserver_{authentication,authorization,encryption}_config_controller_*, by Kubernetes' names."""

    def __init__(self, files: Sequence[Reloads], identity: str) -> None:
        self._files = files
        self._hash = f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"

    def collect(self) -> Iterable[Metric]:
        for file in self._files:
            name = f"apiserver_{file.kind}_config_controller_automatic_reload"
            total = CounterMetricFamily(f"{name}s", f"Total number of automatic reloads of {file.kind} configuration.", labels=LABELS)
            last = GaugeMetricFamily(f"{name}_last_timestamp_seconds", f"Timestamp of the last one of {file.kind}.", labels=LABELS)
            for status, (count, moment) in file.by_status.items():
                total.add_metric((self._hash, status), count)
                last.add_metric((self._hash, status), moment)
            yield total
            yield last
