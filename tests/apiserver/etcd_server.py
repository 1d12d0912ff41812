"""A real etcd for tests, on a port of its own; tests that need one are skipped where none is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd binary on this machine (Debian: etcd-server)")
START_SECONDS_MAX = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def etcd_server(folder: Path, port: int = 0) -> Iterator[str]:
    """The address of a running etcd, on the port if one is given; what it holds lies in the folder."""
    client, peer = f"http://127.0.0.1:{port or free_port()}", f"http://127.0.0.1:{free_port()}"
    arguments = ["--data-dir", str(folder / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--unsafe-no-fsync"]  # fmt: skip
    supported = "unsafe-no-fsync" in subprocess.run(["etcd", "--help"], capture_output=True, text=True, check=False).stdout
    with open(folder / "etcd.log", "wb") as log:
        process = subprocess.Popen(["etcd", *(arguments if supported else arguments[:-1])], stdout=log, stderr=log)
    try:
        _wait_healthy(client, process)
        yield client
    finally:
        process.kill()
        process.wait()


def _wait_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1) as response:
                if b"true" in response.read():
                    return
        except OSError:
            continue
    raise RuntimeError("etcd did not start")
