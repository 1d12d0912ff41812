"""`python -m tests.fuzz --seed 1 --requests 100000`: random requests to an API server of its own.

It is killed before its writes are looked for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time

from kubecosm.client.config import ClientConfig
from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster
from tests.conftest import wait_for
from tests.fuzz.run import Fuzzer, Outcome


def fuzz(seed: int, requests: int) -> Outcome:
    """The outcome of one run against an API server that is started for it, killed, and asked again after its restart."""
    with tempfile.TemporaryDirectory(prefix="kubecosm-fuzz-") as folder:
        options = Options(name="fuzz", components=("apiserver",), ephemeral=True)
        with RunningCluster.start(options, environ={**os.environ, "KUBECOSM_HOME": folder}) as cluster:
            cluster.wait_ready()
            config = ClientConfig.from_kubeconfig(cluster.kubeconfig)
            fuzzer = Fuzzer(config, seed, requests)
            asyncio.run(fuzzer.run())
            cluster.request("kill", "apiserver")
            wait_for(lambda: has_restarted(cluster), "the API server serves again")
            asyncio.run(fuzzer.check_writes(config))
            return fuzzer.outcome


def has_restarted(cluster: RunningCluster) -> bool:
    (component,) = cluster.status()["components"]
    return bool(component["restarts"] == 1 and component["state"] == "Running")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run (default: a new one)")
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"fuzz: --seed {seed} --requests {options.requests}", flush=True)
    start = time.monotonic()
    outcome = fuzz(seed, options.requests)
    took = time.monotonic() - start
    print(f"statuses: {dict(sorted(outcome.statuses.items()))}")
    print(
        f"fuzz: {outcome.requests} requests in {took:.0f} s, {outcome.checked_writes} acknowledged objects found again, "
        f"{len(outcome.complaints)} complaints"
    )
    return 1 if outcome.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
