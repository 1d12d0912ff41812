"""The demonstration: a cluster starts, a web application runs on it, things break, the cluster heals. Exit code 0 if all was seen.

    make demo        or        python deploy/demo.py

Needs nothing but kubecosm: no kubectl, no Docker, no root. Leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import dns.asyncquery
import dns.exception
import dns.message
import yaml

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import is_condition_true
from kubecosm.api.resources import BUILTIN, DEPLOYMENTS, ENDPOINTSLICES, NODES, PODS, SERVICES, Object
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import ApiClient
from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster
from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.errors import StartupError

MANIFEST = Path(__file__).parent / "manifests" / "guestbook.yaml"
NAMESPACE = "default"
STEP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
VISITS = 100
T = TypeVar("T")
TRANSIENT = (ApiError, aiohttp.ClientError, OSError, asyncio.TimeoutError, dns.exception.DNSException)


def say(text: str) -> None:
    print(text, flush=True)


async def until(what: str, look: Callable[[], Awaitable[T | None]]) -> T:
    """Looks until there is something to see, and says how long it took; StartupError after STEP_SECONDS_MAX."""
    begun = time.monotonic()
    problem = "nothing seen"
    while time.monotonic() - begun < STEP_SECONDS_MAX:
        try:
            if (seen := await look()) is not None:
                say(f"  ✓ {what} ({time.monotonic() - begun:.2f} s)")
                return seen
        except TRANSIENT as error:
            problem = f"{type(error).__name__}: {error}"
        await asyncio.sleep(POLL_SECONDS)
    raise StartupError(f"the demonstration waited in vain: {what} ({problem})")


class Demo:
    """The steps, each of which says what it saw."""

    def __init__(self, cluster: RunningCluster, client: ApiClient, http: aiohttp.ClientSession) -> None:
        self.cluster, self.client, self.http = cluster, client, http
        self.url = ""  # of the frontend, once it is known

    async def deploy(self) -> None:
        say(f"\nDeploying {MANIFEST.name}")
        for manifest in yaml.safe_load_all(MANIFEST.read_text()):
            resource = BUILTIN.by_kind(manifest["apiVersion"], manifest["kind"])
            assert resource is not None
            created = await self.client.create(resource, manifest, NAMESPACE)
            say(f"  {resource.singular}/{created['metadata']['name']} created")
        await until("every Deployment is Available", self.deployments_available)
        await until("the frontend has 3 ready endpoints", lambda: self.endpoints("frontend", 3))
        for pod in (await self.client.list(PODS, NAMESPACE))["items"]:
            say(f"    {pod['metadata']['name']:<36} {pod['status']['phase']:<8} {pod['status']['podIP']:<14} on {pod['spec']['nodeName']}")

    async def deployments_available(self) -> bool | None:
        items = (await self.client.list(DEPLOYMENTS, NAMESPACE))["items"]
        done = all(d.get("status", {}).get("availableReplicas", 0) == d["spec"]["replicas"] for d in items)
        return done or None

    async def endpoints(self, service: str, count: int) -> list[str] | None:
        slices = (await self.client.list(ENDPOINTSLICES, NAMESPACE, label_selector=f"kubernetes.io/service-name={service}"))["items"]
        ready = [a for s in slices for e in s.get("endpoints") or () if e["conditions"].get("ready") for a in e["addresses"]]
        return ready if len(ready) == count else None

    async def visit(self) -> None:
        """The frontend answers at its node port, and the DNS knows its Service."""
        service = await self.client.get(SERVICES, "frontend", NAMESPACE)
        node = (await self.client.list(NODES))["items"][0]
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        self.url = f"http://{address}:{service['spec']['ports'][0]['nodePort']}/"
        say(f"\nVisiting the frontend at its node port, {self.url}")
        page = await until("a pod answered", lambda: self.fetch(self.url))
        say("    " + "\n    ".join(page.strip().splitlines()[:4]))
        name = f"frontend.{NAMESPACE}.svc.cluster.local"
        found = await until(f"the cluster DNS resolves {name}", lambda: self.resolve(name))
        say(f"    {name} is {found}, the Service's address is {service['spec']['clusterIP']}")
        if found != service["spec"]["clusterIP"]:
            raise StartupError("the cluster DNS answers with another address than the Service has")

    async def fetch(self, url: str) -> str | None:
        async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return await answer.text() if answer.status == 200 else None

    async def resolve(self, name: str) -> str | None:
        server = str(self.cluster.spec.slots.dns_service_ip)
        query = dns.message.make_query(name, "A")
        for port in (53, 10053):  # port 53 where the machine lets us, and always the high one
            try:
                answer = await dns.asyncquery.udp(query, server, timeout=0.5, port=port)
            except (OSError, dns.exception.Timeout):
                continue
            if answer.answer:
                return str(answer.answer[0][0])
        return None

    async def kill_apiserver(self) -> None:
        say("\nKilling the API server (SIGKILL) while the frontend is being visited")
        before = self.process("apiserver")
        self.cluster.request("kill", "apiserver")
        answered = [await self.fetch(self.url) is not None for _visit in range(VISITS)]
        say(f"  ✓ {sum(answered)} of {VISITS} visits were answered without it")
        if not all(answered):
            raise StartupError("the Service did not outlive the API server")
        await until("it is back, and knows its objects", self.deployments_available)
        after = self.process("apiserver")
        say(f"    process {before['pid']} became {after['pid']}; restarts: {after['restarts']}")
        if after["pid"] == before["pid"]:
            raise StartupError("the API server was not restarted")

    def process(self, component: str) -> Object:
        found: Object = next(c for c in self.cluster.status()["components"] if c["name"] == component)
        return found

    async def kill_pod(self) -> None:
        pods = (await self.client.list(PODS, NAMESPACE, label_selector="app=guestbook,tier=frontend"))["items"]
        victim, old = pods[0]["metadata"]["name"], {pod["metadata"]["uid"] for pod in pods}
        say(f"\nDeleting the pod {victim} at once")
        await self.client.delete(PODS, victim, NAMESPACE, options={"gracePeriodSeconds": 0})

        async def replaced() -> str | None:
            now = (await self.client.list(PODS, NAMESPACE, label_selector="app=guestbook,tier=frontend"))["items"]
            ready = [pod for pod in now if is_condition_true(pod, "Ready")]
            new = [pod["metadata"]["name"] for pod in ready if pod["metadata"]["uid"] not in old]
            return new[0] if new and len(ready) == 3 else None

        new = await until("its ReplicaSet made another, and it is Ready", replaced)
        say(f"    {victim} became {new}")
        await until("the Service sends traffic to 3 pods again", lambda: self.endpoints("frontend", 3))


async def tour(cluster: RunningCluster) -> None:
    config = ClientConfig.from_kubeconfig(cluster.kubeconfig)
    async with ApiClient(config, clock=RealClock(), user_agent="kubecosm-demo") as client, aiohttp.ClientSession() as http:
        demo = Demo(cluster, client, http)
        await demo.deploy()
        await demo.visit()
        await demo.kill_apiserver()
        await demo.kill_pod()


def main() -> int:
    begun = time.monotonic()
    try:
        say("Starting a cluster with three nodes")
        with RunningCluster.start(Options(name=f"demo-{os.getpid()}", nodes=3, ephemeral=True)) as cluster:
            cluster.wait_ready()
            say(f"  ✓ every component serves, every node is Ready ({time.monotonic() - begun:.2f} s): {cluster.spec.server}")
            asyncio.run(tour(cluster))
            say("\nStopping the cluster")
            stopping = time.monotonic()
        say(f"  ✓ nothing is left ({time.monotonic() - stopping:.2f} s)")
    except (StartupError, *TRANSIENT) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"\nAll of it took {time.monotonic() - begun:.1f} s. Your own cluster: `kubecosm up`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
