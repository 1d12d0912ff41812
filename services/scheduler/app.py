"""The scheduler process: informers, health, leader election, and the engine once there is a pod to schedule.

numpy and all that builds on it take a tenth of a second to load. That, and fifteen megabytes, are put off until the first pod needs a node.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.client.config import ClientConfig
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import LEAN_JSON, ApiClient
from kubecosm.client.informer import InformerFactory, drop_managed_fields
from kubecosm.client.leaderelection import LeaderElector, LeadershipLost
from kubecosm.client.metrics import Meter, PrometheusClientMetrics
from kubecosm.client.ratelimit import RateLimiter
from kubecosm.client.series import SeriesRecorder
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.health import HealthServer
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo

from .config import Config
from .configuration import SchedulerConfiguration, load
from .debug import SchedulerEndpoints
from .metrics import SchedulerMetrics
from .watched import pods_of, slim, watch_all

USER_AGENT = "kube-scheduler"
CONNECTIONS_MARGIN = 16
"""Connections besides those of bindings: status patches, events, the lease."""


log = get_logger("kube-scheduler")


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Run the scheduler until `stop`. `on_ready` is called when all caches are complete."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy is used for small arrays: its threads would only take memory
    rng = random.Random(config.random_seed or None)
    settings = load(config.config, config.percentage_of_nodes_to_score)
    metrics = Metrics()
    client_metrics = PrometheusClientMetrics(metrics.registry)
    async with AsyncExitStack() as stack:
        connections = config.bindings_in_flight_max + CONNECTIONS_MARGIN
        client_config = ClientConfig.from_kubeconfig(config.kubeconfig or settings.kubeconfig)
        client = await stack.enter_async_context(
            ApiClient(
                client_config, clock=clock, user_agent=USER_AGENT, metrics=client_metrics, connections_max=connections,
                limiter=_limiter(settings, clock), accept=LEAN_JSON,
            )
        )
        synced = asyncio.Event()
        checks = {"informer-sync": lambda: None if synced.is_set() else "the caches are not complete"}
        endpoints = SchedulerEndpoints(metrics, readyz=checks, configuration=lambda: _configz(settings, config))
        server = await stack.enter_async_context(HealthServer(endpoints, config.metrics_bind_address))
        process = Process(config, settings, client, endpoints, metrics, clock, rng, client_metrics.meter)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(process.run(synced), name="scheduler")]
            await synced.wait()
            on_ready(ReadyInfo(ports={"metrics": server.port}))
            await stop.wait()
            for task in running:
                task.cancel()


def _configz(settings: SchedulerConfiguration, config: Config) -> Mapping[str, Any]:
    from .configuration.effective import effective  # seldom asked for

    return effective(settings, config)


def _limiter(settings: SchedulerConfiguration, clock: Clock) -> RateLimiter | None:
    """Only who asks for a limit has one."""
    rate = settings.requests_per_second
    return RateLimiter(rate, settings.requests_burst, clock) if rate else None


class Process:
    """What runs between start and stop."""

    def __init__(
        self, config: Config, settings: SchedulerConfiguration, client: ApiClient, endpoints: SchedulerEndpoints, metrics: Metrics,
        clock: Clock, rng: random.Random, meter: Meter,
    ) -> None:  # fmt: skip
        self._meter = meter
        self._config, self._settings, self._client, self._endpoints = config, settings, client, endpoints
        self._metrics, self._clock, self._rng = SchedulerMetrics(metrics), clock, rng
        self._factory = InformerFactory(client, clock, random=rng, transform=drop_managed_fields if settings.extenders else slim)
        host = socket.gethostname()
        names = [profile.scheduler_name for profile in settings.profiles]
        self._recorders = {name: SeriesRecorder(client, name, f"{name}-{host}", clock) for name in names}
        self._identity = f"{host}_{rng.getrandbits(64):016x}"

    async def run(self, synced: asyncio.Event) -> None:
        """Follow the API server, and schedule while being the leader."""
        watch_all(self._factory)
        self._endpoints.pods = pods_of(self._factory).store.list
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._factory.run(), name="informers")
            for name, recorder in self._recorders.items():
                tasks.create_task(recorder.run(), name=f"events-{name}")
            await self._factory.wait_synced()
            synced.set()
            election = self._settings.leader_election.leader_elect
            if self._config.leader_elect if election is None else election:
                told = EventRecorder(self._client, USER_AGENT, self._clock)
                tasks.create_task(told.run(), name="events-election")
                await self._lead(self._elector(told))
            else:
                await self._schedule()

    async def _schedule(self) -> None:
        """Rest until the first pod wants a node; then schedule until cancelled. A configuration file is checked by loading at once."""
        if not self._config.config:
            await self._wait_pending_pod()
        from .engine import run_engine

        await run_engine(
            self._config, self._settings, self._client, self._factory, self._recorders, self._metrics, self._clock, self._rng,
            lambda explainer: setattr(self._endpoints, "explainer", explainer),
        )  # fmt: skip

    async def _wait_pending_pod(self) -> None:
        found = asyncio.Event()

        def look(pod: Object) -> None:
            if not pod["spec"].get("nodeName"):
                found.set()

        pods_of(self._factory).add_handler(look)
        await found.wait()

    async def _lead(self, elector: LeaderElector) -> None:
        """StartupError when the Lease is lost: a new process begins with clean caches."""
        try:
            await elector.run(self._schedule)
        except LeadershipLost as error:
            raise StartupError(f"leaderelection lost: {error}") from error

    def _elector(self, recorder: EventRecorder) -> LeaderElector:
        config, file = self._config, self._settings.leader_election
        return LeaderElector(
            self._client, file.resource_name or config.leader_elect_resource_name, self._identity, self._clock, random=self._rng,
            namespace=file.resource_namespace or config.leader_elect_resource_namespace,
            lease_duration_seconds=file.lease_duration_seconds or config.leader_elect_lease_duration,
            renew_deadline_seconds=file.renew_deadline_seconds or config.leader_elect_renew_deadline,
            retry_period_seconds=file.retry_period_seconds or config.leader_elect_retry_period, recorder=recorder, meter=self._meter,
        )  # fmt: skip
