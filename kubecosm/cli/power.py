"""`kubecosm node shutdown` and `start`: asks the node's kubelet, through the API server's proxy to nodes."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from urllib.parse import quote

from kubecosm.cli.lifecycle import existing
from kubecosm.cluster import nodes
from kubecosm.runtime.errors import StartupError


def switch(name: str, node: str, state: str) -> None:
    """Prints what the kubelet says. `state`: shutdown, off or on. StartupError if there is no such node, or nobody answers.

    A node without a Node object is switched on by way of a neighbour: most share a kubelet's process.
    """
    paths, spec = existing(name)
    try:
        with closing(nodes.connect(spec, paths)) as connection:
            status, body = _ask(connection, "POST", f"/api/v1/nodes/{quote(node, safe='')}/proxy/power?state={state}")
            if status == http.client.NOT_FOUND:
                neighbour = _neighbour(connection)
                path = f"/api/v1/nodes/{quote(neighbour, safe='')}/proxy/power?state={state}&node={quote(node, safe='')}"
                other = _ask(connection, "POST", path) if neighbour else (status, body)
                status, body = other if other[0] == http.client.OK else (status, body)
    except (OSError, http.client.HTTPException):
        raise StartupError(f"the API server of cluster {name} does not answer: see `kubecosm status --name {name}`") from None
    if status != http.client.OK:
        raise StartupError(f"node {node}: {_message(body) or http.client.responses[status]}")
    print(body)


def _ask(connection: http.client.HTTPSConnection, method: str, path: str) -> tuple[int, str]:
    """Status code and body of the answer."""
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace").strip()


def _neighbour(connection: http.client.HTTPSConnection) -> str:
    """Any node that there is; empty if there is none."""
    status, body = _ask(connection, "GET", "/api/v1/nodes?limit=1")
    found = json.loads(body)["items"] if status == http.client.OK else []
    return str(found[0]["metadata"]["name"]) if found else ""


def _message(body: str) -> str:
    """The message of a Status, or the text as it is."""
    try:
        status = json.loads(body)
    except ValueError:
        return body
    return str(status.get("message", "")) if isinstance(status, dict) else body
