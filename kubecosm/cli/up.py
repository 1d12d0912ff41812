"""`kubecosm up`: start, show progress until every component serves and every node is Ready, then leave or stay.

Two threads listen (to the supervisor and to the API server's nodes) and put what they hear into one queue; the main thread shows it.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecosm.cli.view import View, make_view
from kubecosm.cluster import launch
from kubecosm.cluster import spec as specs
from kubecosm.cluster.control import Client
from kubecosm.cluster.launch import AlreadyRunning, Options
from kubecosm.cluster.paths import ClusterPaths, cluster_paths
from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import StartupError

QUEUE_MAX = 1024
STOP_SECONDS_MAX = 5.0
NODE_RETRY_SECONDS = 0.05
LOG_TAIL_BYTES = 64 * 1024


@dataclass
class Progress:
    """What is known of a starting cluster."""

    spec: specs.ClusterSpec
    paths: ClusterPaths
    status: dict[str, Any] = field(default_factory=dict)
    nodes_ready: int = 0

    @property
    def is_complete(self) -> bool:
        return self.status.get("state") == "Running" and self.nodes_ready >= self.spec.expected_nodes


def up(options: Options, *, detach: bool, seconds_max: float) -> None:
    """Starts the cluster of the options, or waits for the one that runs already. Raises StartupError."""
    clock = RealClock()
    begun = clock.monotonic()
    view = make_view()
    try:
        prepared = launch.prepare(options)
    except AlreadyRunning:
        _join_running(options, view, clock, seconds_max)
        return
    progress = Progress(prepared.spec, prepared.paths)
    started = launch.start(prepared, clock, foreground=not detach)
    with started.client as client:
        events = _listen(client, progress)
        try:
            with view:
                _wait_complete(progress, events, view, clock, begun + seconds_max)
            if prepared.surplus_nodes and "apiserver" in progress.spec.components:
                _remove_nodes(progress, prepared.surplus_nodes)
            view.ready(progress.spec, progress.paths, clock.monotonic() - begun, detached=detach)
            if not detach:
                _stay(progress, events, view)
        except (KeyboardInterrupt, StartupError):
            _stop(progress.paths, client, events)
            if progress.status.get("error"):
                launch.forget_options(prepared)
                raise StartupError(_explain(progress)) from None
            if not progress.is_complete:
                raise
            view.stopped(progress.spec)


def _remove_nodes(progress: Progress, names: tuple[str, ...]) -> None:
    """The cluster was started with fewer nodes than before."""
    import http.client

    from kubecosm.cluster import nodes

    with contextlib.suppress(OSError, http.client.HTTPException):  # then they are NotReady soon
        nodes.remove(progress.spec, progress.paths, names)


def _join_running(options: Options, view: View, clock: Clock, seconds_max: float) -> None:
    """The cluster runs already: fine if it is what the options ask for."""
    paths = cluster_paths(options.name)
    spec = specs.load(paths.spec)
    client = Client.connect(paths.socket)
    if spec is None or client is None:
        raise StartupError(f"cluster {options.name} is being started or stopped by another command: try again in a moment")
    wanted = specs.changed(spec, port=options.port or None, nodes=options.nodes, components=options.components, flags=options.flags)
    if wanted != spec:
        client.close()
        raise StartupError(f"cluster {options.name} is running with other options: `kubecosm down --name {options.name}` first")
    begun = clock.monotonic()
    progress = Progress(spec, paths)
    with client, view:
        client.send("watch")
        _wait_complete(progress, _listen(client, progress), view, clock, begun + seconds_max)
    view.ready(spec, paths, None, detached=True)


Event = tuple[str, Any]
Events = queue.Queue[Event]


def _listen(client: Client, progress: Progress) -> Events:
    events: Events = queue.Queue(QUEUE_MAX)
    threading.Thread(target=_read_statuses, args=(client, events), daemon=True).start()
    if progress.spec.expected_nodes:
        threading.Thread(target=_read_nodes, args=(progress, events), daemon=True).start()
    return events


def _read_statuses(client: Client, events: Events) -> None:
    try:
        while (status := client.read()) is not None:
            events.put(("status", status))
    except (StartupError, OSError, ValueError) as error:  # OSError, ValueError: the main thread closed the connection
        events.put(("failed", str(error)))
    events.put(("ended", None))


def _read_nodes(progress: Progress, events: Events) -> None:
    """Follows the number of Ready nodes from when the API server serves until all are Ready."""
    import http.client

    from kubecosm.cluster.nodes import watch_progress

    gone = threading.Event()
    while progress.status.get("state") not in ("Stopping", "Failed"):
        if _serves(progress.status, "apiserver"):
            with contextlib.suppress(OSError, http.client.HTTPException):
                for ready in watch_progress(progress.spec, progress.paths, seconds_max=STOP_SECONDS_MAX):
                    events.put(("nodes", ready))
                    if ready >= progress.spec.expected_nodes:
                        return
        gone.wait(NODE_RETRY_SECONDS)


def _serves(status: dict[str, Any], component: str) -> bool:
    return any(c["name"] == component and c["state"] == "Running" for c in status.get("components", ()))


def _wait_complete(progress: Progress, events: Events, view: View, clock: Clock, deadline: float) -> None:
    while not progress.is_complete:
        try:
            kind, value = events.get(timeout=max(0.0, deadline - clock.monotonic()))
        except queue.Empty:
            raise StartupError(f"cluster {progress.spec.name} was not ready in time: {_missing(progress)}; see `kubecosm logs`") from None
        _take(progress, kind, value)
        view.show(progress.spec, progress.status, progress.nodes_ready)


def _take(progress: Progress, kind: str, value: Any) -> None:
    if kind == "status":
        progress.status = value
    elif kind == "nodes":
        progress.nodes_ready = value
    elif kind == "failed":
        raise StartupError(value)
    else:
        raise StartupError(_explain(progress))
    if progress.status.get("state") == "Failed":
        raise StartupError(_explain(progress))


def _explain(progress: Progress) -> str:
    """Why the cluster ended, in one line."""
    error = progress.status.get("error")
    return error or f"the supervisor of cluster {progress.spec.name} ended: see {progress.paths.log_of('supervisor')}"


def _missing(progress: Progress) -> str:
    late = [c["name"] for c in progress.status.get("components", ()) if c["state"] != "Running"]
    if late:
        said = next((complaint for name in late if (complaint := last_complaint(progress.paths.log_of(name)))), "")
        return f"{', '.join(late)} did not serve{f' ({said})' if said else ''}"
    return f"{progress.nodes_ready} of {progress.spec.expected_nodes} nodes are Ready"


def last_complaint(log: Path) -> str:
    """The newest warning or error in a component's log, in a few words."""
    try:
        lines = log.read_bytes()[-LOG_TAIL_BYTES:].splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("warning", "error"):
            return ": ".join(str(entry[key]) for key in ("event", "error") if entry.get(key))
    return ""


def _stay(progress: Progress, events: Events, view: View) -> None:
    """The foreground: tells of every change until the supervisor ends or the user interrupts."""
    while True:
        kind, value = events.get()
        if kind == "ended":
            raise StartupError(f"cluster {progress.spec.name} was stopped")
        if kind == "status":
            progress.status = value
            view.show(progress.spec, value, progress.nodes_ready)


def _stop(paths: ClusterPaths, client: Client, events: Events) -> None:
    """Asks the supervisor to stop and waits until it has ended."""
    client.send("stop")
    with contextlib.suppress(queue.Empty):
        while events.get(timeout=STOP_SECONDS_MAX)[0] != "ended":
            pass
    launch.wait_gone(paths, STOP_SECONDS_MAX)
