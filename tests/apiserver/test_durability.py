"""What was answered is on disk: the real process is killed with SIGKILL under write load, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import orjson
import pytest

from .harness import ADMIN_TOKEN, CONFIGMAPS, TOKENS, configmap

KILLS = 4
WRITERS = 8
WRITES_BEFORE_KILL = (40, 400)
START_SECONDS_MAX = 20.0


class Process:
    """One run of `python -m kubecosm.services.apiserver`; its port comes over the notify descriptor."""

    def __init__(self, folder: Path) -> None:
        reading, writing = os.pipe()
        tokens = folder / "tokens.csv"
        tokens.write_text(TOKENS)
        flags = ["--secure-port=0", f"--data-dir={folder / 'data'}", f"--token-auth-file={tokens}", f"--notify-fd={writing}"]
        command = [sys.executable, "-m", "kubecosm.services.apiserver", *flags]
        self.process = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.PIPE)
        os.close(writing)
        with open(reading, "rb") as pipe:
            told = orjson.loads(pipe.readline())
        assert told["ready"], told
        self.base = f"https://127.0.0.1:{told['ports']['secure']}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})


async def write_until_killed(server: Process, round_number: int, kill_after: int, acknowledged: dict[str, str]) -> None:
    """Creates and updates until the server dies; notes every write that was answered."""
    count = 0

    async def write(client: aiohttp.ClientSession, worker: int) -> None:
        nonlocal count
        for n in range(10_000):
            name = f"r{round_number}-{worker}-{n // 2}"
            method, path = ("POST", CONFIGMAPS) if n % 2 == 0 else ("PUT", f"{CONFIGMAPS}/{name}")
            try:
                async with client.request(method, server.base + path, json=configmap(name, {"n": str(n)})) as response:
                    assert response.status in (200, 201), await response.text()
            except aiohttp.ClientError:
                return
            acknowledged[name] = str(n)
            count += 1
            if count == kill_after:
                server.kill()

    async with session() as client, asyncio.TaskGroup() as tasks:
        for worker in range(WRITERS):
            tasks.create_task(write(client, worker))


async def stored(server: Process) -> dict[str, str]:
    async with session() as client, client.get(server.base + CONFIGMAPS) as response:
        return {item["metadata"]["name"]: item["data"]["n"] for item in (await response.json())["items"]}


@pytest.mark.process
def test_no_acknowledged_write_is_lost_by_kill_9(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown when the test fails
    rng = random.Random(seed)
    acknowledged: dict[str, str] = {}
    for round_number in range(KILLS):
        server = Process(tmp_path)
        asyncio.run(write_until_killed(server, round_number, rng.randrange(*WRITES_BEFORE_KILL), acknowledged))
    server = Process(tmp_path)
    try:
        found = asyncio.run(stored(server))
    finally:
        server.kill()
    lost = {name: n for name, n in acknowledged.items() if int(found.get(name, "-1")) < int(n)}
    assert not lost, f"acknowledged but not stored: {lost}"


@pytest.mark.process
def test_a_corrupt_database_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kubecosm.db").write_bytes(b"not a database at all " * 200)
    done = subprocess.run(
        [sys.executable, "-m", "kubecosm.services.apiserver", "--secure-port=0", f"--data-dir={tmp_path / 'data'}"],
        capture_output=True, text=True, timeout=START_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "the file is not a database: restore it from a copy, or move it away to start empty" in lines[0]
