"""Liveness: after the faults everything must come to rest. One Deployment behind a Service is the witness of the whole cluster.

Its rollout needs every component: the controller makes pods, the scheduler places them, the kubelet runs them, the controller
collects the endpoints.
"""

from __future__ import annotations

import contextlib

import aiohttp

from kubecosm.api import names
from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import is_condition_true
from kubecosm.api.resources import DEPLOYMENTS, ENDPOINTSLICES, NODES, PODS, SERVICES, Object
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.runtime.clock import Clock

WITNESS = "chaos-witness"
REPLICAS = 6
CHECK_SECONDS = 0.2
PORT = 8080


def witness(namespace: str, round_number: int) -> tuple[Object, Object]:
    """The Deployment and its Service; another round number is another pod template."""
    labels = {"app": WITNESS}
    meta = {"name": WITNESS, "namespace": namespace}
    container = {"name": "main", "image": "kubecosm.dev/echo:1", "ports": [{"containerPort": PORT}]}
    template = {"metadata": {"labels": labels, "annotations": {"round": str(round_number)}}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}]},
    }  # fmt: skip
    return deployment, service


async def deploy_witness(client: ApiClient, namespace: str) -> None:
    """Create the witness; one left by an earlier run is taken over."""
    deployment, service = witness(namespace, 0)
    for resource, obj in ((DEPLOYMENTS, deployment), (SERVICES, service)):
        with contextlib.suppress(AlreadyExists):
            await client.create(resource, obj, namespace)


async def roll_witness(client: ApiClient, namespace: str, round_number: int) -> None:
    """Begin a rolling update; while the API is away this round is skipped."""
    patch = {"spec": {"template": {"metadata": {"annotations": {"round": str(round_number)}}}}}
    with contextlib.suppress(ApiError, aiohttp.ClientError, OSError, TimeoutError):
        await client.patch(DEPLOYMENTS, WITNESS, patch, namespace, patch_type=PatchType.MERGE)


async def remove_witness(client: ApiClient, namespace: str) -> None:
    for resource in (DEPLOYMENTS, SERVICES):
        with contextlib.suppress(NotFound):
            await client.delete(resource, WITNESS, namespace, options={"propagationPolicy": "Background"})


async def what_is_not_at_rest(client: ApiClient, namespace: str) -> str:
    """Why the cluster has not converged yet, or "" when it has."""
    nodes = (await client.list(NODES))["items"]
    unready = [node["metadata"]["name"] for node in nodes if not is_condition_true(node, "Ready")]
    if unready or not nodes:
        return f"nodes not Ready: {', '.join(unready) or 'none registered'}"
    deployment = await client.get(DEPLOYMENTS, WITNESS, namespace)
    status = deployment.get("status") or {}
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return "the deployment controller has not seen the newest Deployment"
    counts = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")}
    if set(counts.values()) != {REPLICAS}:
        return f"the rollout is not complete: {counts}"
    return await _pods_and_endpoints(client, namespace)


async def _pods_and_endpoints(client: ApiClient, namespace: str) -> str:
    pods = (await client.list(PODS, namespace, label_selector=f"app={WITNESS}"))["items"]
    if len(pods) != REPLICAS:
        return f"{len(pods)} pods instead of {REPLICAS}"
    addresses = {pod["status"]["podIP"] for pod in pods}
    slices = (await client.list(ENDPOINTSLICES, namespace, label_selector=f"{names.LABEL_SERVICE_NAME}={WITNESS}"))["items"]
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or ()]
    ready = {endpoint["addresses"][0] for endpoint in endpoints if (endpoint.get("conditions") or {}).get("ready")}
    return "" if ready == addresses else f"endpoints {sorted(ready)} are not the pods {sorted(addresses)}"


async def wait_converged(client: ApiClient, namespace: str, clock: Clock, *, seconds_max: float) -> float:
    """Seconds until the cluster is at rest; TimeoutError with the last reason after `seconds_max`."""
    started = clock.monotonic()
    while True:
        try:
            reason = await what_is_not_at_rest(client, namespace)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = f"the API does not answer: {error!r}"
        took = clock.monotonic() - started
        if not reason:
            return took
        if took > seconds_max:
            raise TimeoutError(f"not converged after {seconds_max:g} s: {reason}")
        await clock.sleep(CHECK_SECONDS)
