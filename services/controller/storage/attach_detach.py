"""Attach-detach controller: asks CSI drivers to attach the volumes of a node's pods to it, and to detach what no pod there needs.

Watches Pods, VolumeAttachments, claims, volumes and Nodes, by node; reads CSIDrivers. Writes VolumeAttachments, which a driver's external
attacher answers, and status.volumesAttached of Nodes. Imitates pkg/controller/volume/attachdetach. Leaves out in-tree drivers (there are
none left), inline CSI volumes (never attached), and a kubelet's volumesInUse: where a kubelet is ready, what no pod needs counts as
unmounted; where it is silent, as in use for six minutes, unless the node has the taint out-of-service.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime

from kubecosm.api.errors import AlreadyExists, NotFound
from kubecosm.api.meta import Key, annotations_of, is_deleting, key_of
from kubecosm.api.names import ANNOTATION_CONTROLLER_MANAGED_ATTACH, CSI_VOLUME_PREFIX, TAINT_OUT_OF_SERVICE
from kubecosm.api.resources import CSIDRIVERS, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTACHMENTS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType

from ..common.nodes import ready_status, taints_of
from ..common.pods import INDEX_NODE, is_terminal, node_names, node_of
from .claims import INDEX_CLAIM, claim_keys, is_ours

UNMOUNT_SECONDS_MAX = 360.0
"""How long a silent node's volumes count as in use (reconcilerMaxWaitForUnmountDuration)."""
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


def is_exclusive(volume: Object) -> bool:
    """Only one node may have it. One that says nothing of its access modes may be tried anywhere (IsMultiAttachAllowed)."""
    modes = set(volume["spec"].get("accessModes") or ())
    return bool(modes) and modes <= EXCLUSIVE


def plan_conflict(volume: Object, node: str, attachments: Iterable[Object]) -> list[str]:
    """The other nodes that hold a volume which only one may have."""
    if not is_exclusive(volume):
        return []
    name, specs = volume["metadata"]["name"], [attachment["spec"] for attachment in attachments]
    return [spec["nodeName"] for spec in specs if spec["source"].get("persistentVolumeName") == name and spec["nodeName"] != node]


def told_of_conflict(volume: str, pod: Object, others: Iterable[Object]) -> str:
    """What a pod hears that waits for a volume which these other pods use on another node (reportMultiAttachError)."""
    namespaces = [(other["metadata"]["namespace"], other["metadata"]["name"]) for other in others]
    near = [name for namespace, name in namespaces if namespace == pod["metadata"]["namespace"]]
    far = len(namespaces) - len(near)
    why = "Volume is already exclusively attached to one node and can't be attached to another"
    if near:
        why = f"Volume is already used by pod(s) {', '.join(near)}" + (f" and {far} pod(s) in different namespaces" if far else "")
    elif far:
        why = f"Volume is already used by {far} pod(s) in different namespaces"
    return f'Multi-Attach error for volume "{volume}" {why}'


def unique_name(volume: Object) -> str:
    """What the volume is called in status.volumesAttached."""
    source = volume["spec"]["csi"]
    return f"{CSI_VOLUME_PREFIX}{source['driver']}^{source['volumeHandle']}"


def is_managed(node: Object) -> bool:
    """Its kubelet leaves attaching to this controller."""
    return ANNOTATION_CONTROLLER_MANAGED_ATTACH in annotations_of(node)


def may_hold_mounts(node: Object) -> bool:
    """Its kubelet is silent, so that nobody knows whether volumes are still in use there, and nobody has said that it is off."""
    return ready_status(node) != "True" and not any(taint["key"] == TAINT_OUT_OF_SERVICE for taint in taints_of(node))


def plan_attached(attachments: Iterable[Object], volumes: Mapping[str, Object]) -> list[Object]:
    """status.volumesAttached of a node: what its drivers have attached."""
    attached = []
    for attachment in attachments:
        volume = volumes.get(attachment["spec"]["source"].get("persistentVolumeName") or "")
        if (attachment.get("status") or {}).get("attached") and volume is not None and "csi" in volume["spec"]:
            attached.append({"name": unique_name(volume), "devicePath": ""})
    return sorted(attached, key=lambda entry: entry["name"])


class AttachDetach:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._left: dict[str, datetime] = {}
        """Attachments that no pod needs but a silent node may still use, and since when."""
        self._asked: dict[str, str] = {}
        """Exclusive volume → the node it was just attached to; the cache may not know it yet."""

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        node = ctx.cache(NODES).get(key)
        existing = ctx.cache(VOLUMEATTACHMENTS).by_index(INDEX_ATTACHED_NODE, key.name)
        self._asked = {volume: name for volume, name in self._asked.items() if name != key.name}
        if not existing and node is None:
            return done()
        pods = [pod for pod in ctx.cache(PODS).by_index(INDEX_NODE, key.name) if not is_terminal(pod)]
        drivers = {driver["metadata"]["name"]: driver for driver in ctx.cache(CSIDRIVERS).list()}
        used = {name: pair for name, pair in volumes_of(ctx, pods).items() if is_attachable(pair[0], drivers)}
        seconds = await self._detach_unused(ctx, node, existing, {attachment_name(volume, key.name) for volume, _ in used.values()})
        if node is not None and is_managed(node):
            there = {attachment["metadata"]["name"]: attachment for attachment in existing}
            for volume, pod in used.values():
                await self._attach(ctx, volume, pod, node, there)
            await _tell_node(ctx, node, existing)
        return done() if seconds is None else requeue(after_seconds=seconds)

    async def _detach_unused(self, ctx: Context, node: Object | None, existing: Sequence[Object], needed: Container[str]) -> float | None:
        """Detach what no pod of the node needs; the seconds until one that a silent node may use is detached all the same."""
        now, soonest = ctx.clock.now(), None
        for attachment in existing:
            name = attachment["metadata"]["name"]
            if name in needed or not is_made_here(attachment) or is_deleting(attachment):
                self._left.pop(name, None)
                continue
            left = 0.0
            if node is not None and may_hold_mounts(node):
                left = UNMOUNT_SECONDS_MAX - (now - self._left.setdefault(name, now)).total_seconds()
            if left <= 0:
                await _detach(ctx, attachment)
                self._left.pop(name, None)
            else:
                soonest = left if soonest is None else min(soonest, left)
        return soonest


    async def _attach(self, ctx: Context, volume: Object, pod: Object, node: Object, there: Mapping[str, Object]) -> None:
        node_name, volume_name = node["metadata"]["name"], volume["metadata"]["name"]
        found = there.get(attachment_name(volume, node_name))
        if found is not None:
            _tell_attached(ctx, volume, pod, node, found.get("status") or {})
            return
        holders = plan_conflict(volume, node_name, ctx.cache(VOLUMEATTACHMENTS).list())
        if not holders and self._asked.get(volume_name, node_name) != node_name:
            holders = [self._asked[volume_name]]
        if holders:
            others = [other for name in holders for other in _users(ctx, volume_name, name)]
            message = told_of_conflict(volume_name, pod, others)
            ctx.recorder.event(pod, PODS, "Warning", "FailedAttachVolume", message)
            return  # looked at again when the other attachment goes
        if is_exclusive(volume):
            self._asked[volume_name] = node_name
        created = None
        try:
            created = await ctx.client.create(VOLUMEATTACHMENTS, new_attachment(volume, node_name))
            ctx.expect_written(created)
        except AlreadyExists:
            return  # the cache was behind
        finally:
            if created is None:
                self._asked.pop(volume_name, None)


def _users(ctx: Context, volume: str, node: str) -> list[Object]:
    """The pods of a node that use a volume."""
    pods = ctx.cache(PODS).by_index(INDEX_NODE, node)
    return [pod for pod in pods if not is_terminal(pod) and volume in volumes_of(ctx, (pod,))]


def _tell_attached(ctx: Context, volume: Object, pod: Object, node: Object, status: Object) -> None:
    """What its driver says of an attachment; success only once, before the node's status tells of it."""
    name = volume["metadata"]["name"]
    known = {entry["name"] for entry in (node.get("status") or {}).get("volumesAttached") or ()}
    if status.get("attached"):
        if unique_name(volume) not in known:
            message = f'AttachVolume.Attach succeeded for volume "{name}" '
            ctx.recorder.event(pod, PODS, "Normal", "SuccessfulAttachVolume", message)
    elif error := (status.get("attachError") or {}).get("message"):
        ctx.recorder.event(pod, PODS, "Warning", "FailedAttachVolume", f'AttachVolume.Attach failed for volume "{name}" : {error}')


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


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    """The nodes of its pods, which may have been heard of before it was bound."""
    if not claim["spec"].get("volumeName"):
        return ()
    pods = reader.cache(PODS).by_index(INDEX_CLAIM, str(key_of(claim)))
    return {Key("", node_of(pod)) for pod in pods if node_of(pod)}


def map_volume(reader: Reader, volume: Object) -> Iterable[Key]:
    """The same for the volume of a claim."""
    ref = volume["spec"].get("claimRef")
    claim = reader.cache(PERSISTENTVOLUMECLAIMS).get(Key(ref["namespace"], ref["name"])) if ref is not None else None
    return map_claim(reader, claim) if claim is not None else ()


def map_attachment(reader: Reader, attachment: Object) -> Iterable[Key]:
    """Its node, and those that may wait for the volume it held."""
    nodes = {Key("", attachment["spec"]["nodeName"])}
    volume = reader.cache(PERSISTENTVOLUMES).get(Key("", attachment["spec"]["source"].get("persistentVolumeName") or ""))
    return nodes.union(map_volume(reader, volume)) if volume is not None else nodes


def map_node(reader: Reader, node: Object) -> Iterable[Key]:
    """A node that has fallen silent, come back or been declared off."""
    return (key_of(node),) if reader.cache(VOLUMEATTACHMENTS).by_index(INDEX_ATTACHED_NODE, node["metadata"]["name"]) else ()


def pod_matters(old: Object, new: Object) -> bool:
    return node_of(old) != node_of(new) or is_terminal(old) != is_terminal(new)


def node_matters(old: Object, new: Object) -> bool:
    return may_hold_mounts(old) != may_hold_mounts(new)


SPEC = ControllerSpec(
    name="attachdetach",
    component="attachdetach-controller",
    watches={
        PODS: map_pod, VOLUMEATTACHMENTS: map_attachment, NODES: map_node, PERSISTENTVOLUMECLAIMS: map_claim, PERSISTENTVOLUMES: map_volume,
    },
    reads=(CSIDRIVERS,),
    cares={
        PODS: pod_matters, NODES: node_matters, PERSISTENTVOLUMES: lambda old, new: False,
        PERSISTENTVOLUMECLAIMS: lambda old, new: old["spec"].get("volumeName") != new["spec"].get("volumeName"),
    },
    indexers={PODS: {INDEX_NODE: node_names, INDEX_CLAIM: claim_keys}, VOLUMEATTACHMENTS: {INDEX_ATTACHED_NODE: attached_nodes}},
    workers=8,
)  # fmt: skip


def build(_config: object) -> AttachDetach:
    return AttachDetach()
