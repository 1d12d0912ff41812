"""`python -m kubecosm.chaos`: a chaos run against a cluster that `kubecosm up` started."""

from __future__ import annotations

import asyncio
import secrets
import sys
from dataclasses import asdict, dataclass, field

import orjson
import uvloop

from kubecosm.api.errors import ApiError
from kubecosm.client.config import ClientConfig, ConfigError
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.cluster.paths import cluster_paths
from kubecosm.cluster.spec import COMPONENTS
from kubecosm.runtime import flags, logs
from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import EXIT_STARTUP_ERROR, StartupError

from .faults import Supervisor, inject
from .plan import Fault, plan_faults
from .scenario import Report, Settings, run_scenario

SEED_BITS = 32
EXIT_VIOLATIONS = 2


@dataclass(frozen=True)
class Config:
    """Kill and pause components of a running cluster while writing through its API, then check that nothing acknowledged is lost."""

    name: str = field(default="default", metadata={"help": "the cluster"})
    seed: int | None = field(default=None, metadata={"help": "repeats a run; by default a new one is drawn and printed"})
    faults: int = field(default=20, metadata={"help": "how many faults to inject"})
    gap: flags.Duration = field(default=flags.Duration(0.7), metadata={"help": "time between faults, on average"})
    components: tuple[str, ...] = field(default=COMPONENTS, metadata={"help": "what to hit"})
    pauses: bool = field(default=True, metadata={"help": "also pause (SIGSTOP) components for a while"})
    writers: int = field(default=4, metadata={"help": "concurrent writers"})
    heal: flags.Duration = field(default=flags.Duration(60.0), metadata={"help": "how long the cluster may take to come to rest"})
    namespace: str = field(default="default", metadata={"help": "where the objects are written"})
    log_level: logs.Level = field(default="info", metadata={"help": "the lowest level that is logged; info tells of each fault"})

    def __post_init__(self) -> None:
        if unknown := set(self.components) - set(COMPONENTS):
            raise ValueError(f"--components: there is no {', '.join(sorted(unknown))}: choose from {', '.join(COMPONENTS)}")
        if self.faults < 0 or self.writers < 1:
            raise ValueError("--faults must not be negative, and --writers be at least 1")


async def run(config: Config, seed: int, clock: Clock) -> Report:
    paths = cluster_paths(config.name)
    faults = plan_faults(seed, config.components, count=config.faults, gap_seconds=config.gap, pauses=config.pauses)
    settings = Settings(seed, f"chaos-{seed}-{int(clock.now().timestamp())}", config.namespace, config.writers, config.heal)
    supervisor = Supervisor(paths)
    supervisor.request("status")

    async def inject_all(planned: list[Fault]) -> None:
        await inject(supervisor, planned, clock)

    async with ApiClient(ClientConfig.from_kubeconfig(paths.kubeconfig), clock=clock, user_agent="kubecosm-chaos") as client:
        return await run_scenario(client, inject_all, faults, settings, clock)


def main() -> int:
    """Exit code 0: passed; 2: something was lost or did not converge; 1: it could not be run."""
    try:
        config = flags.parse(Config, sys.argv[1:], {}, program="chaos", module="kubecosm.chaos")
        seed = config.seed if config.seed is not None else secrets.randbits(SEED_BITS)
        print(f"seed {seed}: repeat with `python -m kubecosm.chaos --seed {seed} --faults {config.faults}`", flush=True)
        clock = RealClock()
        logs.configure("chaos", clock, level=config.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run(config, seed, clock))
    except flags.HelpRequested as text:
        print(text)
        return 0
    except (StartupError, ConfigError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return EXIT_STARTUP_ERROR
    except (ApiError, *TRANSPORT_ERRORS) as error:
        print(f"chaos: cluster {config.name} was not well to begin with: {error}; see `kubecosm status`", file=sys.stderr)
        return EXIT_STARTUP_ERROR
    except KeyboardInterrupt:
        print("chaos: interrupted; nothing is judged", file=sys.stderr)
        return EXIT_STARTUP_ERROR
    print(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2).decode())
    print("passed" if report.passed else "FAILED", flush=True)
    return 0 if report.passed else EXIT_VIOLATIONS


if __name__ == "__main__":
    sys.exit(main())
