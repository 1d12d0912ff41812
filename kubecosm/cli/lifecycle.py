"""The commands about clusters that exist: down, status, list, delete, kubeconfig, kill, pause, resume, restart."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from kubecosm.cluster import launch
from kubecosm.cluster import spec as specs
from kubecosm.cluster.control import Client
from kubecosm.cluster.paths import ClusterPaths, cluster_names, cluster_paths
from kubecosm.cluster.slots import Slots
from kubecosm.runtime.errors import StartupError, startup

STOP_SECONDS_MAX = 5.0


def down(name: str) -> None:
    """Stops a cluster and waits until it has ended. StartupError if there is none or it does not end."""
    paths, spec = existing(name)
    if not _stop(paths):
        print(f"Cluster {name} is not running.")
        return
    print(f"Cluster {name} is stopped" + (" and deleted." if spec.ephemeral else "."))


def status(name: str, output: str) -> None:
    paths, spec = existing(name)
    found = _status_of(paths, spec)
    if output == "json":
        print(json.dumps(found, indent=2))
    else:
        _print_status(found)
    if found["state"] != "Running":
        sys.exit(1)


def list_clusters(output: str) -> None:
    rows = []
    for name in cluster_names():
        paths = cluster_paths(name)
        spec = specs.load(paths.spec)
        if spec is not None:
            state = "Running" if launch.is_running(paths) else "Stopped"
            rows.append({"name": name, "state": state, "nodes": spec.nodes, "server": spec.server, "directory": str(paths.root)})
    if output == "json":
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("No clusters. Start one with `kubecosm up`.")
    else:
        print_table(("NAME", "STATE", "NODES", "SERVER", "DIRECTORY"), [[str(value) for value in row.values()] for row in rows])


def delete(name: str, *, force: bool) -> None:
    paths, _spec = existing(name, broken_is_fine=True)
    if force:
        _stop(paths)
    if paths.root.exists():  # an ephemeral cluster has deleted itself
        launch.delete(name)
    print(f"Cluster {name} is deleted.")


def print_kubeconfig(name: str, *, only_path: bool) -> None:
    paths, _spec = existing(name)
    if only_path:
        print(paths.kubeconfig)
        return
    with startup(f"read {paths.kubeconfig}"):
        print(paths.kubeconfig.read_text(), end="")


def operate(name: str, op: str, component: str) -> None:
    """kill, pause, resume or restart of one component. StartupError if the cluster does not run or has no such component."""
    paths, _spec = existing(name)
    client = Client.connect(paths.socket)
    if client is None:
        raise StartupError(f"cluster {name} is not running: start it with `kubecosm up --name {name}`")
    with client:
        client.request(op, component=component)
    done = {"kill": "killed", "pause": "paused", "resume": "resumed", "restart": "restarted"}[op]
    print(f"{component} {done}.")


def existing(name: str, *, broken_is_fine: bool = False) -> tuple[ClusterPaths, specs.ClusterSpec]:
    """Paths and spec of a cluster. StartupError if there is none of this name."""
    paths = cluster_paths(name)
    try:
        spec = specs.load(paths.spec)
    except StartupError:
        if not broken_is_fine:
            raise
        spec = specs.ClusterSpec(name, 0, Slots(0))
    if spec is None:
        others = cluster_names()
        known = f"there is {', '.join(others)}" if others else "start one with `kubecosm up`"
        raise StartupError(f"there is no cluster {name}: {known}")
    return paths, spec


def _stop(paths: ClusterPaths) -> bool:
    """Stops the cluster's supervisor, at last by force; False if there was none."""
    if not launch.is_running(paths):
        return False
    client = Client.connect(paths.socket)
    if client is not None:
        with client:
            client.send("stop")
            if client.wait_end(STOP_SECONDS_MAX) and launch.wait_gone(paths, STOP_SECONDS_MAX):
                return True
    _kill_supervisor(paths)
    launch.wait_gone(paths, STOP_SECONDS_MAX)
    return True


def _kill_supervisor(paths: ClusterPaths) -> None:
    """For a supervisor that does not answer: everything of the cluster dies with it, and what was acknowledged is on disk."""
    text = paths.lock.read_text().strip()
    if not text.isdigit():
        raise StartupError(f"the supervisor of {paths.root} is starting and does not answer: try again in a moment")
    os.kill(int(text), signal.SIGKILL)


def _status_of(paths: ClusterPaths, spec: specs.ClusterSpec) -> dict[str, Any]:
    client = Client.connect(paths.socket)
    if client is None:
        return {"name": spec.name, "state": "Stopped", "server": spec.server, "directory": str(paths.root), "components": [], "nodes": None}
    with client:
        found = client.request("status")
    del found["ok"]
    from kubecosm.cluster.nodes import ready_nodes

    counted = ready_nodes(spec, paths)
    found["nodes"] = None if counted is None else {"ready": counted[0], "total": counted[1]}
    for component in found["components"]:
        component["memoryBytes"] = _memory_of(component["pid"])
    pids = [found["supervisorPid"], found["zygotePid"], *(component["pid"] for component in found["components"])]
    found["memoryBytes"] = sum(_memory_of(pid) or 0 for pid in pids)
    return found


def _memory_of(pid: int | None) -> int | None:
    """The proportional share (PSS) of a process, in bytes; None where it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _print_status(found: dict[str, Any]) -> None:
    if not found["components"]:
        print(f"Cluster {found['name']}: {found['state']}, {found['server']}")
        return
    nodes = found["nodes"]
    counted = "API server does not answer" if nodes is None else f"{nodes['ready']}/{nodes['total']} nodes Ready"
    print(f"Cluster {found['name']}: {found['state']}, {found['server']}, {counted}, {found['memoryBytes'] / 1e6:.0f} MB in all")
    rows = []
    for c in found["components"]:
        memory = "-" if c["memoryBytes"] is None else f"{c['memoryBytes'] / 1e6:.1f} MB"
        rows.append([c["name"], c["state"], str(c["pid"] or "-"), str(c["restarts"]), _age(c["seconds"]), memory, c["lastError"]])
    print_table(("COMPONENT", "STATE", "PID", "RESTARTS", "FOR", "MEMORY", "LAST END"), rows)


def _age(seconds: float) -> str:
    """`12s`, `5m`, `3h`, `2d`: as kubectl counts."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86_400)}d"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
