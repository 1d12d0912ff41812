"""A cluster as an object, for programs and tests: started here, ended with this process or by `stop`.

    with RunningCluster.start(Options(name="test", nodes=3, ephemeral=True)) as cluster:
        cluster.wait_ready()
        … cluster.kubeconfig …
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from kubecosm.cluster import launch
from kubecosm.cluster.control import Client
from kubecosm.cluster.launch import Options, Prepared, Started
from kubecosm.cluster.nodes import watch_progress
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import StartupError

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 5.0


class RunningCluster:
    """One cluster whose supervisor this process started."""

    def __init__(self, prepared: Prepared, started: Started, clock: Clock) -> None:
        self.paths: ClusterPaths = prepared.paths
        self.spec: ClusterSpec = prepared.spec
        self._started, self._clock = started, clock

    @classmethod
    def start(cls, options: Options, clock: Clock | None = None, environ: Mapping[str, str] = os.environ) -> Self:
        """Starts a cluster and answers at once; `wait_ready` waits. StartupError when it cannot be started."""
        clock = clock or RealClock()
        prepared = launch.prepare(options, environ)
        return cls(prepared, launch.start(prepared, clock, foreground=True), clock)

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    @property
    def supervisor_pid(self) -> int:
        return self._started.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Waits until every component serves and every node is Ready. StartupError with the reason if that fails or takes too long."""
        deadline = self._clock.monotonic() + seconds_max
        state = ""
        while state != "Running":
            status = self._started.client.read_within(max(0.01, deadline - self._clock.monotonic()))
            if status is None or status["state"] == "Failed":
                raise StartupError((status or {}).get("error") or f"the supervisor ended: see {self.paths.log_of('supervisor')}")
            state = status["state"]
        if self.spec.expected_nodes:
            self._wait_nodes(deadline)

    def _wait_nodes(self, deadline: float) -> None:
        ready = 0
        while (left := deadline - self._clock.monotonic()) > 0:
            try:
                for ready in watch_progress(self.spec, self.paths, seconds_max=left):
                    if ready >= self.spec.expected_nodes:
                        return
            except (OSError, http.client.HTTPException):
                continue
        raise StartupError(f"only {ready} of {self.spec.expected_nodes} nodes became Ready in time")

    def status(self) -> dict[str, Any]:
        return self.request("status")

    def request(self, op: str, component: str = "") -> dict[str, Any]:
        """`status`, or `kill`, `pause`, `resume`, `restart` of a component. StartupError when refused."""
        client = Client.connect(self.paths.socket)
        if client is None:
            raise StartupError(f"cluster {self.spec.name} is not running")
        with client:
            return client.request(op, component=component) if component else client.request(op)

    def stop(self) -> None:
        """Stops everything and waits for the end; may be called twice."""
        self._started.client.send("stop")
        self._started.client.wait_end(STOP_SECONDS_MAX)
        self._started.client.close()
        if self._started.process.poll() is None:
            self._started.process.terminate()
        self._started.process.wait()
