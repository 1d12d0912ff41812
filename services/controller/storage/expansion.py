"""PersistentVolume expander: larger volumes, and other attributes, for claims that ask for them.

Watches PersistentVolumeClaims and VolumeAttributesClasses; reads volumes. Writes volumes and the status of claims. Volumes of the built-in
provisioner are expanded and modified here, in the steps and words of kubernetes-csi/external-resizer; of others it is told that somebody
else has to (pkg/controller/volume/expand). Simulated storage takes any size, and nothing is left to do on nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubecosm.api.meta import Key, key_of, uid_of
from kubecosm.api.quantity import whole_value
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.status import update_status
from .claims import attributes_class_of, capacity_bytes, is_ours, phase_of, requested_bytes

IN_PROGRESS = "ControllerResizeInProgress"
OF_RESIZE = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")
OF_MODIFICATION = ("ModifyingVolume", "ModifyVolumeError")
BEING_MODIFIED = "ModifyVolume operation in progress."


def held_bytes(claim: Object) -> int:
    """What a bound claim has."""
    return whole_value(((claim.get("status") or {}).get("capacity") or {}).get("storage", "0"))


def wants_more(claim: Object) -> bool:
    return phase_of(claim) == "Bound" and requested_bytes(claim) > held_bytes(claim) > 0


def wants_other_attributes(claim: Object) -> bool:
    wanted = attributes_class_of(claim)
    return phase_of(claim) == "Bound" and bool(wanted) and wanted != (claim.get("status") or {}).get("currentVolumeAttributesClassName")


def without_conditions(status: Object, types: Sequence[str]) -> list[Object]:
    return [condition for condition in status.get("conditions") or () if condition["type"] not in types]


def resizing_status(claim: Object, size: str, now: str) -> Object:
    """The claim's status while its volume grows to `size`."""
    status = claim.get("status") or {}
    begun = next((one for one in status.get("conditions") or () if one["type"] == "Resizing"), None)
    condition = begun or {"type": "Resizing", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    return {
        **status,
        "conditions": [*without_conditions(status, OF_RESIZE), condition],
        "allocatedResources": {**(status.get("allocatedResources") or {}), "storage": size},
        "allocatedResourceStatuses": {**(status.get("allocatedResourceStatuses") or {}), "storage": IN_PROGRESS},
    }


def resized_status(claim: Object, size: str) -> Object:
    """The claim's status when it has what it asked for."""
    status = claim["status"]
    left = {name: state for name, state in (status.get("allocatedResourceStatuses") or {}).items() if name != "storage"}
    return {
        **_without(status, "allocatedResourceStatuses", "conditions"),
        **({"allocatedResourceStatuses": left} if left else {}),
        **_some("conditions", without_conditions(status, OF_RESIZE)),
        "capacity": {**status["capacity"], "storage": size},
    }


def modifying_status(claim: Object, state: str, now: str) -> Object:
    """The claim's status while the class of its attributes changes; `state` is Pending as long as there is no such class."""
    status = claim.get("status") or {}
    told: Object = {**status, "modifyVolumeStatus": {"status": state, "targetVolumeAttributesClassName": attributes_class_of(claim)}}
    if state != "Pending":
        condition = {
            "type": "ModifyingVolume", "status": "True", "lastProbeTime": None, "lastTransitionTime": now, "message": BEING_MODIFIED,
        }  # fmt: skip
        told["conditions"] = [*without_conditions(status, OF_MODIFICATION), condition]
    return told


def modified_status(claim: Object) -> Object:
    status = claim["status"]
    return {
        **_without(status, "modifyVolumeStatus", "conditions"),
        **_some("conditions", without_conditions(status, OF_MODIFICATION)),
        "currentVolumeAttributesClassName": attributes_class_of(claim),
    }


def _without(status: Object, *fields: str) -> Object:
    return {field: value for field, value in status.items() if field not in fields}


def _some(field: str, values: list[Object]) -> Object:
    return {field: values} if values else {}


async def reconcile(ctx: Context, key: Key) -> Result:
    claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
    if claim is None or not (wants_more(claim) or wants_other_attributes(claim)):
        return done()
    volume = ctx.cache(PERSISTENTVOLUMES).get(Key("", claim["spec"].get("volumeName") or ""))
    if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != uid_of(claim):
        return done()
    if not is_ours(volume):
        if wants_more(claim):
            _tell(ctx, claim, "ExternalExpanding", "waiting for an external controller to expand this PVC")
        return done()
    if wants_more(claim):
        claim, volume = await _expand(ctx, claim, volume)
    if wants_other_attributes(claim):
        await _modify(ctx, claim, volume)
    return done()


def _tell(ctx: Context, claim: Object, reason: str, message: str) -> None:
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", reason, message)


async def _expand(ctx: Context, claim: Object, volume: Object) -> tuple[Object, Object]:
    """Announced, done, told: whoever dies in between is followed by one that goes on."""
    size = claim["spec"]["resources"]["requests"]["storage"]
    claim = await _tell_status(ctx, claim, resizing_status(claim, size, format_time(ctx.clock.now())))
    _tell(ctx, claim, "Resizing", f"External resizer is resizing volume {volume['metadata']['name']}")
    if capacity_bytes(volume) < whole_value(size):
        volume = await _change(ctx, volume, capacity={"storage": size})
    claim = await _tell_status(ctx, claim, resized_status(claim, size))
    _tell(ctx, claim, "VolumeResizeSuccessful", "Resize volume succeeded")
    return claim, volume


async def _modify(ctx: Context, claim: Object, volume: Object) -> None:
    name, wanted = claim["metadata"]["name"], attributes_class_of(claim)
    now = format_time(ctx.clock.now())
    found = ctx.cache(VOLUMEATTRIBUTESCLASSES).get(Key("", wanted))
    if found is None:
        await _tell_status(ctx, claim, modifying_status(claim, "Pending", now))
        return
    driver = (volume["spec"].get("csi") or {}).get("driver") or "none"
    if driver != found["driverName"]:
        message = f"VAC {wanted} referenced in PVC is for driver {found['driverName']} which does not match driver name {driver}"
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "VolumeModifyFailed", message)
        return
    claim = await _tell_status(ctx, claim, modifying_status(claim, "InProgress", now))
    _tell(ctx, claim, "VolumeModify", f"external resizer is modifying volume {name} with vac {wanted}")
    if attributes_class_of(volume) != wanted:
        await _change(ctx, volume, volumeAttributesClassName=wanted)
    await _tell_status(ctx, claim, modified_status(claim))
    _tell(ctx, claim, "VolumeModifySuccessful", f"external resizer modified volume {name} with vac {wanted} successfully")


async def _tell_status(ctx: Context, claim: Object, status: Object) -> Object:
    return await update_status(ctx, PERSISTENTVOLUMECLAIMS, claim, status)


async def _change(ctx: Context, volume: Object, **fields: Any) -> Object:
    changed = await ctx.client.update(PERSISTENTVOLUMES, {**volume, "spec": {**volume["spec"], **fields}})
    ctx.expect_written(changed)
    return changed


def map_claim(_reader: Reader, claim: Object) -> Iterable[Key]:
    return (key_of(claim),) if wants_more(claim) or wants_other_attributes(claim) else ()


def map_class(reader: Reader, attributes_class: Object) -> Iterable[Key]:
    """Claims that wait for this class."""
    name = attributes_class["metadata"]["name"]
    return [key_of(one) for one in reader.cache(PERSISTENTVOLUMECLAIMS) if attributes_class_of(one) == name and wants_other_attributes(one)]


def claim_matters(old: Object, new: Object) -> bool:
    wishes = (requested_bytes(old), attributes_class_of(old), phase_of(old))
    return wishes != (requested_bytes(new), attributes_class_of(new), phase_of(new))


SPEC = ControllerSpec(
    name="volume_expand",
    component="volume_expand",
    watches={PERSISTENTVOLUMECLAIMS: map_claim, VOLUMEATTRIBUTESCLASSES: map_class},
    reads=(PERSISTENTVOLUMES,),
    cares={PERSISTENTVOLUMECLAIMS: claim_matters, VOLUMEATTRIBUTESCLASSES: lambda old, new: False},
    workers=8,
)
