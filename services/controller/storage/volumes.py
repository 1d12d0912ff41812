"""PersistentVolume life: Available, Bound, Released, and what becomes of a volume that its claim has left.

Watches PersistentVolumes and PersistentVolumeClaims. Writes volumes and their status; deletes volumes of policy Delete. Imitates syncVolume
of pkg/controller/volume/persistentvolume/pv_controller.go. Leaves out the pod that scrubs a volume of policy Recycle: simulated volumes
hold nothing that another claim would see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, annotations_of, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_PROVISIONED_BY
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, ReconcileError, Result, done

from ..common.pods import is_terminal
from ..common.status import update_status
from .claims import INDEX_CLAIM, claim_keys, is_ours, mode_of, phase_of, unbound_volume

LEFT = ("Released", "Failed")
"""Phases of a volume without its claim; a failure stays to be seen while the volume is tried to be reclaimed again."""
HOST_PATH_DELETABLE = re.compile("/tmp/.+")
"""What Kubernetes' hostPath plugin removes."""
KNOWN_SOURCES = ("nfs", "local", "portworxVolume")
"""Kinds of volumes that the controller manager has a plugin for, though none that deletes."""


@dataclass(frozen=True)
class Plan:
    """What is to be done for a volume."""

    phase: str
    """Empty: as it is."""
    unbind: bool = False
    reclaim: bool = False
    mismatched: bool = False
    """It waits for a claim that it does not suit."""


def plan_volume_life(volume: Object, claim: Object | None) -> Plan:
    """What becomes of the volume; `claim` is the one its claimRef names, if there is one of that uid."""
    ref = volume["spec"].get("claimRef")
    if ref is None or not ref.get("uid"):
        return Plan("Available")
    left = Plan("" if phase_of(volume) in LEFT else "Released", reclaim=True)
    if claim is None:
        return left
    bound_to = claim["spec"].get("volumeName")
    if not bound_to:
        return Plan("", mismatched=mode_of(claim) != mode_of(volume))
    if bound_to == volume["metadata"]["name"]:
        return Plan("Bound")
    was_made_for_it = ANNOTATION_PROVISIONED_BY in annotations_of(volume)
    return left if was_made_for_it and _policy(volume) == "Delete" else Plan("Available", unbind=True)


def why_not_deleted(volume: Object) -> str:
    """Why the controller manager has nothing that deletes what lies behind the volume; empty if it has."""
    spec = volume["spec"]
    if "hostPath" in spec:
        path = spec["hostPath"]["path"]
        if HOST_PATH_DELETABLE.search(path):
            return ""
        return f"host_path deleter only supports {HOST_PATH_DELETABLE.pattern} but received provided {path}"
    why = "no deletable volume plugin matched" if any(kind in spec for kind in KNOWN_SOURCES) else "no volume plugin matched"
    return f'error getting deleter volume plugin for volume "{volume["metadata"]["name"]}": {why}'


def _policy(volume: Object) -> str:
    return volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"


async def reconcile(ctx: Context, key: Key) -> Result:
    volume = ctx.cache(PERSISTENTVOLUMES).get(key)
    if volume is None:
        return done()
    plan = plan_volume_life(volume, await _claim_of(ctx, volume))
    if plan.mismatched:
        _tell_mismatched(ctx, volume)
    if plan.unbind:
        volume = await _unbind(ctx, volume)
    elif plan.phase and plan.phase != phase_of(volume):
        volume = await _enter(ctx, volume, plan.phase)
    if plan.reclaim:
        await _reclaim(ctx, volume)
    return done()


async def _claim_of(ctx: Context, volume: Object) -> Object | None:
    """The claim that the volume is bound to. One that the cache does not know is asked for: volumes may be heard of before their claims."""
    ref = volume["spec"].get("claimRef")
    if ref is None:
        return None
    key = Key(ref["namespace"], ref["name"])
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
    if claim is None and ref.get("uid") and phase_of(volume) not in LEFT:
        try:
            claim = await ctx.client.get(PERSISTENTVOLUMECLAIMS, key.name, key.namespace)
        except NotFound:
            return None
    return claim if claim is not None and uid_of(claim) == ref.get("uid") else None


async def _enter(ctx: Context, volume: Object, phase: str, message: str = "") -> Object:
    status = {field: value for field, value in (volume.get("status") or {}).items() if field != "message"}
    return await update_status(ctx, PERSISTENTVOLUMES, volume, {**status, "phase": phase, **({"message": message} if message else {})})


async def _unbind(ctx: Context, volume: Object) -> Object:
    freed = await ctx.client.update(PERSISTENTVOLUMES, unbound_volume(volume))
    ctx.expect_written(freed)
    return freed if phase_of(freed) == "Available" else await _enter(ctx, freed, "Available")


def _tell_mismatched(ctx: Context, volume: Object) -> None:
    name, claim_name = volume["metadata"]["name"], volume["spec"]["claimRef"]["name"]
    message = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{claim_name}" due to incompatible volumeMode.'
    ctx.recorder.event(volume, PERSISTENTVOLUMES, "Warning", "VolumeMismatch", message)
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(Key(volume["spec"]["claimRef"]["namespace"], claim_name))
    if claim is not None:
        message = f'Cannot bind PersistentVolume "{name}" to requested PersistentVolumeClaim due to incompatible volumeMode.'
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "VolumeMismatch", message)


# ---- what becomes of volumes that were left


async def _reclaim(ctx: Context, volume: Object) -> None:
    if _policy(volume) == "Recycle":
        await _recycle(ctx, volume)
    elif _policy(volume) == "Delete" and not is_deleting(volume):
        await _delete(ctx, volume)


async def _recycle(ctx: Context, volume: Object) -> None:
    ref = volume["spec"]["claimRef"]
    claim = Key(ref["namespace"], ref["name"])
    users = [pod for pod in ctx.cache(PODS).by_index(INDEX_CLAIM, str(claim)) if not is_terminal(pod)]
    if users and claim not in ctx.cache(PERSISTENTVOLUMECLAIMS):
        names = sorted(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in users)
        ctx.recorder.event(volume, PERSISTENTVOLUMES, "Normal", "VolumeFailedRecycle", f"Volume is used by pods: {','.join(names)}")
        raise ReconcileError(f"volume {volume['metadata']['name']} is to be recycled, but used by pods")  # looked at again
    if "hostPath" not in volume["spec"] and "nfs" not in volume["spec"]:
        await _fail(ctx, volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
        return
    ctx.recorder.event(volume, PERSISTENTVOLUMES, "Normal", "VolumeRecycled", "Volume recycled")
    await _unbind(ctx, volume)


async def _delete(ctx: Context, volume: Object) -> None:
    if not is_ours(volume):
        if ANNOTATION_PROVISIONED_BY in annotations_of(volume) or "csi" in volume["spec"]:
            return  # its provisioner deletes it
        if why := why_not_deleted(volume):
            await _fail(ctx, volume, "VolumeFailedDelete", why)
            return
    try:
        await ctx.client.delete(PERSISTENTVOLUMES, volume["metadata"]["name"], options={"preconditions": {"uid": uid_of(volume)}})
    except NotFound:
        return
    ctx.expect_deleted(volume)


async def _fail(ctx: Context, volume: Object, reason: str, message: str) -> None:
    if phase_of(volume) != "Failed":
        volume = await _enter(ctx, volume, "Failed", message)
        ctx.recorder.event(volume, PERSISTENTVOLUMES, "Warning", reason, message)


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    name = claim["spec"].get("volumeName")
    return (Key("", name),) if name else ()


SPEC = ControllerSpec(
    name="volumes",
    component="persistentvolume-controller",
    primary=PERSISTENTVOLUMES,
    watches={PERSISTENTVOLUMECLAIMS: map_claim},
    reads=(PODS,),
    indexers={PODS: {INDEX_CLAIM: claim_keys}},
    workers=8,
)
