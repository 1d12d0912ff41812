"""Logs of ended containers on disk, in the container runtimes' own format, so that `kubectl logs` outlives the kubelet.

Running containers' logs are written when the kubelet stops cleanly. Leaves out: rotation (a log is bounded in memory already).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from kubecosm.api.times import parse_time
from kubecosm.runtime.logs import get_logger

from ..cri.logs import LogBuffer, LogLine, format_nano_time

NANOSECONDS_BEYOND_MICRO = 3
"""Python's times end at microseconds; the stamps carry three digits more."""

log = get_logger("kubelet")


def _record(line: LogLine) -> bytes:
    stream, tag = ("stderr" if line.is_stderr else "stdout"), ("F" if line.data.endswith(b"\n") else "P")
    return f"{format_nano_time(line.time)} {stream} {tag} ".encode() + line.data.removesuffix(b"\n") + b"\n"


class LogStore:
    """`<root>/pods/<uid>/<container>/<restart count>.log`; nothing is kept without a root. A broken disk loses logs, nothing else."""

    def __init__(self, root: str) -> None:
        self._root = Path(root) / "pods" if root else None
        self._saved: set[str] = set()
        self._has_failed = False

    def save(self, uid: str, container: str, restart: int, buffer: LogBuffer) -> None:
        lines, _ = buffer.lines_from(0)
        if self._root is None or not lines:
            return
        path = self._path(uid, container, restart)
        text = b"".join(map(_record, lines))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            self._saved.add(uid)
        except OSError as failure:
            self._complain(failure)

    def load(self, uid: str, container: str, restart: int) -> LogBuffer:
        """What was saved; an empty buffer if nothing was."""
        buffer = LogBuffer()
        if self._root is None:
            return buffer
        try:
            text = self._path(uid, container, restart).read_bytes()
        except OSError:
            return buffer
        for record in text.splitlines():
            stamp, stream, tag, data = [*record.split(b" ", 3), b"", b"", b""][:4]
            try:
                time = parse_time(stamp.decode()[: -1 - NANOSECONDS_BEYOND_MICRO] + "Z")
            except ValueError:
                continue
            buffer.write(data + (b"\n" if tag == b"F" else b""), time, is_stderr=stream == b"stderr")
        self._saved.add(uid)
        return buffer

    def forget(self, uid: str) -> None:
        """The pod is gone. Cheap for pods that left nothing."""
        if self._root is not None and uid in self._saved:
            self._saved.discard(uid)
            shutil.rmtree(self._root / uid, ignore_errors=True)

    def sweep(self, uids: Iterable[str]) -> None:
        """Remove what pods left that went while the kubelet was away."""
        known = set(uids)
        if self._root is None or not self._root.is_dir():
            return
        for entry in self._root.iterdir():
            if entry.name not in known:
                shutil.rmtree(entry, ignore_errors=True)

    def _path(self, uid: str, container: str, restart: int) -> Path:
        assert self._root is not None
        return self._root / uid / container / f"{restart}.log"

    def _complain(self, failure: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("logs of ended containers cannot be kept", error=str(failure))
