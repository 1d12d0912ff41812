"""Waiting until every node is Ready, synchronously and with the standard library alone.

The command line has nothing else to do while it waits and must not pay the import of an asynchronous HTTP stack for one request.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from kubecosm.api.meta import is_condition_true
from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime import tls

REQUEST_SECONDS_MAX = 5.0


def connect(spec: ClusterSpec, paths: ClusterPaths, seconds_max: float = REQUEST_SECONDS_MAX) -> http.client.HTTPSConnection:
    """A connection to the cluster's API server as its administrator."""
    context = tls.client_context(paths.cert(pki.CA), paths.cert(pki.ADMIN), paths.key(pki.ADMIN))
    return http.client.HTTPSConnection("127.0.0.1", spec.port, timeout=seconds_max, context=context)


def remove(spec: ClusterSpec, paths: ClusterPaths, names: Iterable[str]) -> None:
    """Delete nodes that nobody simulates any more, as one does with a machine that is gone; their pods go elsewhere. OSError."""
    with closing(connect(spec, paths)) as connection:
        for name in names:
            connection.request("DELETE", f"/api/v1/nodes/{name}")
            connection.getresponse().read()


def ready_nodes(spec: ClusterSpec, paths: ClusterPaths) -> tuple[int, int] | None:
    """How many nodes are Ready, of how many; None if the API server does not answer."""
    try:
        with closing(connect(spec, paths)) as connection:
            status, answer = _get(connection, "/api/v1/nodes")
            body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    if status != http.client.OK:
        return None
    items = json.loads(body)["items"]
    return sum(is_condition_true(node, "Ready") for node in items), len(items)


def watch_progress(spec: ClusterSpec, paths: ClusterPaths, seconds_max: float) -> Iterator[int]:
    """Like `watch_ready_nodes`, but the last node counts only when pods can be created, too, and ends the iteration."""
    for ready in watch_ready_nodes(spec, paths, seconds_max):
        if ready >= spec.expected_nodes:
            if "controller" in spec.components:
                wait_default_account(spec, paths, seconds_max)
            yield ready
            return
        yield ready


def watch_ready_nodes(spec: ClusterSpec, paths: ClusterPaths, seconds_max: float) -> Iterator[int]:
    """The number of Ready nodes now and at each change, until the stream ends; OSError when nothing came for `seconds_max`."""
    connection = connect(spec, paths, seconds_max)
    ready: dict[str, bool] = {}
    before = -1
    with closing(connection):
        status, answer = _get(connection, "/api/v1/nodes?watch=true")
        if status != http.client.OK:
            return
        while line := answer.readline():
            _apply(ready, json.loads(line))
            if (count := sum(ready.values())) != before:
                before = count
                yield count


def wait_default_account(spec: ClusterSpec, paths: ClusterPaths, seconds_max: float) -> None:
    """Waits until pods can be created in the namespace default: they need its service account, which a controller makes.

    OSError when it did not come in `seconds_max`.
    """
    with closing(connect(spec, paths, seconds_max)) as connection:
        status, answer = _get(connection, "/api/v1/namespaces/default/serviceaccounts?watch=true&fieldSelector=metadata.name%3Ddefault")
        if status == http.client.OK and not answer.readline():
            raise ConnectionResetError("the API server ended the watch")


def _apply(ready: dict[str, bool], event: dict[str, Any]) -> None:
    if event["type"] in ("ADDED", "MODIFIED"):
        ready[event["object"]["metadata"]["name"]] = is_condition_true(event["object"], "Ready")
    elif event["type"] == "DELETED":
        ready.pop(event["object"]["metadata"]["name"], None)


def _get(connection: http.client.HTTPSConnection, path: str) -> tuple[int, http.client.HTTPResponse]:
    connection.request("GET", path, headers={"Accept": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer
