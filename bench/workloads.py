"""Whole-cluster work: how long until the pods of Deployments are Ready, and whether a rolling update loses a request."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

from .processes import pss_mib
from .targets import Kubecosm, Session

NODES = 20
WAIT_SECONDS_MAX = 180.0
UPDATE_REPLICAS = 20
CLIENTS = 4
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str, replicas: int, *, version: str = "1") -> dict:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"version": version}},
                "spec": {"containers": [{"name": "main", "image": "nginx:1.27", "ports": [{"containerPort": 8080}]}]},
            },
        },
    }  # fmt: skip


def wait_ready(session: Session, wanted: int, seconds_max: float = WAIT_SECONDS_MAX) -> float:
    """The moment (time.perf_counter) at which the Deployments have so many ready replicas in all."""
    deadline = time.perf_counter() + seconds_max
    while time.perf_counter() < deadline:
        items = session.call("/apis/apps/v1/deployments", method="GET")["items"]
        if sum((item.get("status") or {}).get("readyReplicas", 0) for item in items) >= wanted:
            return time.perf_counter()
        time.sleep(0.05)
    raise TimeoutError(f"not {wanted} ready replicas after {seconds_max:g} s")


def measure_deployment(replicas: int, deployments: int = 1) -> dict[str, float]:
    """Create so many Deployments with so many replicas each and wait until all pods are Ready."""
    with Kubecosm(nodes=max(NODES, replicas * deployments // 100 + 1)) as cluster:
        session = Session(cluster.url, cluster.token)
        started = time.perf_counter()
        for number in range(deployments):
            session.call(DEPLOYMENTS, deployment(f"bench-{number}", replicas))
        seconds = wait_ready(session, replicas * deployments) - started
        pods = replicas * deployments
        return {"seconds": round(seconds, 2), "pods_per_s": round(pods / seconds), "pss_mib": round(pss_mib(cluster.pids()), 1)}


def measure_rolling_update() -> dict[str, float]:
    """A rolling update of 20 replicas while clients ask its NodePort without pause."""
    with Kubecosm(nodes=3) as cluster:
        session = Session(cluster.url, cluster.token)
        session.call(DEPLOYMENTS, deployment("web", UPDATE_REPLICAS))
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }  # fmt: skip
        port = session.call("/api/v1/namespaces/default/services", service)["spec"]["ports"][0]["nodePort"]
        wait_ready(session, UPDATE_REPLICAS)
        clients = [Client(port) for _ in range(CLIENTS)]
        _wait_first_answers(clients)
        started = time.perf_counter()
        patch = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
        session.call(f"{DEPLOYMENTS}/web", patch, "PATCH", "application/merge-patch+json")
        _wait_updated(session)
        seconds = time.perf_counter() - started
        for client in clients:
            client.stop()
        return {"seconds": round(seconds, 2), "requests": sum(c.answered for c in clients), "failed": sum(c.failed for c in clients)}


def _wait_first_answers(clients: list[Client]) -> None:
    deadline = time.perf_counter() + WAIT_SECONDS_MAX
    while not all(c.answered for c in clients):
        if time.perf_counter() > deadline:
            raise TimeoutError("the Service does not answer")
        time.sleep(0.02)
    for client in clients:
        client.failed = 0


def _wait_updated(session: Session) -> None:
    deadline = time.perf_counter() + WAIT_SECONDS_MAX
    while time.perf_counter() < deadline:
        item = session.call(f"{DEPLOYMENTS}/web", method="GET")
        status = item["status"]
        if (
            status.get("observedGeneration") == item["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas") == UPDATE_REPLICAS
        ):
            return
        time.sleep(0.05)
    raise TimeoutError("the rolling update did not finish")


class Client:
    """Asks 127.0.0.1:port in a loop, a new connection each time, and counts."""

    def __init__(self, port: int) -> None:
        self.answered = self.failed = 0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                self.answered += answer.status == 200
                self.failed += answer.status != 200
            except (OSError, http.client.HTTPException):
                self.failed += 1
            finally:
                connection.close()


def measure() -> Iterator[tuple[str, dict[str, float]]]:
    yield "Deployment of 1,000 to all Ready", measure_deployment(1000)
    yield "Deployment of 2,000 to all Ready", measure_deployment(2000)
    yield "600 Deployments of 1 to all Ready", measure_deployment(1, 600)
    yield f"rolling update of {UPDATE_REPLICAS} under requests", measure_rolling_update()
