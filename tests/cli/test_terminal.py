"""What a user sees in a terminal: a table that changes in place, and logs in colours."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.conftest import CommandLine

pytestmark = pytest.mark.process


def run_in_terminal(kubecosm: CommandLine, *arguments: str, until: str = "\0") -> str:
    """What a command writes to a terminal until it ends; Ctrl-C is typed when `until` was seen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kubecosm.cli", *arguments]
    with subprocess.Popen(
        command, env=kubecosm.environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:  # fmt: skip
        os.close(theirs)
        seen, interrupted = "", False
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not data:
                break
            seen += data.decode(errors="replace")
            if until in seen and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)
    os.close(ours)
    assert process.returncode == 0, seen
    return seen


def test_up_shows_progress_in_place_and_ends_with_ctrl_c(kubecosm: CommandLine) -> None:
    seen = run_in_terminal(kubecosm, "up", "--components", "apiserver", until="Stop it:")
    assert "\x1b[" in seen  # it moves the cursor
    assert re.search(r"● +apiserver +Running", strip_colours(seen))
    assert "Cluster default is stopped" in seen


def test_logs_are_readable_in_a_terminal(kubecosm: CommandLine) -> None:
    kubecosm("up", "--components", "apiserver", "--detach")
    seen = strip_colours(run_in_terminal(kubecosm, "logs", "supervisor"))
    assert "info    supervisor started process=apiserver" in seen
    kubecosm("down")


def strip_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
