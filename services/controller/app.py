"""The controller manager: one client, shared informers, all controllers, health and metrics tied together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from kubecosm.client.config import ClientConfig
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import InformerFactory, drop_managed_fields
from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.client.runner import run_controllers
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.health import HealthEndpoints, HealthServer
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo

from .config import Config
from .table import load_enabled

USER_AGENT = "kube-controller-manager"
CONNECTIONS_MAX = 32
"""Requests in flight: a thousand pods are created by many at once."""

log = get_logger("kube-controller-manager")


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Run the controllers until `stop`. `on_ready` is called when all caches are complete and work begins."""
    chance = random.Random(config.random_seed or None)
    metrics = Metrics()
    client_metrics = PrometheusClientMetrics(metrics.registry)
    controllers = load_enabled(config)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            ApiClient(
                ClientConfig.from_kubeconfig(config.kubeconfig),
                clock=clock,
                user_agent=USER_AGENT,
                metrics=client_metrics,
                connections_max=CONNECTIONS_MAX,
            )
        )
        synced = asyncio.Event()
        health = HealthEndpoints(metrics, readyz={"informer-sync": lambda: None if synced.is_set() else "the caches are not complete"})
        server = await stack.enter_async_context(HealthServer(health, config.metrics_bind_address))

        def on_synced() -> None:
            synced.set()
            on_ready(ReadyInfo(ports={"metrics": server.port}))

        factory = InformerFactory(client, clock, random=chance, transform=drop_managed_fields)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(factory.run(), name="informers"),
                tasks.create_task(
                    run_controllers(controllers, client, clock, chance, factory=factory, metrics=client_metrics, on_synced=on_synced),
                    name="controllers",
                ),
            ]
            await stop.wait()
            for task in running:
                task.cancel()
