"""The hot path: single requests over TLS at 32 connections, on a server without controllers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from . import wrk
from .processes import cpu_seconds, pss_mib
from .targets import Target, fetch

CONNECTIONS = 32
LIST_PODS = 500


def prepare(target: Target) -> None:
    """The default namespace's service account, which real admission asks for, and a Pod to GET."""
    for path, body in (
        ("/api/v1/namespaces/default/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        ("/api/v1/namespaces/default/pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "labels": {"app": "bench"}},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]},
        }),
    ):  # fmt: skip
        try:
            fetch(target.url + path, target.token, method="POST", body=json.dumps(body).encode())
        except OSError as error:
            if getattr(error, "code", 0) != 409:
                raise


def loaded(target: Target, script: str, seconds: float, **variables: str) -> dict[str, float]:
    """One load, with the processor time that each request costs the server: what a busy machine does not change."""
    pids = target.pids()
    before = cpu_seconds(pids)
    load = wrk.run(script, target.url, token=target.token, seconds=seconds, connections=CONNECTIONS, **variables)
    cost = (cpu_seconds(pids) - before) / max(load.requests_per_second * seconds, 1)
    return load.as_dict() | {"cpu_us": round(cost * 1e6, 1)}


def measure(target: Target, seconds: float, *, lists: bool = True) -> Iterator[tuple[str, dict[str, float]]]:
    """(figure, values) one by one. The creates fill the server for the lists."""
    prepare(target)
    run, base = f"r{int(time.time())}", "/api/v1/namespaces/default"
    yield "GET one Pod", loaded(target, "get", seconds, path=f"{base}/pods/one")
    yield "create ConfigMap", loaded(target, "create", seconds, path=f"{base}/configmaps", kind="ConfigMap", run=run)
    yield "create Pod", loaded(target, "create", seconds, path=f"{base}/pods", kind="Pod", run=run)
    if lists:
        yield from measure_lists(target, seconds)


def measure_lists(target: Target, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Lists of what the creates have left, and the memory they take."""
    common = {"token": target.token, "seconds": seconds, "connections": CONNECTIONS}
    count = len(json.loads(fetch(f"{target.url}/api/v1/pods?limit=100000", target.token))["items"])
    page = wrk.run("get", target.url, path=f"/api/v1/pods?limit={LIST_PODS}", **common)
    yield f"LIST {LIST_PODS} Pods", page.as_dict() | {"objects_per_s": round(page.requests_per_second * LIST_PODS), "of": count}
    full = wrk.run("get", target.url, path="/api/v1/pods", **(common | {"connections": 2}))
    yield "LIST all Pods", full.as_dict() | {"objects_per_s": round(full.requests_per_second * count), "of": count}
    yield "memory after lists", {"pss_mib": round(pss_mib(target.pids()), 1), "objects": count}
