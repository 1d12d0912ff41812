"""Runs wrk with one of the scripts in wrk/ and reads its result."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "wrk"
THREADS = 2


@dataclass(frozen=True)
class Load:
    """What one run gave; latencies in milliseconds."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int

    def as_dict(self) -> dict[str, float]:
        figures = {"per_s": round(self.requests_per_second, 1), "p50_ms": round(self.p50_ms, 2), "p99_ms": round(self.p99_ms, 2)}
        return figures | {"errors": self.errors}


def run(script: str, url: str, *, token: str, seconds: float, connections: int, **variables: str) -> Load:
    """Load `url` for so many seconds; `variables` become BENCH_… for the script. RuntimeError if wrk is missing or fails."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk (or brew install wrk)")
    environ = os.environ | {"BENCH_TOKEN": token} | {f"BENCH_{k.upper()}": v for k, v in variables.items()}
    command = [
        program, f"-t{min(THREADS, connections)}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s",
        "-s", str(SCRIPTS / f"{script}.lua"), url,
    ]  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), "")
    if not line:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    requests, duration_us, p50_us, p99_us, bad_status, bad_socket = (float(x) for x in line.split()[1:])
    return Load(requests / (duration_us / 1e6), p50_us / 1000, p99_us / 1000, int(bad_status + bad_socket))
