"""Volume provisioner: makes a PersistentVolume for every claim whose StorageClass names a provisioner, as if a driver were installed.

Watches PersistentVolumeClaims and StorageClasses. Writes PersistentVolumes; creates the default StorageClass when there is none at all.
Every provisioner's name is served, with a hostPath volume, so that manifests written for any cloud become ready; switch this controller off
(`--controllers=*,-volume-provisioner-controller`) to test a real driver. Imitates what users see of sig-storage-lib-external-provisioner.
A claim with a VolumeAttributesClass gets a CSI volume, as only those may have one. Leaves out what a snapshot or a clone would hold:
such volumes are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubecosm.api.errors import AlreadyExists, ApiError
from kubecosm.api.meta import Key, annotations_of, is_deleting, key_of, labels_of
from kubecosm.api.names import (
    ANNOTATION_BIND_COMPLETED,
    ANNOTATION_DEFAULT_STORAGE_CLASS,
    ANNOTATION_PROVISIONED_BY,
    ANNOTATION_PROVISIONER_IDENTITY,
    ANNOTATION_SELECTED_NODE,
    ANNOTATION_STORAGE_PROVISIONER,
    PROVISIONER_DEFAULT,
    PROVISIONER_NONE,
)
from kubecosm.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, VOLUMEATTRIBUTESCLASSES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..config import Config
from .claims import attributes_class_of, binds_late, claim_reference, class_of, plan_match, provisioner_of

DEFAULT_CLASS = Key("", "")
"""The work item that creates the default StorageClass; all others are claims."""
IDENTITY = "kubecosm"
PATH = "/tmp/hostpath-provisioner"


def default_storage_class(name: str) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {ANNOTATION_DEFAULT_STORAGE_CLASS: "true"}},
        "provisioner": PROVISIONER_DEFAULT,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    }


def plan_volume(claim: Object, storage_class: Object, node: Object | None = None) -> Object:
    """The volume for a claim, already meant for it; `node` is the one its first pod shall run on, if the scheduler has chosen."""
    meta, spec = claim["metadata"], claim["spec"]
    who, name = provisioner_of(storage_class), f"pvc-{meta['uid']}"
    body: Object = {
        "capacity": {"storage": spec["resources"]["requests"]["storage"]},
        "accessModes": spec["accessModes"],
        "claimRef": claim_reference(claim),
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": storage_class["metadata"]["name"],
        "volumeMode": spec.get("volumeMode") or "Filesystem",
    }
    if attributes := attributes_class_of(claim):
        body |= {"volumeAttributesClassName": attributes, "csi": {"driver": who, "volumeHandle": name}}
    else:
        body["hostPath"] = {"path": f"{PATH}/{meta['namespace']}/{meta['name']}", "type": ""}
    if options := storage_class.get("mountOptions"):
        body["mountOptions"] = options
    if terms := topology_terms(storage_class.get("allowedTopologies") or (), node):
        body["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    annotations = {ANNOTATION_PROVISIONED_BY: who, ANNOTATION_PROVISIONER_IDENTITY: IDENTITY}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "annotations": annotations}, "spec": body}


def topology_terms(topologies: Sequence[Object], node: Object | None) -> list[Object]:
    """Where a volume of a class with allowedTopologies can be used: the place of the chosen node, or else anywhere the class allows."""
    wanted = [term["matchLabelExpressions"] for term in topologies if term.get("matchLabelExpressions")]
    labels = labels_of(node) if node is not None else {}
    here = [term for term in wanted if all(labels.get(one["key"]) in one["values"] for one in term)]
    if here:
        return [_term((one["key"], [labels[one["key"]]]) for one in here[0])]
    return [_term((one["key"], one["values"]) for one in term) for term in wanted]


def _term(places: Iterable[tuple[str, Sequence[str]]]) -> Object:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)} for key, values in places]}


def should_provision(claim: Object, storage_class: Object | None) -> bool:
    """The claim has no volume, wants none in particular, and the binder has told its provisioner, by annotation, to make one."""
    if is_deleting(claim) or claim["spec"].get("volumeName") or ANNOTATION_BIND_COMPLETED in annotations_of(claim):
        return False
    if storage_class is None or storage_class["provisioner"] == PROVISIONER_NONE:
        return False
    return annotations_of(claim).get(ANNOTATION_STORAGE_PROVISIONER) == provisioner_of(storage_class)


class Provisioner:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, default_class_name: str) -> None:
        self.SPEC = SPEC
        self._default_class_name = default_class_name

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if key == DEFAULT_CLASS:
            await self._create_default_class(ctx)
            return done()
        claim = ctx.cache(PERSISTENTVOLUMECLAIMS).get(key)
        if claim is None:
            return done()
        storage_class = ctx.cache(STORAGECLASSES).get(Key("", class_of(claim) or ""))
        if storage_class is None or not should_provision(claim, storage_class):
            return done()
        if plan_match(claim, ctx.cache(PERSISTENTVOLUMES), late=binds_late(storage_class)) is not None:
            return done()  # there is one already; the binder takes it
        await _provision(ctx, claim, storage_class)
        return done()

    async def _create_default_class(self, ctx: Context) -> None:
        if not self._default_class_name or len(ctx.cache(STORAGECLASSES)):
            return
        try:
            await ctx.client.create(STORAGECLASSES, default_storage_class(self._default_class_name))
        except AlreadyExists:
            return


async def _provision(ctx: Context, claim: Object, storage_class: Object) -> None:
    chosen = annotations_of(claim).get(ANNOTATION_SELECTED_NODE)
    node = ctx.cache(NODES).get(Key("", chosen)) if chosen else None
    if chosen and node is None:
        await _ask_scheduler_again(ctx, claim)
        return
    message = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "Provisioning", message)
    if why := why_not_provisioned(claim, storage_class, ctx.cache(VOLUMEATTRIBUTESCLASSES)):
        message = f'failed to provision volume with StorageClass "{storage_class["metadata"]["name"]}": {why}'
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "ProvisioningFailed", message)
        return
    body = plan_volume(claim, storage_class, node)
    try:
        ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMES, body))
    except AlreadyExists:
        return  # the cache was behind
    except ApiError as error:
        message = f"Error creating provisioned PV object for claim {key_of(claim)}: {error}. Deleting the volume."
        ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Warning", "ProvisioningFailed", message)
        raise
    message = f"Successfully provisioned volume {body['metadata']['name']}"
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "ProvisioningSucceeded", message)


def why_not_provisioned(claim: Object, storage_class: Object, attributes_classes: Iterable[Object]) -> str:
    """Why no volume can be made for the claim; empty if it can."""
    if claim["spec"].get("selector"):
        return "claim Selector is not supported"
    wanted = attributes_class_of(claim)
    if not wanted:
        return ""
    found = next((one for one in attributes_classes if one["metadata"]["name"] == wanted), None)
    if found is None:
        return f'volumeattributesclass.storage.k8s.io "{wanted}" not found'
    who = provisioner_of(storage_class)
    if found["driverName"] == who:
        return ""
    return f"VAC {wanted} referenced in PVC is for driver {found['driverName']} which does not match driver name {who}"


async def _ask_scheduler_again(ctx: Context, claim: Object) -> None:
    """The node that was chosen for the first pod is gone (rescheduleProvisioning)."""
    left = {name: value for name, value in annotations_of(claim).items() if name != ANNOTATION_SELECTED_NODE}
    body = {**claim, "metadata": {**claim["metadata"], "annotations": left}}
    ctx.expect_written(await ctx.client.update(PERSISTENTVOLUMECLAIMS, body))


def map_class(reader: Reader, storage_class: Object) -> Iterable[Key]:
    name = storage_class["metadata"]["name"]
    return [
        key_of(claim) for claim in reader.cache(PERSISTENTVOLUMECLAIMS) if class_of(claim) == name and not claim["spec"].get("volumeName")
    ]


def map_attributes_class(reader: Reader, attributes_class: Object) -> Iterable[Key]:
    """Claims that wait for this class."""
    name = attributes_class["metadata"]["name"]
    claims = reader.cache(PERSISTENTVOLUMECLAIMS)
    return [key_of(claim) for claim in claims if attributes_class_of(claim) == name and not claim["spec"].get("volumeName")]


SPEC = ControllerSpec(
    name="volume_provisioner",
    component="volume-provisioner",
    primary=PERSISTENTVOLUMECLAIMS,
    watches={STORAGECLASSES: map_class, VOLUMEATTRIBUTESCLASSES: map_attributes_class},
    reads=(PERSISTENTVOLUMES, NODES),
    seeds=(DEFAULT_CLASS,),
    workers=16,
)


def build(config: Config) -> Provisioner:
    return Provisioner(config.default_storage_class)
