"""What `kubecosm up` shows: a live table in a terminal, one line a change in a pipe."""

from __future__ import annotations

import shlex
import sys
from typing import Any, Protocol, Self

from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import may_use_low_ports
from kubecosm.cluster.spec import ClusterSpec

SYMBOLS = {"Running": "[green]●[/]", "Starting": "[yellow]◐[/]", "BackOff": "[red]●[/]", "Paused": "[blue]‖[/]"}


class View(Protocol):
    """Shows a cluster that starts; used as a context manager around the waiting."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, spec: ClusterSpec, status: dict[str, Any], nodes_ready: int) -> None: ...

    def ready(self, spec: ClusterSpec, paths: ClusterPaths, seconds: float | None, *, detached: bool) -> None: ...

    def stopped(self, spec: ClusterSpec) -> None: ...


class PlainView:
    """One line for each change of a component or of the number of Ready nodes."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def show(self, spec: ClusterSpec, status: dict[str, Any], nodes_ready: int) -> None:
        for component in status.get("components", ()):
            state = component["state"]
            if state == "BackOff":
                state += f" ({component['lastError']})"
            elif component["restarts"]:
                state += f" (restarts: {component['restarts']})"
            self._line(component["name"], state)
        if spec.expected_nodes:
            self._line("nodes", f"{nodes_ready}/{spec.expected_nodes} Ready")

    def _line(self, name: str, text: str) -> None:
        if self._shown.get(name) != text:
            self._shown[name] = text
            if text not in ("Waiting", "Stopped"):
                print(f"{name}: {text}", flush=True)

    def ready(self, spec: ClusterSpec, paths: ClusterPaths, seconds: float | None, *, detached: bool) -> None:
        lines = ready_lines(spec, paths, seconds, detached=detached)
        if "proxy" in spec.components and not may_use_low_ports():
            lines.append(LOW_PORTS)
        print("\n".join(lines), flush=True)

    def stopped(self, spec: ClusterSpec) -> None:
        print(stopped_line(spec), flush=True)


class LiveView(PlainView):
    """A table that changes in place while waiting; afterwards lines as in a pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Any = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(transient=False, refresh_per_second=20)
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        self._live = None

    def show(self, spec: ClusterSpec, status: dict[str, Any], nodes_ready: int) -> None:
        if self._live is None:
            super().show(spec, status, nodes_ready)
            return
        self._live.update(_table(spec, status, nodes_ready))
        for component in status.get("components", ()):
            self._shown[component["name"]] = component["state"]
        self._shown["nodes"] = f"{nodes_ready}/{spec.expected_nodes} Ready"


LOW_PORTS = "Ports:    under 1024 they answer 10,000 higher (80 at 10080), until `sudo sysctl net.ipv4.ip_unprivileged_port_start=0`"
"""What users who may not listen there should know before they try the first Service."""


def make_view() -> View:
    return LiveView() if sys.stdout.isatty() else PlainView()


def ready_lines(spec: ClusterSpec, paths: ClusterPaths, seconds: float | None, *, detached: bool) -> list[str]:
    """What the user needs to know when the cluster is ready."""
    nodes = "no nodes" if not spec.expected_nodes else f"{spec.nodes} node{'s' if spec.nodes != 1 else ''}"
    took = "is running" if seconds is None else f"is ready after {seconds:.2f} s"
    name = "" if spec.name == "default" else f" --name {spec.name}"
    return [
        f"Cluster {spec.name} {took}: {nodes}, {spec.server}",
        f"Use it:   export KUBECONFIG={shlex.quote(str(paths.kubeconfig))}",
        f"Stop it:  kubecosm down{name}" if detached else "Stop it:  Ctrl-C (it runs in the foreground; --detach leaves it running)",
    ]


def stopped_line(spec: ClusterSpec) -> str:
    kept = "deleted" if spec.ephemeral else "its objects are kept for the next `kubecosm up`"
    return f"Cluster {spec.name} is stopped; {kept}."


def _table(spec: ClusterSpec, status: dict[str, Any], nodes_ready: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for component in status.get("components", ()):
        error = component["lastError"] if component["state"] != "Running" else ""
        symbol = Text.from_markup(SYMBOLS.get(component["state"], "[dim]○[/]"))
        table.add_row(symbol, component["name"], component["state"], Text(error, style="red"))
    if spec.expected_nodes:
        done = nodes_ready >= spec.expected_nodes
        symbol = Text("●" if done else "◐", style="green" if done else "yellow")
        table.add_row(symbol, "nodes", f"{nodes_ready}/{spec.expected_nodes} Ready")
    return table
