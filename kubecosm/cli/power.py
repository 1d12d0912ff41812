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
    """Prints what the kubelet says. `state`: shutdown, off or on. StartupError if there is no such node, or nobody answers."""
    paths, spec = existing(name)
    path = f"/api/v1/nodes/{quote(node, safe='')}/proxy/power?state={state}"
    try:
        with closing(nodes.connect(spec, paths)) as connection:
            connection.request("POST", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        raise StartupError(f"the API server of cluster {name} does not answer: see `kubecosm status --name {name}`") from None
    if answer.status != http.client.OK:
        raise StartupError(f"node {node}: {_message(body) or answer.reason}")
    print(body)


def _message(body: str) -> str:
    """The message of a Status, or the text as it is."""
    try:
        status = json.loads(body)
    except ValueError:
        return body
    return str(status.get("message", "")) if isinstance(status, dict) else body
