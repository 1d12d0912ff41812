"""One greedy user asks for more than the server can give: everybody else is served as if he were not there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench.overload import TOKENS, measure

CONNECTIONS, OBJECTS, SECONDS = 150, 300, 2.0
GREEDY_SHARE_MAX = 0.5
"""Of the time that the greedy user waits for one answer: without fair queuing all wait equally long."""


@pytest.mark.process
def test_nodes_leaders_and_other_users_are_unharmed_by_a_greedy_one(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(TOKENS)
    reading, writing = os.pipe()
    flags = ["--secure-port=0", "--storage-backend=memory", f"--token-auth-file={tokens}", f"--notify-fd={writing}"]
    flags += ["--max-requests-inflight=40", "--max-mutating-requests-inflight=20"]
    command = [sys.executable, "-m", "kubecosm.services.apiserver", *flags]
    with subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with open(reading, "rb") as pipe:
            port = orjson.loads(pipe.readline())["ports"]["secure"]
        try:
            work = measure(f"https://127.0.0.1:{port}", seconds=SECONDS, connections=CONNECTIONS, objects=OBJECTS)
            everybody, answers = asyncio.run(work)
        finally:
            server.terminate()
    assert set(answers) <= {"200", "429"}
    greedy_seconds = CONNECTIONS * SECONDS / answers["200"]
    for victim in everybody:
        assert victim.errors == 0, victim
        assert len(victim.seconds) > 2, victim.name
        assert sorted(victim.seconds)[len(victim.seconds) // 2] < GREEDY_SHARE_MAX * greedy_seconds, (victim.figures(), answers)
