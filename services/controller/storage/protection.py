"""Protection controllers: a claim that a pod uses, and a volume that a claim uses, are not deleted under their users.

Watches PersistentVolumeClaims, PersistentVolumes and Pods. Writes the finalizers pvc-protection and pv-protection. Imitates
pkg/controller/volume/{pvcprotection,pvprotection}. Work items are claims (with a namespace) and volumes (without one).
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import Key, key_of
from kubecosm.api.names import FINALIZER_PV_PROTECTION, FINALIZER_PVC_PROTECTION
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.finalizers import plan_finalizers, write_finalizers
from ..common.pods import is_terminal, node_of
from .claims import INDEX_CLAIM, claim_keys, phase_of


def uses_claim(pod: Object) -> bool:
    """It may have the volume mounted: scheduled and not ended."""
    return bool(node_of(pod)) and not is_terminal(pod)


async def reconcile(ctx: Context, key: Key) -> Result:
    if key.namespace:
        claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
        if claim is not None:
            in_use = any(uses_claim(pod) for pod in ctx.cache(PODS).by_index(INDEX_CLAIM, str(key)))
            await write_finalizers(ctx, PERSISTENTVOLUMECLAIMS, claim, plan_finalizers(claim, FINALIZER_PVC_PROTECTION, in_use=in_use))
        return done()
    volume = ctx.cache(PERSISTENTVOLUMES).get(key)
    if volume is not None:
        in_use = phase_of(volume) == "Bound"
        await write_finalizers(ctx, PERSISTENTVOLUMES, volume, plan_finalizers(volume, FINALIZER_PV_PROTECTION, in_use=in_use))
    return done()


def map_self(reader: Reader, obj: Object) -> Iterable[Key]:
    return (key_of(obj),)


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod that no longer uses its claims may have been what kept them."""
    if uses_claim(pod) and key_of(pod) in reader.cache(PODS):
        return ()
    namespace = pod["metadata"]["namespace"]
    return [Key(namespace, text.partition("/")[2]) for text in claim_keys(pod)]


SPEC = ControllerSpec(
    name="pvcprotection",
    component="pvc-protection-controller",
    watches={PERSISTENTVOLUMECLAIMS: map_self, PERSISTENTVOLUMES: map_self, PODS: map_pod},
    cares={PODS: lambda old, new: uses_claim(old) != uses_claim(new)},
    indexers={PODS: {INDEX_CLAIM: claim_keys}},
    workers=8,
)
