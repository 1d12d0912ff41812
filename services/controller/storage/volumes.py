"""PersistentVolume life: Available, Bound, Released, and what becomes of a volume that its claim has left.

Watches PersistentVolumes and PersistentVolumeClaims. Writes volumes' status; deletes volumes of policy Delete that the built-in provisioner
made. Imitates syncVolume of pkg/controller/volume/persistentvolume/pv_controller.go. Leaves out the Recycle policy.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, annotations_of, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_PROVISIONER_IDENTITY
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.status import update_status
from .claims import phase_of


def plan_phase(volume: Object, claim: Object | None) -> str:
    """The phase that a volume shall have; `claim` is the one its claimRef names, if there is one of that uid."""
    ref = volume["spec"].get("claimRef")
    if ref is None or not ref.get("uid"):
        return "Available"
    if claim is not None and uid_of(claim) == ref["uid"]:
        return "Bound" if claim["spec"].get("volumeName") == volume["metadata"]["name"] else phase_of(volume)
    return "Failed" if phase_of(volume) == "Failed" else "Released"


def plan_reclaim(volume: Object, phase: str) -> bool:
    """Whether the volume goes now: its claim has left, its policy is Delete, and no external provisioner looks after it."""
    if phase != "Released" or is_deleting(volume):
        return False
    ours = ANNOTATION_PROVISIONER_IDENTITY in annotations_of(volume)
    return ours and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"


async def reconcile(ctx: Context, key: Key) -> Result:
    volume = ctx.cache(PERSISTENTVOLUMES).get(key)
    if volume is None:
        return done()
    ref = volume["spec"].get("claimRef")
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(ref["namespace"], ref["name"])) if ref is not None else None
    phase = plan_phase(volume, claim)
    if phase != phase_of(volume):
        volume = await update_status(ctx, PERSISTENTVOLUMES, volume, {**(volume.get("status") or {}), "phase": phase})
    if plan_reclaim(volume, phase):
        try:
            await ctx.client.delete(PERSISTENTVOLUMES, key.name, options={"preconditions": {"uid": uid_of(volume)}})
        except NotFound:
            return done()
        ctx.expect_deleted(volume)
    return done()


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    name = claim["spec"].get("volumeName")
    return (Key("", name),) if name else ()


SPEC = ControllerSpec(
    name="volumes",
    component="persistentvolume-controller",
    primary=PERSISTENTVOLUMES,
    watches={PERSISTENTVOLUMECLAIMS: map_claim},
    workers=8,
)
