"""Overload: one greedy user beyond the server's capacity, while nodes, a leader and another user go about their work."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from .targets import Kubecosm

GREEDY, QUIET, NODE, LEADER, ADMIN = "greedy-token", "quiet-token", "node-token", "leader-token", "admin-token"
TOKENS = (
    f"{GREEDY},greedy,1,devs\n{QUIET},quiet,2,devs\n{NODE},system:node:n1,3,system:nodes\n"
    f'{LEADER},system:kube-scheduler,4,x\n{ADMIN},admin,5,"system:masters"\n'
)
GREEDY_SCRIPT = Path(__file__).with_name("greedy.py")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
NODE_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
OBJECTS = 1000
PAUSE_SECONDS = 0.02


@dataclass
class Victim:
    """Somebody who only wants to do his work."""

    name: str
    token: str
    method: str
    path: str
    body: Any = None
    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    async def work(self, session: aiohttp.ClientSession, base: str) -> None:
        """One request after the other, with pauses, until cancelled."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/merge-patch+json"}
        while True:
            began = time.perf_counter()
            async with session.request(self.method, base + self.path, json=self.body, headers=headers) as response:
                await response.read()
            self.seconds.append(time.perf_counter() - began)
            self.errors += response.status >= 400
            await asyncio.sleep(PAUSE_SECONDS)

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.seconds)
        p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
        return {"requests": len(ordered), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "errors": self.errors}


def victims() -> list[Victim]:
    renewal = {"spec": {"holderIdentity": "me"}}
    return [
        Victim("node lease", NODE, "PATCH", NODE_LEASE, renewal),
        Victim("kubelet status", NODE, "PATCH", "/api/v1/nodes/n1/status", {"status": {"phase": "Running"}}),
        Victim("leader election", LEADER, "PATCH", f"{LEASES}/leader", renewal),
        Victim("another user", QUIET, "GET", "/api/v1/namespaces/default/configmaps/c1"),
    ]


async def prepare(session: aiohttp.ClientSession, base: str, objects: int) -> None:
    """What the victims and the greedy user work on."""
    headers = {"Authorization": f"Bearer {ADMIN}"}

    async def create(path: str, body: Any) -> None:
        async with session.post(base + path, json=body, headers=headers) as response:
            assert response.status in (201, 409), await response.text()

    await create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    for lease in (NODE_LEASE, f"{LEASES}/leader"):
        collection, _, name = lease.rpartition("/")
        await create(collection, {"metadata": {"name": name}})
    for n in range(objects):
        await create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"c{n}"}, "data": {"k": "x" * 200}})


async def measure(base: str, *, seconds: float, connections: int, objects: int = OBJECTS) -> tuple[Sequence[Victim], dict[str, int]]:
    """The victims' experience while the greedy user asks for everything; and his own answers by status."""
    everybody = victims()
    port = urlsplit(base).port
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        await prepare(session, base, objects)
        command = [sys.executable, str(GREEDY_SCRIPT), str(port), GREEDY, str(connections), "/api/v1/namespaces/default/configmaps"]
        greedy = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert greedy.stdout is not None
        await greedy.stdout.readline()
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(victim.work(session, base)) for victim in everybody]
            await asyncio.sleep(seconds)
            for task in working:
                task.cancel()
        told, _ = await greedy.communicate(b"")
    return everybody, json.loads(told)


def run(seconds: float, connections: int = 500) -> None:
    """With priority and fairness, and without."""
    for enabled in ("true", "false"):
        target = Kubecosm(components=("apiserver",), settings=(f"apiserver.enable-priority-and-fairness={enabled}",))
        target.home.joinpath("overload.csv").write_text(TOKENS)
        tokens = f"apiserver.token-auth-file={target.home / 'overload.csv'}"
        target.settings = (*target.settings, tokens, "apiserver.authorization-mode=AlwaysAllow")
        with target:
            everybody, answers = asyncio.run(measure(target.url, seconds=seconds, connections=connections))
        print(f"priority and fairness {enabled}: greedy user got {answers}")
        for victim in everybody:
            print(f"  {victim.name:<16}", "  ".join(f"{k} {v:,}" for k, v in victim.figures().items()), flush=True)


if __name__ == "__main__":
    run(float(sys.argv[1]) if len(sys.argv) > 1 else 8.0)
