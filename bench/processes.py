"""What the operating system knows of processes: proportional memory, CPU time, free ports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

STOP_SECONDS_MAX = 20


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size of all the processes together, in MiB: shared pages are counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found.group(1)) if found else 0
    return total / 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time used so far by the processes."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop_all(processes: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Ask in reverse order of start, insist after STOP_SECONDS_MAX."""
    for process in reversed(processes):
        process.send_signal(number)
    for process in processes:
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
