"""The controller manager: one client, shared informers, all controllers, health and metrics tied together."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from kubecosm.client.accounts import AccountClient, without_credentials
from kubecosm.client.config import ClientConfig
from kubecosm.client.controller import Controller
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import LEAN_JSON, ApiClient
from kubecosm.client.informer import InformerFactory
from kubecosm.client.leaderelection import LeaderElector, LeadershipLost
from kubecosm.client.metrics import Meter, PrometheusClientMetrics
from kubecosm.client.runner import run_controllers
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.health import HealthEndpoints, HealthServer
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.service import ReadyInfo

from .caches import slimming
from .config import Config
from .table import Row, enabled_rows, load

USER_AGENT = "kube-controller-manager"
LAST_EVENTS_SECONDS_MAX = 1.0
CONNECTIONS_MAX = 32
"""Requests in flight. More only cost TLS handshakes, of which each is worth several requests."""
ACCOUNT_CONNECTIONS_MAX = 16
"""The same for what controllers do as their accounts."""


async def serve(config: Config, *, clock: Clock, stop: asyncio.Event, on_ready: Callable[[ReadyInfo], None]) -> None:
    """Run the controllers until `stop`. `on_ready` is called when all caches are complete and work begins (or when standing by)."""
    chance = random.Random(config.random_seed or None)
    metrics = Metrics()
    client_metrics = PrometheusClientMetrics(metrics.registry)
    enabled = [(row, load(row, config)) for row in enabled_rows(config)]
    controllers = [controller for _, controller in enabled]
    async with AsyncExitStack() as stack:
        connection = ClientConfig.from_kubeconfig(config.kubeconfig)
        client = await stack.enter_async_context(
            ApiClient(
                connection, clock=clock, user_agent=USER_AGENT, metrics=client_metrics, connections_max=CONNECTIONS_MAX, accept=LEAN_JSON
            )
        )
        client_of = await _own_clients(enabled, client, stack) if config.use_service_account_credentials else None
        synced = asyncio.Event()
        checks = {} if config.leader_elect else {"informer-sync": lambda: None if synced.is_set() else "the caches are not complete"}
        server = await stack.enter_async_context(HealthServer(HealthEndpoints(metrics, readyz=checks), config.metrics_bind_address))
        told = ReadyInfo(ports={"metrics": server.port})

        def on_synced() -> None:
            synced.set()
            if not config.leader_elect:
                on_ready(told)

        async def work() -> None:
            factory = InformerFactory(client, clock, random=chance, transform=slimming(controllers))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(factory.run(), name="informers")
                await run_controllers(
                    controllers, client, clock, chance, factory=factory, metrics=client_metrics, on_synced=on_synced, client_of=client_of
                )

        async with asyncio.TaskGroup() as tasks:
            if config.leader_elect:
                on_ready(told)
                recorder = EventRecorder(client, USER_AGENT, clock)
                recording = tasks.create_task(recorder.run(), name="events")
                elector = _elector(config, client, clock, chance, recorder, client_metrics.meter)
                running = tasks.create_task(_lead(elector, work), name="leader-election")
            else:
                running = tasks.create_task(work(), name="controllers")
            await stop.wait()
            running.cancel()
            if config.leader_elect:
                await asyncio.wait((running,))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_EVENTS_SECONDS_MAX):
                        await recorder.wait_written()
                recording.cancel()


async def _own_clients(
    enabled: list[tuple[Row, Controller]], client: ApiClient, stack: AsyncExitStack
) -> Callable[[Controller], ApiClient]:
    """Each controller acts as its account; they share connections, and so do controllers of one account its tokens."""
    config = without_credentials(client.config)
    bare = ApiClient(
        config, clock=client.clock, user_agent=USER_AGENT, metrics=client.metrics, connections_max=ACCOUNT_CONNECTIONS_MAX,
        accept=client.accept,
    )
    shared = await stack.enter_async_context(bare)
    clients = {row.account: AccountClient(shared, client, row.account) for row, _ in enabled if row.account}
    by_controller = {id(controller): clients.get(row.account, client) for row, controller in enabled}
    return lambda controller: by_controller[id(controller)]


def _elector(
    config: Config, client: ApiClient, clock: Clock, chance: random.Random, recorder: EventRecorder, meter: Meter
) -> LeaderElector:  # fmt: skip
    identity = f"{socket.gethostname()}_{uuid.UUID(int=chance.getrandbits(128))}"
    try:
        return LeaderElector(
            client, config.leader_elect_resource_name, identity, clock, random=chance, namespace=config.leader_elect_resource_namespace,
            lease_duration_seconds=config.leader_elect_lease_duration, renew_deadline_seconds=config.leader_elect_renew_deadline,
            retry_period_seconds=config.leader_elect_retry_period, recorder=recorder, meter=meter,
        )  # fmt: skip
    except ValueError as error:
        raise StartupError(f"--leader-elect-lease-duration, -renew-deadline, -retry-period: {error}") from error


async def _lead(elector: LeaderElector, work: Callable[[], Awaitable[None]]) -> None:
    """Stand by until the Lease is ours, then work. StartupError when it is lost: a new process begins with clean caches."""
    try:
        await elector.run(work)
    except LeadershipLost as error:
        raise StartupError(f"leaderelection lost: {error}") from error
