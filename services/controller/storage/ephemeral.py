"""Ephemeral volume controller: makes the claim of each generic ephemeral volume of a pod.

Watches Pods and PersistentVolumeClaims. Writes PersistentVolumeClaims, which the pod owns. Imitates pkg/controller/volume/ephemeral.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key, controller_ref, is_controlled_by, is_deleting, key_of
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, ReconcileError, Result, done
from kubecosm.client.metrics import COUNTER, Family

from .claims import INDEX_CLAIM, claim_keys

CREATES = Family("ephemeral_volume_controller_create_total", COUNTER, "Number of PersistentVolumeClaim creation requests")
FAILURES = Family("ephemeral_volume_controller_create_failures_total", COUNTER, "Number of PersistentVolumeClaim creation request failures")


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
    if pod is None or is_deleting(pod):
        return done()
    for volume in ephemeral_volumes(pod):
        try:
            await _ensure(ctx, pod, volume)
        except (ApiError, ReconcileError) as error:
            message = f"ephemeral volume {volume['name']}: {error}"
            ctx.recorder.event(pod, PODS, "Warning", "FailedBinding", message)
            raise ReconcileError(f"pod {key}, {message}") from error
    return done()


async def _ensure(ctx: Context, pod: Object, volume: Object) -> None:
    """The volume's claim exists, and is the pod's."""
    body = plan_claim(pod, volume)
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    existing = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(namespace, name))
    if existing is not None:
        if not is_controlled_by(existing, pod):
            raise ReconcileError(f"PVC {namespace}/{name} was not created for pod {key_of(pod)} (pod is not owner)")
        return
    ctx.meter.add(CREATES)
    try:
        ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMECLAIMS, body, namespace))
    except AlreadyExists:
        return  # the cache was behind
    except ApiError as error:
        ctx.meter.add(FAILURES)
        raise ReconcileError(f"create PVC {name}: {error}") from error


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    return (key_of(pod),) if ephemeral_volumes(pod) else ()


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    """A pod whose claim is gone gets another one."""
    if key_of(claim) in reader.cache(PERSISTENTVOLUMECLAIMS):
        return ()
    return [key_of(pod) for pod in reader.cache(PODS).by_index(INDEX_CLAIM, str(key_of(claim))) if ephemeral_volumes(pod)]


SPEC = ControllerSpec(
    name="ephemeral_volume",
    component="ephemeral_volume",
    watches={PODS: map_pod, PERSISTENTVOLUMECLAIMS: map_claim},
    cares={PODS: lambda old, new: is_deleting(old) != is_deleting(new), PERSISTENTVOLUMECLAIMS: lambda old, new: False},
    indexers={PODS: {INDEX_CLAIM: claim_keys}},
    metrics=(CREATES, FAILURES),
    workers=5,
)
