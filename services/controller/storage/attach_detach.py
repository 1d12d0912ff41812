"""Attach-detach controller: asks CSI drivers to attach the volumes of a node's pods to it, and to detach what no pod there needs.

Watches Pods and VolumeAttachments, by node; reads claims, volumes and CSIDrivers. Writes VolumeAttachments, which a driver's external
attacher answers, and status.volumesAttached of Nodes. Imitates pkg/controller/volume/attachdetach. Leaves out in-tree drivers (there are
none left), inline CSI volumes (never attached), and waiting for a kubelet's volumesInUse, which simulated kubelets do not report.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from kubecosm.api.errors import AlreadyExists, NotFound
from kubecosm.api.meta import Key, is_deleting
from kubecosm.api.names import CSI_VOLUME_PREFIX
from kubecosm.api.resources import CSIDRIVERS, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTACHMENTS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done
from kubecosm.client.http import PatchType

from ..common.pods import INDEX_NODE, is_terminal, node_names, node_of
from .claims import is_ours

INDEX_ATTACHED_NODE = "attached-node"
"""VolumeAttachments by the node they are for."""
OWN_NAME = re.compile("csi-[0-9a-f]{64}")
EXCLUSIVE = frozenset(("ReadWriteOnce", "ReadWriteOncePod"))


def attached_nodes(attachment: Object) -> tuple[str, ...]:
    return (attachment["spec"]["nodeName"],)


def attachment_name(volume: Object, node: str) -> str:
    """csi.getAttachmentName: the same for the same volume, driver and node, so that nothing is attached twice."""
    source = volume["spec"]["csi"]
    return "csi-" + hashlib.sha256(f"{source['volumeHandle']}{source['driver']}{node}".encode()).hexdigest()


def is_made_here(attachment: Object) -> bool:
    """Whether this controller made it, by its name: attachments that others make are theirs to remove."""
    return OWN_NAME.fullmatch(attachment["metadata"]["name"]) is not None


def new_attachment(volume: Object, node: str) -> Object:
    source = {"persistentVolumeName": volume["metadata"]["name"]}
    spec = {"attacher": volume["spec"]["csi"]["driver"], "nodeName": node, "source": source}
    return {
        "apiVersion": VOLUMEATTACHMENTS.api_version,
        "kind": "VolumeAttachment",
        "metadata": {"name": attachment_name(volume, node)},
        "spec": spec,
    }


def is_attachable(volume: Object, drivers: Mapping[str, Object]) -> bool:
    """A CSI volume whose driver wants to be asked; one that has told nothing of itself does. Behind our own volumes is no driver."""
    source = volume["spec"].get("csi")
    if source is None or is_ours(volume):
        return False
    driver = drivers.get(source["driver"])
    return driver is None or driver["spec"].get("attachRequired", True)


def volumes_of(reader: Reader, pods: Iterable[Object]) -> dict[str, tuple[Object, Object]]:
    """The persistent volumes that pods use, by name, each with a pod that does."""
    found: dict[str, tuple[Object, Object]] = {}
    for pod in pods:
        meta = pod["metadata"]
        for entry in pod["spec"].get("volumes") or ():
            name = (entry.get("persistentVolumeClaim") or {}).get("claimName")
            if "ephemeral" in entry:
                name = f"{meta['name']}-{entry['name']}"
            claim = reader.cache(PERSISTENTVOLUMECLAIMS).get(Key(meta["namespace"], name)) if name else None
            volume_name: str = ((claim or {}).get("spec") or {}).get("volumeName") or ""
            volume = reader.cache(PERSISTENTVOLUMES).get(Key("", volume_name)) if volume_name else None
            if volume is not None:
                found[volume_name] = volume, pod
    return found


def plan_conflict(volume: Object, node: str, attachments: Iterable[Object]) -> str | None:
    """Another node that holds a volume which only one may have; None if there is none."""
    if not set(volume["spec"].get("accessModes") or ()) <= EXCLUSIVE:
        return None
    name = volume["metadata"]["name"]
    for attachment in attachments:
        spec = attachment["spec"]
        if spec["source"].get("persistentVolumeName") == name and spec["nodeName"] != node:
            return str(spec["nodeName"])
    return None


def plan_attached(attachments: Iterable[Object], volumes: Mapping[str, Object]) -> list[Object]:
    """status.volumesAttached of a node: what its drivers have attached."""
    attached = []
    for attachment in attachments:
        volume = volumes.get(attachment["spec"]["source"].get("persistentVolumeName") or "")
        if (attachment.get("status") or {}).get("attached") and volume is not None and "csi" in volume["spec"]:
            source = volume["spec"]["csi"]
            attached.append({"name": f"{CSI_VOLUME_PREFIX}{source['driver']}^{source['volumeHandle']}", "devicePath": ""})
    return sorted(attached, key=lambda entry: entry["name"])


async def reconcile(ctx: Context, key: Key) -> Result:
    node = ctx.cache(NODES).get(key)
    existing = ctx.cache(VOLUMEATTACHMENTS).by_index(INDEX_ATTACHED_NODE, key.name)
    if not existing and node is None:
        return done()
    pods = [pod for pod in ctx.cache(PODS).by_index(INDEX_NODE, key.name) if not is_terminal(pod)]
    drivers = {driver["metadata"]["name"]: driver for driver in ctx.cache(CSIDRIVERS).list()}
    used = {name: pair for name, pair in volumes_of(ctx, pods).items() if is_attachable(pair[0], drivers)}
    names = {attachment_name(volume, key.name) for volume, _ in used.values()}
    for attachment in existing:
        if attachment["metadata"]["name"] not in names and is_made_here(attachment) and not is_deleting(attachment):
            await _detach(ctx, attachment)
    if node is None:
        return done()
    there = {attachment["metadata"]["name"]: attachment for attachment in existing}
    for volume, pod in used.values():
        await _attach(ctx, volume, pod, key.name, there)
    await _tell_node(ctx, node, existing)
    return done()


async def _attach(ctx: Context, volume: Object, pod: Object, node: str, there: Mapping[str, Object]) -> None:
    name, volume_name = attachment_name(volume, node), volume["metadata"]["name"]
    if name in there:
        status = there[name].get("status") or {}
        if error := (status.get("attachError") or {}).get("message"):
            message = f'AttachVolume.Attach failed for volume "{volume_name}" : {error}'
            ctx.recorder.event(pod, PODS, "Warning", "FailedAttachVolume", message)
        elif status.get("attached"):
            message = f'AttachVolume.Attach succeeded for volume "{volume_name}" '
            ctx.recorder.event(pod, PODS, "Normal", "SuccessfulAttachVolume", message)
        return
    if plan_conflict(volume, node, ctx.cache(VOLUMEATTACHMENTS).list()) is not None:
        why = "Volume is already exclusively attached to one node and can't be attached to another"
        ctx.recorder.event(pod, PODS, "Warning", "FailedAttachVolume", f'Multi-Attach error for volume "{volume_name}" {why}')
        return  # looked at again when the other attachment goes
    try:
        ctx.expect_written(await ctx.client.create(VOLUMEATTACHMENTS, new_attachment(volume, node)))
    except AlreadyExists:
        return  # the cache was behind


async def _detach(ctx: Context, attachment: Object) -> None:
    try:
        await ctx.client.delete(VOLUMEATTACHMENTS, attachment["metadata"]["name"])
    except NotFound:
        return
    ctx.expect_deleted(attachment)


async def _tell_node(ctx: Context, node: Object, attachments: Sequence[Object]) -> None:
    volumes = {volume["metadata"]["name"]: volume for volume in ctx.cache(PERSISTENTVOLUMES).list()} if attachments else {}
    attached = plan_attached(attachments, volumes)
    if attached == ((node.get("status") or {}).get("volumesAttached") or []):
        return
    patch = {"status": {"volumesAttached": attached or None}}
    try:
        ctx.expect_written(await ctx.client.patch(NODES, node["metadata"]["name"], patch, patch_type=PatchType.MERGE, subresource="status"))
    except NotFound:
        return


def map_pod(_reader: Reader, pod: Object) -> Iterable[Key]:
    """The node of a pod that has claims."""
    has_claims = any("persistentVolumeClaim" in entry or "ephemeral" in entry for entry in pod["spec"].get("volumes") or ())
    return (Key("", node_of(pod)),) if has_claims and node_of(pod) else ()


def map_attachment(reader: Reader, attachment: Object) -> Iterable[Key]:
    """Its node, and those that may wait for the volume it held."""
    nodes = {attachment["spec"]["nodeName"]}
    volume = attachment["spec"]["source"].get("persistentVolumeName")
    claims = {
        (claim["metadata"]["namespace"], claim["metadata"]["name"])
        for claim in reader.cache(PERSISTENTVOLUMECLAIMS).list()
        if (claim.get("spec") or {}).get("volumeName") == volume
    }
    for namespace in {namespace for namespace, _ in claims}:
        for pod in reader.cache(PODS).list(namespace):
            used = {(entry.get("persistentVolumeClaim") or {}).get("claimName") for entry in pod["spec"].get("volumes") or ()}
            if node_of(pod) and any((namespace, name) in claims for name in used):
                nodes.add(node_of(pod))
    return [Key("", node) for node in nodes]


def pod_matters(old: Object, new: Object) -> bool:
    return node_of(old) != node_of(new) or is_terminal(old) != is_terminal(new)


SPEC = ControllerSpec(
    name="attachdetach",
    component="attachdetach-controller",
    watches={PODS: map_pod, VOLUMEATTACHMENTS: map_attachment},
    reads=(NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, CSIDRIVERS),
    cares={PODS: pod_matters},
    indexers={PODS: {INDEX_NODE: node_names}, VOLUMEATTACHMENTS: {INDEX_ATTACHED_NODE: attached_nodes}},
    workers=8,
)
