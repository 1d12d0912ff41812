"""One chaos run: set up, write under faults (safety), heal (liveness), judge."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from kubecosm.api.errors import ApiError
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.runtime.clock import Clock

from .convergence import deploy_witness, remove_witness, roll_witness, wait_converged
from .ledger import Ledger
from .plan import Fault
from .workload import Writer, held_values

SETTLE_SECONDS_MAX = 60.0
ROLL_EVERY_SECONDS = 3.0

Inject = Callable[[list[Fault]], Coroutine[None, None, None]]


@dataclass
class Settings:
    """What a run does; the plan comes from the seed."""

    seed: int
    run: str
    namespace: str = "default"
    writers: int = 4
    heal_seconds_max: float = 60.0


@dataclass
class Report:
    """What a run found. `violations` empty and `converged_seconds` set means it passed."""

    seed: int
    faults: int
    acknowledged: int = 0
    failed: int = 0
    objects: int = 0
    converged_seconds: float | None = None
    violations: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.violations and self.converged_seconds is not None


async def run_scenario(client: ApiClient, inject: Inject, faults: list[Fault], settings: Settings, clock: Clock) -> Report:
    """Run it once. Failures of the cluster are in the report; an exception means a cluster that was never well."""
    report, ledger = Report(settings.seed, len(faults)), Ledger()
    await deploy_witness(client, settings.namespace)
    await wait_converged(client, settings.namespace, clock, seconds_max=SETTLE_SECONDS_MAX)
    await _write_under_faults(client, inject, faults, ledger, settings, clock)
    try:
        report.converged_seconds = round(
            await wait_converged(client, settings.namespace, clock, seconds_max=settings.heal_seconds_max), 2
        )
    except TimeoutError as error:
        report.violations.append(str(error))
    await judge(client, ledger, settings, report)
    with contextlib.suppress(ApiError, *TRANSPORT_ERRORS):  # the report tells how the cluster is
        await remove_witness(client, settings.namespace)
    return report


async def judge(client: ApiClient, ledger: Ledger, settings: Settings, report: Report) -> None:
    """Compares what was acknowledged with what is there. That it cannot be read is a violation, too."""
    report.acknowledged, report.failed = ledger.acknowledged, ledger.failed
    try:
        held = await held_values(client, settings.namespace, settings.run)
    except (ApiError, *TRANSPORT_ERRORS) as error:
        report.violations.append(f"what was written cannot be read: {error}")
        return
    report.violations += ledger.judge(held)
    report.objects = len(held)


async def _write_under_faults(
    client: ApiClient, inject: Inject, faults: list[Fault], ledger: Ledger, settings: Settings, clock: Clock
) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(settings.writers):
            rng = random.Random(settings.seed * 1000 + number)
            writer = Writer(client, ledger, clock, rng, name=f"w{number}", namespace=settings.namespace, run=settings.run)
            tasks.create_task(writer.run(stop), name=f"writer-{number}")
        rolling = tasks.create_task(_roll(client, settings.namespace, clock), name="rollouts")
        await inject(faults)
        stop.set()
        rolling.cancel()


async def _roll(client: ApiClient, namespace: str, clock: Clock) -> None:
    """Keep the controllers busy while components die."""
    round_number = 0
    while True:
        await clock.sleep(ROLL_EVERY_SECONDS)
        round_number += 1
        await roll_witness(client, namespace, round_number)
