"""Ephemeral volume controller: makes the claim of each generic ephemeral volume of a pod.

Watches Pods and PersistentVolumeClaims. Writes PersistentVolumeClaims, which the pod owns. Imitates pkg/controller/volume/ephemeral.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key, controller_ref, is_controlled_by, is_deleting, key_of
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, ReconcileError, Result, done

from ..common.pods import is_terminal


def ephemeral_volumes(pod: Object) -> list[Object]:
    return [volume for volume in pod["spec"].get("volumes") or () if volume.get("ephemeral")]


def plan_claim(pod: Object, volume: Object) -> Object:
    """The claim of one ephemeral volume, named after pod and volume."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    meta, pod_meta = template.get("metadata") or {}, pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            **{field: meta[field] for field in ("labels", "annotations") if meta.get(field)},
            "name": f"{pod_meta['name']}-{volume['name']}",
            "namespace": pod_meta["namespace"],
            "ownerReferences": [controller_ref(pod, PODS)],
        },
        "spec": template["spec"],
    }


async def reconcile(ctx: Context, key: Key) -> Result:
    pod = ctx.cache(PODS).get(key)
    if pod is None or is_deleting(pod) or is_terminal(pod):
        return done()
    for volume in ephemeral_volumes(pod):
        body = plan_claim(pod, volume)
        name = body["metadata"]["name"]
        existing = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(key.namespace, name))
        if existing is not None:
            if not is_controlled_by(existing, pod):
                raise ReconcileError(f'PVC "{key.namespace}/{name}" was not created for pod "{key}" (pod is not owner)')
            continue
        try:
            ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMECLAIMS, body, key.namespace))
        except AlreadyExists:
            continue  # the cache was behind
        except ApiError as error:
            message = f"ephemeral volume {volume['name']}: create PVC {name}: {error}"
            ctx.recorder.event(pod, PODS, "Warning", "FailedCreate", message)
            raise
    return done()


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    return (key_of(pod),) if ephemeral_volumes(pod) else ()


SPEC = ControllerSpec(
    name="ephemeral_volume",
    component="ephemeral-volume",
    watches={PODS: map_pod},
    reads=(PERSISTENTVOLUMECLAIMS,),
    cares={PODS: lambda old, new: is_deleting(old) != is_deleting(new)},
    workers=5,
)
