"""Volume provisioner: makes a PersistentVolume for every claim whose StorageClass names a provisioner, as if a driver were installed.

Watches PersistentVolumeClaims and StorageClasses. Writes PersistentVolumes; creates the default StorageClass when there is none at all.
Every provisioner's name is served, with a hostPath volume, so that manifests written for any cloud become ready; switch this controller off
(`--controllers=*,-volume-provisioner-controller`) to test a real driver. Leaves out snapshots, clones and topology.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.errors import AlreadyExists
from kubecosm.api.meta import Key, annotations_of, is_deleting, key_of
from kubecosm.api.names import (
    ANNOTATION_BIND_COMPLETED,
    ANNOTATION_DEFAULT_STORAGE_CLASS,
    ANNOTATION_PROVISIONED_BY,
    ANNOTATION_PROVISIONER_IDENTITY,
    PROVISIONER_DEFAULT,
    PROVISIONER_NONE,
)
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..config import Config
from .claims import claim_reference, class_of, plan_match, waits_for_consumer

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


def plan_volume(claim: Object, storage_class: Object) -> Object:
    """The volume for a claim, already meant for it."""
    meta, spec = claim["metadata"], claim["spec"]
    path = f"{PATH}/{meta['namespace']}/{meta['name']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{meta['uid']}",
            "annotations": {ANNOTATION_PROVISIONED_BY: storage_class["provisioner"], ANNOTATION_PROVISIONER_IDENTITY: IDENTITY},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "claimRef": claim_reference(claim),
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": spec.get("volumeMode") or "Filesystem",
            "hostPath": {"path": path, "type": ""},
        },
    }


def should_provision(claim: Object, storage_class: Object | None) -> bool:
    """The claim has no volume, wants none in particular, and its class has a provisioner and nothing to wait for."""
    if is_deleting(claim) or claim["spec"].get("volumeName") or ANNOTATION_BIND_COMPLETED in annotations_of(claim):
        return False
    if storage_class is None or storage_class["provisioner"] == PROVISIONER_NONE or claim["spec"].get("selector"):
        return False
    return not waits_for_consumer(claim, storage_class)


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
        if plan_match(claim, ctx.cache(PERSISTENTVOLUMES)) is not None:
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
    meta, body = claim["metadata"], plan_volume(claim, storage_class)
    name = f"{meta['namespace']}/{meta['name']}"
    message = f'External provisioner is provisioning volume for claim "{name}"'
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "Provisioning", message)
    try:
        ctx.expect_written(await ctx.client.create(PERSISTENTVOLUMES, body))
    except AlreadyExists:
        return  # the cache was behind
    message = f"Successfully provisioned volume {body['metadata']['name']}"
    ctx.recorder.event(claim, PERSISTENTVOLUMECLAIMS, "Normal", "ProvisioningSucceeded", message)


def map_class(reader: Reader, storage_class: Object) -> Iterable[Key]:
    name = storage_class["metadata"]["name"]
    return [
        key_of(claim) for claim in reader.cache(PERSISTENTVOLUMECLAIMS) if class_of(claim) == name and not claim["spec"].get("volumeName")
    ]


SPEC = ControllerSpec(
    name="volume_provisioner",
    component="volume-provisioner",
    primary=PERSISTENTVOLUMECLAIMS,
    watches={STORAGECLASSES: map_class},
    reads=(PERSISTENTVOLUMES,),
    seeds=(DEFAULT_CLASS,),
    workers=16,
)


def build(config: Config) -> Provisioner:
    return Provisioner(config.default_storage_class)
