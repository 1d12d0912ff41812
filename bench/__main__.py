"""`python -m bench`: runs the suites, prints a table, writes JSON. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from . import hot, scale, start, watch, workloads
from .targets import Authorized, Guarded, Kubecosm, Kubernetes, Target

SUITES = ("start", "hot", "watch", "workloads", "scale")
SLOW = ("scale",)
"""Suites that run only when they are named."""
API_ONLY = ("apiserver",)
WATCHERS = ((1, 500, 100.0), (100, 500, 100.0), (1000, 300, 100.0))
FANOUT = (1000, 600, 0.0)
Figures = dict[str, dict[str, dict[str, float]]]


def targets(arguments: argparse.Namespace, *more: Target) -> Iterator[Target]:
    """The API servers to compare, kubecosm first."""
    yield Kubecosm(components=API_ONLY)
    yield from more
    if arguments.kube_apiserver and arguments.etcd:
        yield Kubernetes(arguments.kube_apiserver, arguments.etcd)


def run_suite(suite: str, arguments: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(figure, target, values) of one suite."""
    if suite == "start":
        yield from ((figure, "kubecosm", values) for figure, values in start.measure(arguments.nodes))
    elif suite == "workloads":
        yield from ((figure, "kubecosm", values) for figure, values in workloads.measure())
    elif suite == "scale":
        yield from ((figure, "kubecosm", values) for figure, values in scale.measure())
    elif suite == "hot":
        for target in targets(arguments, Authorized(components=API_ONLY), Guarded(components=API_ONLY)):
            with target as server:
                yield "start to API ready", server.name, {"seconds": round(server.started_seconds, 2)}
                lists = not isinstance(server, Authorized) or isinstance(server, Guarded)
                yield from ((figure, server.name, values) for figure, values in hot.measure(server, arguments.seconds, lists=lists))
    elif suite == "watch":
        for target in targets(arguments):
            with target as server:
                hot.prepare(server)
                for count, objects, rate in WATCHERS:
                    yield f"watch, {count} watchers at {rate:g}/s", server.name, watch.measure(server, count, objects, rate)
                yield f"watch fan-out, {FANOUT[0]} watchers", server.name, watch.measure(server, *FANOUT)


def show(figure: str, target: str, values: dict[str, float]) -> None:
    print(f"{figure:<40} {target:<11} " + "  ".join(f"{k} {v:,}" for k, v in values.items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(s for s in SUITES if s not in SLOW), help="suites to run, of: " + ", ".join(SUITES))
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each load")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the cluster whose start is measured")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "latest.json")
    parser.add_argument("--kube-apiserver", type=Path, help="a kube-apiserver binary to compare with")
    parser.add_argument("--etcd", type=Path, help="an etcd binary for it")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    figures: Figures = {}
    for suite in arguments.only.split(","):
        try:
            for figure, target, values in run_suite(suite, arguments):
                figures.setdefault(figure, {})[target] = values
                show(figure, target, values)
        except (RuntimeError, TimeoutError, OSError) as error:
            print(f"suite {suite} stopped: {error}", file=sys.stderr)
            return 1
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": platform.platform(), "python": platform.python_version(), "figures": figures}
    arguments.json.write_text(json.dumps(result, indent=2))
    print(f"written to {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
