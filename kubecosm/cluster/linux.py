"""The few Linux calls that Python lacks: die with the parent, process titles. Elsewhere they do nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
ARG_START_FIELD, ARG_END_FIELD = 47, 48  # zero-based positions in /proc/self/stat
COMMAND_NAME_BYTES_MAX = 15


def die_with_parent(parent: int) -> None:
    """Asks the kernel to SIGKILL this process when its parent (whose pid is `parent`) ends; ends it now if that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def set_title(title: str) -> None:
    """Replaces the command line that `ps` shows, cut to the room there is: forked children would all show their ancestor's."""
    if sys.platform != "linux":
        return
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[ARG_START_FIELD - 2]), int(fields[ARG_END_FIELD - 2])
    room = end - start
    if start and room > 1:
        ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


def set_command_name(name: str) -> None:
    """Sets the short name that `top` shows."""
    if sys.platform == "linux":
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(name[:COMMAND_NAME_BYTES_MAX])
