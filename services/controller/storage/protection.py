"""Protection controllers: a claim that a pod uses, and a volume that a claim uses, are not deleted under their users.

Watches PersistentVolumeClaims, PersistentVolumes and Pods. Writes the finalizers pvc-protection and pv-protection. Imitates
pkg/controller/volume/{pvcprotection,pvprotection}. Work items are claims (with a namespace) and volumes (without one). Leaves out asking
the API server for pods that the cache does not know yet: the scheduler places no pod with a claim that is being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import Key, is_controlled_by, is_deleting, key_of
from kubecosm.api.names import FINALIZER_PV_PROTECTION, FINALIZER_PVC_PROTECTION
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.finalizers import plan_finalizers, write_finalizers
from ..common.pods import is_terminal, node_of
from .claims import INDEX_CLAIM, claim_keys, phase_of


def uses_claim(pod: Object, claim: Object) -> bool:
    """The pod was scheduled, and holds the claim for as long as it exists, also when it has ended (podUsesPVC).

    A claim made for an ephemeral volume is free once the kubelet is done with the pod.
    """
    if not node_of(pod):
        return False
    name = claim["metadata"]["name"]
    for volume in pod["spec"].get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name:
            return True
        if "ephemeral" in volume and f"{pod['metadata']['name']}-{volume['name']}" == name and not is_shut_down(pod):
            return is_controlled_by(claim, pod)
    return False


def is_shut_down(pod: Object) -> bool:
    """The kubelet is done with the pod, or it was deleted by force."""
    return is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0


async def reconcile(ctx: Context, key: Key) -> Result:
    if key.namespace:
        claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
        if claim is not None:
            in_use = any(uses_claim(pod, claim) for pod in ctx.cache(PODS).by_index(INDEX_CLAIM, str(key)))
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
    if node_of(pod) and not is_terminal(pod) and not is_shut_down(pod) and key_of(pod) in reader.cache(PODS):
        return ()
    namespace = pod["metadata"]["namespace"]
    return [Key(namespace, text.partition("/")[2]) for text in claim_keys(pod)]


def _standing(pod: Object) -> tuple[bool, bool, bool]:
    return bool(node_of(pod)), is_terminal(pod), is_shut_down(pod)


SPEC = ControllerSpec(
    name="pvcprotection",
    component="pvc-protection-controller",
    watches={PERSISTENTVOLUMECLAIMS: map_self, PERSISTENTVOLUMES: map_self, PODS: map_pod},
    cares={PODS: lambda old, new: _standing(old) != _standing(new)},
    indexers={PODS: {INDEX_CLAIM: claim_keys}},
    workers=8,
)
