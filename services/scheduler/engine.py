"""Puts the scheduler together and runs it. Importing this loads numpy, so the app does so when nobody waits for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from kubecosm.client.http import ApiClient
from kubecosm.client.informer import InformerFactory
from kubecosm.client.series import SeriesRecorder
from kubecosm.runtime.clock import Clock

from .config import Config
from .configuration import ExtenderSettings, SchedulerConfiguration
from .decisions import Decisions
from .effects import RealEffects
from .explain import Explainer
from .handlers import EventHandlers
from .metrics import SchedulerMetrics
from .queue.queue import QueueLimits
from .scheduler import Scheduler


async def run_engine(
    config: Config, settings: SchedulerConfiguration, client: ApiClient, factory: InformerFactory, recorders: dict[str, SeriesRecorder],
    metrics: SchedulerMetrics, clock: Clock, rng: random.Random, on_built: Callable[[Explainer], None],
) -> None:  # fmt: skip
    """Build the scheduler from what the informers hold, then schedule until cancelled."""
    decisions = Decisions(config.decisions_memory_bytes_max)
    limits = QueueLimits(
        settings.pod_initial_backoff_seconds, settings.pod_max_backoff_seconds, config.pod_max_in_unschedulable_pods_duration
    )
    scheduler = Scheduler(
        settings.profiles, RealEffects(client, recorders), metrics, clock=clock, rng=rng, limits=limits,
        bindings_max=config.bindings_in_flight_max, decisions=decisions,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        if settings.extenders:
            await _extend(scheduler, settings.extenders, stack)
        EventHandlers(scheduler).attach(factory)
        on_built(Explainer(scheduler))
        await scheduler.run()


async def _extend(scheduler: Scheduler, settings: Sequence[ExtenderSettings], stack: AsyncExitStack) -> None:
    """Let extenders take part; only who has some pays for an HTTP client of their own."""
    import aiohttp

    from .extended import ExtendedCycle
    from .extenders.chain import Extenders
    from .extenders.client import HttpExtender

    session = await stack.enter_async_context(aiohttp.ClientSession())
    chain = Extenders([HttpExtender(one, session) for one in settings], scheduler.cluster.nodes)
    scheduler.extended, scheduler.any_update_matters = ExtendedCycle(scheduler, chain), True
    scheduler.algorithm.extenders_filter = any(one.filter_verb for one in settings)


