"""Certificates and keys besides the server's own that are taken up anew when their files have changed. `tls` looks once a minute."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

log = get_logger("apiserver")


class RotatedFiles:
    """Files that belong together. What cannot be used is told in the log, and looked at again when the files change once more."""

    def __init__(self, what: str, paths: Iterable[str], take_up: Callable[[], None]) -> None:
        """`take_up` reads the files and uses them from then on. It raises StartupError, ssl.SSLError or OSError."""
        self.what = what
        self._paths = tuple(path for path in paths if path)
        self._take_up = take_up
        self._seen = self._stamps()

    def reload_if_changed(self) -> None:
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._take_up()
        except (StartupError, ssl.SSLError, OSError) as error:
            log.error("rotated files cannot be used", what=self.what, error=str(error))
            return
        log.info("rotated files are in use", what=self.what)

    def _stamps(self) -> list[int]:
        return [stamp_of(path) for path in self._paths]


def stamp_of(path: str) -> int:
    """Another one when the file was written; 0 if it is not there."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
