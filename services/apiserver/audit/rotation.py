"""A log file that starts anew when it grows too large, keeping some of the old ones. Named, and compressed, as lumberjack does it."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path

STANDARD_OUTPUT = "-"
MEBIBYTE = 1024 * 1024
COMPRESSED = ".gz"


class RotatingFile:
    """Written by one thread at a time; opened at the first write, and kept open until it rotates."""

    def __init__(self, path: str, *, size_max_mib: int, backups_max: int, age_max_days: int, compresses: bool = False) -> None:
        """0 for `backups_max` or `age_max_days`: no bound; 0 for the size: never rotated."""
        self.path = Path(path)
        self._to_stdout = path == STANDARD_OUTPUT
        self._size_max = size_max_mib * MEBIBYTE
        self._backups_max = backups_max
        self._age_max_days = age_max_days
        self._compresses = compresses
        self._file = -1
        self._size = 0

    def write(self, data: bytes, now: datetime) -> bool:
        """Append; True if the file has started anew, so that the old ones want to be looked after. Raises OSError."""
        if self._to_stdout:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return False
        if self._file < 0:
            self._open()
        rotates = 0 < self._size_max < self._size + len(data) and self._size > 0
        if rotates:
            self.close()
            self.path.rename(self._backup(now))
            self._open()
        while data:
            written = os.write(self._file, data)
            self._size += written
            data = data[written:]
        return rotates

    def close(self) -> None:
        """The next write opens it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _backup(self, now: datetime) -> Path:
        stamp = now.strftime("%Y-%m-%dT%H-%M-%S.") + f"{now.microsecond // 1000:03d}"
        return self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}")

    def tidy(self, now: datetime) -> None:
        """Remove old files beyond the bounds, and compress the others if told to. Raises OSError."""
        pattern = f"{self.path.stem}-????-??-??T*{self.path.suffix}"
        folder = self.path.parent
        old = sorted((*folder.glob(pattern), *folder.glob(pattern + COMPRESSED)), key=lambda file: file.name, reverse=True)
        too_many = old[self._backups_max :] if self._backups_max else []
        cut = (now - timedelta(days=self._age_max_days)).timestamp() if self._age_max_days else 0.0
        gone = {*too_many, *(file for file in old if file.stat().st_mtime < cut)}
        for file in gone:
            file.unlink(missing_ok=True)
        if self._compresses:
            for file in old:
                if file not in gone and file.suffix != COMPRESSED:
                    compress(file)


def compress(file: Path) -> None:
    """Put a file's compressed form in its place, with its age and rights."""
    target = file.with_name(file.name + COMPRESSED)
    private = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(file, "rb") as source, open(private, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        shutil.copyfileobj(source, packed)
    shutil.copystat(file, target)
    file.unlink()
