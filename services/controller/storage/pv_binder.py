"""PersistentVolume binder: brings claims and volumes together, and tells of claims that have lost theirs.

Watches PersistentVolumeClaims, PersistentVolumes and StorageClasses. Writes claims and volumes and their status. Imitates syncClaim of
pkg/controller/volume/persistentvolume/pv_controller.go. Volumes that are left by their claim are volumes.py's part, new ones
provisioner.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.meta import Key, annotations_of, is_deleting, key_of, uid_of
from kubecosm.api.names import ANNOTATION_BIND_COMPLETED, ANNOTATION_STORAGE_PROVISIONER, PROVISIONER_NONE
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.pods import is_terminal, node_of
from ..common.status import update_status
from .claims import (
    INDEX_CLAIM,
    bound_claim,
    bound_status,
    bound_volume,
    claim_keys,
    class_of,
    default_class,
    expanded_volume,
    is_claimed_by,
    phase_of,
    plan_match,
    waits_for_consumer,
)


async def _bind(ctx: Context, claim: Object, volume: Object) -> None:
    """Four writes, each of which a later sync would make good: the volume first, so that no two claims think they have it."""
    changed_volume = bound_volume(volume, claim)
    if changed_volume is not None:
        volume = await ctx.client.update(PERSISTENTVOLUMES, changed_volume)
        ctx.expect_written(volume)
    await update_status(ctx, PERSISTENTVOLUMES, volume, {**(volume.get("status") or {}), "phase": "Bound"})
    changed_claim = bound_claim(claim, volume)
    if changed_claim is not None:
        claim = await ctx.client.update(PERSISTENTVOLUMECLAIMS, changed_claim)
        ctx.expect_written(claim)
    await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, bound_status(claim, volume))


async def _expand(ctx: Context, claim: Object, volume: Object) -> Object:
    """A claim that asks for more than it has gets it, if its class allows that and its volume is one that we make ourselves."""
    storage_class = ctx.cache(STORAGECLASSES).get(Key("", class_of(claim) or ""))
    expanded = expanded_volume(claim, volume, storage_class)
    if expanded is None:
        return volume
    updated = await ctx.client.update(PERSISTENTVOLUMES, expanded)
    ctx.expect_written(updated)
    size = claim["spec"]["resources"]["requests"]["storage"]
    message = f"Resized volume {volume['metadata']['name']} to {size}"
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "VolumeResizeSuccessful", message)
    return updated


async def _lose(ctx: Context, claim: Object, reason: str, message: str) -> None:
    """A claim was bound and its volume is gone or is another's: its data is lost."""
    status = {**(claim.get("status") or {}), "phase": "Lost"}
    status.pop("accessModes", None)
    status.pop("capacity", None)
    if phase_of(claim) != "Lost":
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", reason, message)
    await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, status)


async def _sync_bound(ctx: Context, claim: Object) -> None:
    name = claim["spec"].get("volumeName")
    volume = ctx.cache(PERSISTENTVOLUMES).get(Key("", name)) if name else None
    if volume is None:
        await _lose(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    elif volume["spec"].get("claimRef") is None or is_claimed_by(volume, claim):
        await _bind(ctx, claim, await _expand(ctx, claim, volume))
    else:
        await _lose(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")


async def _sync_unbound(ctx: Context, claim: Object) -> None:
    name = claim["spec"].get("volumeName")
    if name:
        volume = ctx.cache(PERSISTENTVOLUMES).get(Key("", name))
        if volume is not None and (volume["spec"].get("claimRef") is None or is_claimed_by(volume, claim)):
            await _bind(ctx, claim, volume)
        elif phase_of(claim) != "Pending" or volume is not None:
            message = f'volume "{name}" already bound to a different claim.'
            ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "FailedBinding", message)
        return
    class_name = class_of(claim)
    storage_class = ctx.cache(STORAGECLASSES).get(Key("", class_name)) if class_name else None
    if class_name is None and (default := default_class(ctx.cache(STORAGECLASSES))) is not None:
        adopted = {**claim, "spec": {**claim["spec"], "storageClassName": default["metadata"]["name"]}}
        ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, adopted))
        return
    volume = plan_match(claim, ctx.cache(PERSISTENTVOLUMES))
    if volume is not None and (is_claimed_by(volume, claim) or not waits_for_consumer(claim, storage_class)):
        await _bind(ctx, claim, volume)
        return
    _tell_pending(ctx, claim, class_name, storage_class)
    await _announce_provisioner(ctx, claim, storage_class)


def told_of_consumers(pods: Sequence[str]) -> tuple[str, str]:
    """Reason and message for a claim whose volume is chosen with the node of its first pod; `pods` are those that have none yet."""
    if not pods:
        return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
    return "WaitForPodScheduled", f"waiting for pod{'s' if len(pods) > 1 else ''} {','.join(sorted(pods))} to be scheduled"


def _tell_pending(ctx: Context, claim: Object, class_name: str | None, storage_class: Object | None) -> None:
    """An event that says what an unbound claim waits for."""
    event_type, reason, message = "Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set"
    if class_name and storage_class is None:
        event_type, reason, message = "Warning", "ProvisioningFailed", f'storageclass.storage.k8s.io "{class_name}" not found'
    elif storage_class is not None and waits_for_consumer(claim, storage_class):
        waiting = [pod for pod in ctx.cache(PODS).by_index(INDEX_CLAIM, str(key_of(claim))) if not node_of(pod) and not is_terminal(pod)]
        reason, message = told_of_consumers([pod["metadata"]["name"] for pod in waiting])
    elif storage_class is not None and storage_class["provisioner"] == PROVISIONER_NONE:
        return
    elif storage_class is not None:
        who = storage_class["provisioner"]
        reason, message = (
            "ExternalProvisioning",
            (
                f"Waiting for a volume to be created either by the external provisioner '{who}' or manually by the system administrator. "
                "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            ),
        )
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, event_type, reason, message)


async def _announce_provisioner(ctx: Context, claim: Object, storage_class: Object | None) -> None:
    """Tell external provisioners by annotation that the claim is theirs, once there is nothing more to wait for."""
    if storage_class is None or waits_for_consumer(claim, storage_class) or storage_class["provisioner"] == PROVISIONER_NONE:
        return
    if annotations_of(claim).get(ANNOTATION_STORAGE_PROVISIONER) == storage_class["provisioner"]:
        return
    annotations = {**annotations_of(claim), ANNOTATION_STORAGE_PROVISIONER: storage_class["provisioner"]}
    body = {**claim, "metadata": {**claim["metadata"], "annotations": annotations}}
    ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, body))


async def reconcile(ctx: Context, key: Key) -> Result:
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
    if claim is None or is_deleting(claim):
        return done()
    if ANNOTATION_BIND_COMPLETED in annotations_of(claim):
        await _sync_bound(ctx, claim)
    else:
        await _sync_unbound(ctx, claim)
    return done()


def map_volume(reader: Reader, volume: Object) -> Iterable[Key]:
    """The claim a volume is for; a free one may suit any claim that waits."""
    ref = volume["spec"].get("claimRef")
    if ref is not None:
        return (Key(ref["namespace"], ref["name"]),)
    return [key_of(claim) for claim in reader.cache(PERSISTENTVOLUMECLAIMS) if not claim["spec"].get("volumeName") or _names(claim, volume)]


def _names(claim: Object, volume: Object) -> bool:
    return bool(claim["spec"].get("volumeName") == volume["metadata"]["name"])


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A new pod that has no node yet: claims of its that wait for it say so."""
    if node_of(pod):
        return ()
    keys = [Key(pod["metadata"]["namespace"], text.partition("/")[2]) for text in claim_keys(pod)]
    found = [(key, reader.cache(PERSISTENTVOLUMECLAIMS).get(key)) for key in keys]
    return [key for key, claim in found if claim is not None and not claim["spec"].get("volumeName")]


def map_class(reader: Reader, storage_class: Object) -> Iterable[Key]:
    """Claims of the class, or without one when it is the default, that still wait."""
    name = storage_class["metadata"]["name"]
    waiting = [claim for claim in reader.cache(PERSISTENTVOLUMECLAIMS) if not claim["spec"].get("volumeName")]
    return [key_of(claim) for claim in waiting if class_of(claim) in (None, name)]


def claim_matters(old: Object, new: Object) -> bool:
    """Not every status write: its own last one is the most frequent."""
    return (
        old["spec"] != new["spec"]
        or annotations_of(old) != annotations_of(new)
        or phase_of(old) != phase_of(new)
        or uid_of(old) != uid_of(new)
    )


SPEC = ControllerSpec(
    name="claims",
    component="persistentvolume-controller",
    primary=PERSISTENTVOLUMECLAIMS,
    watches={PERSISTENTVOLUMES: map_volume, STORAGECLASSES: map_class, PODS: map_pod},
    cares={PERSISTENTVOLUMECLAIMS: claim_matters, PODS: lambda old, new: False},
    indexers={PODS: {INDEX_CLAIM: claim_keys}},
    workers=16,
)
