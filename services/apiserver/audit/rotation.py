"""A log file that starts anew when it grows too large, keeping some of the old ones. Named as lumberjack names them."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

STANDARD_OUTPUT = "-"
MEBIBYTE = 1024 * 1024


class RotatingFile:
    """Written by one thread at a time; opened at the first write."""

    def __init__(self, path: str, *, size_max_mib: int, backups_max: int, age_max_days: int) -> None:
        """0 for `backups_max` or `age_max_days`: no bound; 0 for the size: never rotated."""
        self.path = Path(path)
        self._to_stdout = path == STANDARD_OUTPUT
        self._size_max = size_max_mib * MEBIBYTE
        self._backups_max = backups_max
        self._age_max_days = age_max_days

    def write(self, data: bytes, now: datetime) -> None:
        """Append. Raises OSError."""
        if self._to_stdout:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        if self._size_max and self._size() + len(data) > self._size_max and self._size():
            self._rotate(now)
        with open(self.path, "ab", opener=_private) as file:
            file.write(data)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _rotate(self, now: datetime) -> None:
        stamp = now.strftime("%Y-%m-%dT%H-%M-%S.") + f"{now.microsecond // 1000:03d}"
        self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        old = sorted(self.path.parent.glob(f"{self.path.stem}-????-??-??T*{self.path.suffix}"), reverse=True)
        too_many = old[self._backups_max :] if self._backups_max else []
        cut = (now - timedelta(days=self._age_max_days)).timestamp() if self._age_max_days else 0.0
        for file in {*too_many, *(file for file in old if file.stat().st_mtime < cut)}:
            file.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
