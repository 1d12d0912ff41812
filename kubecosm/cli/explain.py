"""`kubecosm explain-scheduling`: why a pod runs where it runs, or nowhere. Asks the scheduler itself, on its metrics port."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote

from kubecosm.cli.lifecycle import existing, print_table
from kubecosm.cluster import nodes
from kubecosm.cluster.control import Client
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.errors import StartupError

REQUEST_SECONDS_MAX = 10.0
Explanation = Mapping[str, Any]


def explain_scheduling(name: str, pod: str, namespace: str, output: str) -> None:
    """Prints the explanation. StartupError if there is none, saying why."""
    paths, spec = existing(name)
    found = _pod(spec, paths, namespace, pod)
    explanation = _ask(_port(spec, paths), f"{namespace}/{pod}", found)
    if output == "json":
        print(json.dumps(explanation, indent=2))
    else:
        print("\n".join(summary(explanation)))
        print_nodes(explanation)


def _pod(spec: ClusterSpec, paths: ClusterPaths, namespace: str, pod: str) -> Explanation:
    """The pod as the API server has it."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}"
    try:
        with closing(nodes.connect(spec, paths)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        raise StartupError(f"the API server of cluster {spec.name} does not answer: see `kubecosm status --name {spec.name}`") from None
    if answer.status != http.client.OK:
        raise StartupError(f"cannot read pod {namespace}/{pod}: {body.get('message') or answer.reason}")
    found: Explanation = body
    return found


def _port(spec: ClusterSpec, paths: ClusterPaths) -> int:
    """The port on which the cluster's scheduler answers."""
    client = Client.connect(paths.socket)
    if client is None:
        raise StartupError(f"cluster {spec.name} is not running: start it with `kubecosm up --name {spec.name}`")
    with client:
        components = client.request("status")["components"]
    scheduler = next((component for component in components if component["name"] == "scheduler"), None)
    if scheduler is None:
        raise StartupError(f"cluster {spec.name} runs without a scheduler: nothing here decides about pods")
    if scheduler["state"] != "Running" or "metrics" not in scheduler["ports"]:
        ended = f" ({scheduler['lastError']})" if scheduler["lastError"] else ""
        raise StartupError(f"the scheduler of cluster {spec.name} is {scheduler['state']}{ended}: see `kubecosm logs scheduler`")
    return int(scheduler["ports"]["metrics"])


def _ask(port: int, key: str, pod: Explanation) -> Explanation:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS_MAX)) as connection:
            connection.request("GET", f"/debug/scheduling?pod={quote(key)}")
            answer = connection.getresponse()
            body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise StartupError(f"the scheduler does not answer on port {port} ({error}): see `kubecosm logs scheduler`") from None
    if answer.status == http.client.OK:
        explanation: Explanation = json.loads(body)
        return explanation
    raise StartupError(_why_unknown(key, pod, body.decode(errors="replace").strip()))


def _why_unknown(key: str, pod: Explanation, told: str) -> str:
    """What is known of a pod that the scheduler knows nothing about."""
    wanted = pod["spec"].get("schedulerName", "")
    node = pod["spec"].get("nodeName")
    if node:
        return f"{told}: it is on {node} since before the scheduler started, by another scheduler, or by its own spec.nodeName"
    return f"{told}: the pod waits for scheduler {wanted!r}"


# ---- for people


def summary(told: Explanation) -> list[str]:
    """The lines above the table of nodes."""
    lines = [("Pod", told["pod"]), ("Scheduler", told["schedulerName"]), ("State", _state(told))]
    if told["time"]:
        lines.append(("Decided", f"{told['time']}, attempt {told['attempt']}"))
    if told["message"]:
        lines.append(("Message", told["message"]))
    if told["preemption"]:
        victims = ", ".join(told["preemption"]["victims"]) or "nobody has to go"
        lines.append(("Preemption", f"on {told['preemption']['nodeName']}; victims: {victims}"))
    if told["nominatedNodeName"]:
        lines.append(("Nominated", told["nominatedNodeName"]))
    for plugin, events in ((told["queue"] or {}).get("retriedOn") or {}).items():
        lines.append(("Retried on", f"{plugin}: {'; '.join(events)}"))
    return [f"{title + ':':<12}{text}" for title, text in lines]


def _state(told: Explanation) -> str:
    """`Unschedulable, …` with what is waited for."""
    queue: Explanation = told["queue"] or {}
    match told["state"]:
        case "Scheduled":
            return f"Scheduled to {told['nodeName']}"
        case "Gated":
            return f"Gated by {queue['gatedBy']}: {queue['reason']}"
        case "BackOff":
            return f"BackOff, next attempt in {queue['backoffSeconds']:.1f}s"
        case "Unschedulable":
            return f"Unschedulable, waits for an event, {queue['retriedInSeconds']:.0f}s at most"
        case "WaitingOnPermit":
            return f"WaitingOnPermit of {', '.join(queue['waitingForPlugins'])}"
        case state:
            return str(state)


def print_nodes(told: Explanation) -> None:
    """One row a node: its result, its scores per plugin, or why it was refused."""
    shown: Sequence[Explanation] = told["nodes"]
    if not shown:
        return
    plugins = list(dict.fromkeys(plugin for node in shown for plugin in node.get("scores", ())))
    refused = any("reasons" in node for node in shown)
    header = ["NODE", "RESULT", *(["SCORE"] if plugins else []), *plugins, *(["REASON"] if refused else [])]
    print()
    print_table(header, [_row(told, node, plugins, refused) for node in shown])


def _row(told: Explanation, node: Explanation, plugins: Sequence[str], refused: bool) -> list[str]:
    chosen = node["node"] == told["nodeName"] and node["result"] == "feasible"
    cells = [node["node"], "Chosen" if chosen else node["result"][:1].upper() + node["result"][1:]]
    if plugins:
        scores: Mapping[str, int] = node.get("scores", {})
        cells += [str(node.get("score", "-")), *(str(scores.get(plugin, "-")) for plugin in plugins)]
    if refused:
        cells.append(f"{node['plugin']}: {', '.join(node['reasons'])}" if "reasons" in node else "")
    return cells
