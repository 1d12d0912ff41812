"""Room on the disk that is set aside, so that when nothing else can be written any more there is some left for deletes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

RESERVE_SUFFIX = "-reserve"
"""Of the database's name."""
RESERVE_BYTES = 4 * 1024 * 1024
"""What SQLite's write-ahead log grows to before it is taken up by the database and begun again."""
ROOM_BYTES_MIN = 2 * RESERVE_BYTES
"""So much must be free before room is set aside anew, and before others than removals are written again."""


class Reserve:
    """A file beside the database. What cannot be set aside is not: the disk is too full, or knows no such thing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_spent = False
        """Whether it was set aside and is being used: by removals alone."""
        if not path.exists() or path.stat().st_size != RESERVE_BYTES:
            self.keep()

    def keep(self) -> None:
        """Set room aside, if there is enough."""
        free = os.statvfs(self._path.parent)
        if free.f_bavail * free.f_frsize < ROOM_BYTES_MIN:
            return
        try:
            with open(self._path, "wb") as file:
                _fill(file)
        except OSError:
            self._path.unlink(missing_ok=True)
        else:
            self.is_spent = False

    def spend(self) -> None:
        """Let removals have the room."""
        self._path.unlink(missing_ok=True)
        self.is_spent = True


def _fill(file: BinaryIO) -> None:
    """Raises OSError without room. macOS has no call for it."""
    if sys.platform == "linux":
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
    else:
        file.write(bytes(RESERVE_BYTES))
