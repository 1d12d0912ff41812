"""PersistentVolume binder: brings claims and volumes together, and tells of claims that have lost theirs.

Watches PersistentVolumeClaims, PersistentVolumes, StorageClasses and Pods. Writes claims and volumes and their status. Imitates syncClaim
of pkg/controller/volume/persistentvolume/pv_controller.go. Volumes that are left by their claim are volumes.py's part, new ones
provisioner.py's, larger ones expansion.py's. Leaves out in-tree provisioners: every class is an external provisioner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.meta import Key, annotations_of, key_of, uid_of
from kubecosm.api.names import (
    ANNOTATION_BIND_COMPLETED,
    ANNOTATION_BOUND_BY_CONTROLLER,
    ANNOTATION_SELECTED_NODE,
    ANNOTATION_STORAGE_PROVISIONER,
    ANNOTATION_STORAGE_PROVISIONER_BETA,
    PROVISIONER_NONE,
)
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, ReconcileError, Result, done

from ..common.pods import is_terminal, node_of
from ..common.status import update_status
from .claims import (
    INDEX_CLAIM,
    binds_late,
    bound_claim,
    bound_status,
    bound_volume,
    claim_keys,
    class_of,
    default_class,
    is_claimed_by,
    pending_status,
    phase_of,
    plan_match,
    provisioner_of,
    why_mismatched,
)

NOTHING_TO_BIND = "no persistent volumes available for this claim and no storage class is set"


async def _bind(ctx: Context, claim: Object, volume: Object) -> None:
    """Four writes, each of which a later sync would make good: the volume first, so that no two claims think they have it."""
    changed_volume = bound_volume(volume, claim)
    if changed_volume is not None:
        volume = await ctx.client.update(PERSISTENTVOLUMES, changed_volume)
        ctx.expect_written(volume)
    if phase_of(volume) != "Bound":
        await update_status(ctx, PERSISTENTVOLUMES, volume, {**(volume.get("status") or {}), "phase": "Bound"})
    changed_claim = bound_claim(claim, volume)
    if changed_claim is not None:
        claim = await ctx.client.update(PERSISTENTVOLUMECLAIMS, changed_claim)
        ctx.expect_written(claim)
    await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, bound_status(claim, volume))


# ---- claims that were bound


async def _sync_bound(ctx: Context, claim: Object) -> None:
    name = claim["spec"].get("volumeName")
    volume = ctx.cache(PERSISTENTVOLUMES).get(Key("", name)) if name else None
    if not name:
        await _lose(ctx, claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
    elif volume is None:
        await _lose(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    elif volume["spec"].get("claimRef") is None or volume["spec"]["claimRef"].get("uid") == uid_of(claim):
        await _bind(ctx, claim, volume)
    else:
        await _lose(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")


async def _lose(ctx: Context, claim: Object, reason: str, message: str) -> None:
    """A claim was bound and its volume is gone or is another's: its data is lost."""
    if phase_of(claim) != "Lost":
        await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, pending_status(claim, "Lost"))
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", reason, message)


# ---- claims that wait


async def _sync_unbound(ctx: Context, claim: Object) -> None:
    if claim["spec"].get("volumeName"):
        await _sync_named(ctx, claim)
        return
    class_name = class_of(claim)
    storage_class = ctx.cache(STORAGECLASSES).get(Key("", class_name)) if class_name else None
    late = binds_late(storage_class)
    volume = plan_match(claim, ctx.cache(PERSISTENTVOLUMES), late=late)
    if volume is not None:
        await _bind(ctx, claim, volume)
    elif class_name is None and (default := default_class(ctx.cache(STORAGECLASSES))) is not None:
        adopted = {**claim, "spec": {**claim["spec"], "storageClassName": default["metadata"]["name"]}}
        ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, adopted))
    elif late and ANNOTATION_SELECTED_NODE not in annotations_of(claim):
        _tell_late(ctx, claim)
        await _stay_pending(ctx, claim)
    elif class_name:
        await _ask_provisioner(ctx, claim, class_name, storage_class)
    else:
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "FailedBinding", NOTHING_TO_BIND)
        await _stay_pending(ctx, claim)


async def _sync_named(ctx: Context, claim: Object) -> None:
    """The user asks for a certain volume, which need not be there yet."""
    name = claim["spec"]["volumeName"]
    volume = ctx.cache(PERSISTENTVOLUMES).get(Key("", name))
    if volume is None:
        await _stay_pending(ctx, claim)
        return
    ref = volume["spec"].get("claimRef")
    if ref is not None and not is_claimed_by(volume, claim):
        message = f'volume "{name}" already bound to a different claim.'
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "FailedBinding", message)
        if ANNOTATION_BOUND_BY_CONTROLLER in annotations_of(claim):
            holder = f"{ref.get('namespace', '')}/{ref.get('name', '')}"
            raise ReconcileError(f'invalid binding of claim "{key_of(claim)}" to volume "{name}": volume already claimed by "{holder}"')
        await _stay_pending(ctx, claim)
    elif ref is None and (why := why_mismatched(volume, claim)):
        message = f'Cannot bind to requested volume "{name}": {why}'
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "VolumeMismatch", message)
        await _stay_pending(ctx, claim)
    else:
        await _bind(ctx, claim, volume)


async def _stay_pending(ctx: Context, claim: Object) -> None:
    await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, pending_status(claim))


def told_of_consumers(pods: Sequence[str]) -> tuple[str, str]:
    """Reason and message for a claim whose volume is chosen with the node of its first pod; `pods` are those that have none yet."""
    if not pods:
        return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
    return "WaitForPodScheduled", f"waiting for pod{'s' if len(pods) > 1 else ''} {','.join(sorted(pods))} to be scheduled"


def _tell_late(ctx: Context, claim: Object) -> None:
    waiting = [pod for pod in ctx.cache(PODS).by_index(INDEX_CLAIM, str(key_of(claim))) if not node_of(pod) and not is_terminal(pod)]
    reason, message = told_of_consumers([pod["metadata"]["name"] for pod in waiting])
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", reason, message)


async def _ask_provisioner(ctx: Context, claim: Object, class_name: str, storage_class: Object | None) -> None:
    """Tell external provisioners by annotation that the claim is theirs, and users what is waited for."""
    why = ""
    if storage_class is None:
        why = f'storageclass.storage.k8s.io "{class_name}" not found'
    elif storage_class["provisioner"] == PROVISIONER_NONE:
        why = f"no volume plugin matched name: {PROVISIONER_NONE}"
    if storage_class is None or why:
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "ProvisioningFailed", why)
        return
    who, annotations = provisioner_of(storage_class), annotations_of(claim)
    if annotations.get(ANNOTATION_STORAGE_PROVISIONER) != who:
        annotations = {**annotations, ANNOTATION_STORAGE_PROVISIONER_BETA: who, ANNOTATION_STORAGE_PROVISIONER: who}
        body = {**claim, "metadata": {**claim["metadata"], "annotations": annotations}}
        claim = await ctx.client.update(PERSISTENTVOLUMECLAIMS, body)
        ctx.expect_written(claim)
    message = (
        f"Waiting for a volume to be created either by the external provisioner '{who}' or manually by the system administrator. "
        "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    )
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "ExternalProvisioning", message)


async def reconcile(ctx: Context, key: Key) -> Result:
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
    if claim is None:
        return done()
    if ANNOTATION_BIND_COMPLETED in annotations_of(claim):
        await _sync_bound(ctx, claim)
    else:
        await _sync_unbound(ctx, claim)
    return done()


# ---- what concerns whom


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
