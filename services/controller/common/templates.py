"""Pods made from pod templates, and the events that tell of it (controller_utils.go: GetPodFromTemplate, RealPodControl)."""

from __future__ import annotations

import copy

from kubecosm.api.errors import ApiError, Forbidden, NotFound
from kubecosm.api.meta import controller_ref, uid_of
from kubecosm.api.resources import PODS, Object, Resource
from kubecosm.client.controller import Context

POD_PREFIX_LENGTH_MAX = 253
"""As long as a pod's name may be."""


def generate_name(owner_name: str) -> str:
    """`web-` for `web`; a name that leaves no room for the dash stays as it is."""
    prefix = f"{owner_name}-"
    return prefix if len(prefix) <= POD_PREFIX_LENGTH_MAX else owner_name


def pod_from_template(template: Object, owner: Object, owner_resource: Resource) -> Object:
    """A pod of the template, controlled by the owner, its name left to the server's generateName."""
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": generate_name(owner["metadata"]["name"]),
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "finalizers": list(meta.get("finalizers") or ()),
            "ownerReferences": [controller_ref(owner, owner_resource)],
        },
        "spec": copy.deepcopy(template["spec"]),
    }


def is_namespace_terminating(error: Exception) -> bool:
    """The API refused a create because the namespace is on its way out: there is nothing to retry and no event to write."""
    if not isinstance(error, Forbidden):
        return False
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


async def create_pod(ctx: Context, pod: Object, owner: Object, owner_resource: Resource) -> Object:
    """Create the pod and hold the key until the cache has it; an event tells of success or failure."""
    try:
        created = await ctx.client.create(PODS, pod, pod["metadata"]["namespace"])
    except ApiError as error:
        if not is_namespace_terminating(error):
            ctx.recorder.event(owner, owner_resource, "Warning", "FailedCreate", f"Error creating: {error}")
        raise
    ctx.expect_written(created)
    ctx.recorder.event(owner, owner_resource, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
    return created


async def delete_pod(ctx: Context, pod: Object, owner: Object, owner_resource: Resource) -> Object:
    """Ask for graceful deletion of exactly this pod; one that is already gone counts as deleted."""
    meta = pod["metadata"]
    try:
        answer = await ctx.client.delete(PODS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(pod)}})
    except NotFound:
        return pod
    except ApiError as error:
        ctx.recorder.event(owner, owner_resource, "Warning", "FailedDelete", f"Error deleting: {error}")
        raise
    ctx.expect_deleted(pod)
    ctx.recorder.event(owner, owner_resource, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")
    return answer
