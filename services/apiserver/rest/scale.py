"""The scale subresource: one view of replicas for Deployments, ReplicaSets, StatefulSets, ReplicationControllers and custom resources.

Imitates pkg/registry/apps/*/storage and apiextensions-apiserver's registry/customresource (ScaleREST).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

from kubecosm.api import errors, managedfields, selectors
from kubecosm.api.errors import BadRequest
from kubecosm.api.field import FieldError, invalid_kind, invalid_value
from kubecosm.api.managedfields.sets import from_paths
from kubecosm.api.resources import REPLICATIONCONTROLLERS, CustomResource, Object, Resource

from ..customresources.scale import replicas_path, scale_of_custom, with_replicas
from ..http.request import Request
from ..http.response import Answer
from .body import decode_body
from .options import write_options
from .represent import answer_scale
from .store import Caller, Projection, ResourceStore
from .writes import caller_of

SCALE_GROUP = "autoscaling"
ScaleChange = Callable[[Object], Object]
"""From the present Scale to the wanted one."""
REPLICAS = from_paths("spec.replicas")
NEGATIVE = "must be greater than or equal to 0"


def scale_of(store: ResourceStore, obj: Object, *, to_change: bool = False) -> Object:
    """The Scale of a workload. Raises InternalError for a custom resource that has no replicas, unless it is `to_change` them."""
    if isinstance(store.row, CustomResource):
        return scale_of_custom(store.row, obj, to_change=to_change)
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    scale: Object = {
        "kind": "Scale", "apiVersion": f"{SCALE_GROUP}/v1", "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": _replicas(spec), "status": {"replicas": status.get("replicas", 0)},
    }  # fmt: skip
    selector = selector_text(store, spec.get("selector"))
    if selector:
        scale["status"]["selector"] = selector
    return scale


def _replicas(spec: Mapping[str, int]) -> dict[str, int]:
    replicas = spec.get("replicas", 0)
    return {"replicas": replicas} if replicas else {}


def selector_text(store: ResourceStore, selector: Mapping[str, str] | None) -> str:
    if store.row == REPLICATIONCONTROLLERS:
        return str(selectors.from_labels(selector))
    return str(selectors.from_label_selector(selector))


async def get_scale(store: ResourceStore, request: Request) -> Answer:
    obj = store.entry(request.info.namespace, request.info.name).decode()
    return answer_scale(request, store, scale_of(store, store.conversion.from_stored(obj)))


async def update_scale(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "UpdateOptions")
    scale = decode_body(store.row, request, await request.read(), options.field_validation, subresource=store.row.subresource("scale"))
    return await set_scale(store, request, tracked(store, lambda _: scale, caller := caller_of(request, options)), caller)


def tracked(store: ResourceStore, change: ScaleChange, caller: Caller) -> ScaleChange:
    """The same change, which notes who made it."""

    def changed(scale: Object) -> Object:
        wanted = copy.deepcopy(change(scale))
        managedfields.on_update(managedfields.SCALES, wanted, scale, caller.field_manager, store.state.clock.now(), "scale")
        return wanted

    return changed


async def set_scale(store: ResourceStore, request: Request, change: ScaleChange, caller: Caller) -> Answer:
    """Change replicas as `change` wants the Scale to be, which notes their owners in the Scale. Raises ApiError."""
    info, conversion, paths = request.info, store.conversion, replicas_paths(store)

    def apply(stored: Object) -> Object:
        obj = conversion.from_stored(stored)
        present = scale_of(store, obj, to_change=True)
        if owners := managedfields.owners_of_scale(obj, paths):
            present["metadata"]["managedFields"] = owners
        scale = change(present)
        check_scale(scale, info.name)
        check_preconditions(store.row, scale["metadata"], obj["metadata"])
        changed = with_scale(store, obj, scale)
        changed["metadata"].pop("managedFields", None)
        if owners := managedfields.owners_of_workload(obj, scale, paths, store.row.api_version):
            changed["metadata"]["managedFields"] = owners
        return store.to_stored(changed)

    def show(stored: Object) -> Object:
        return scale_of(store, conversion.from_stored(stored), to_change=True)

    def take(scale: Object, stored: Object) -> Object:
        """What a mutating plugin made of the Scale, which counts as wished for by who wrote it."""
        check_scale(scale, info.name)
        if scale.get("spec") == show(stored).get("spec"):
            return stored
        return store.to_stored(with_scale(store, conversion.from_stored(stored), scale))

    entry, _ = await store.update(info.namespace, info.name, apply, caller, subresource="scale", projection=Projection(show, take))
    return answer_scale(request, store, scale_of(store, conversion.from_stored(entry.decode())))


def replicas_paths(store: ResourceStore) -> managedfields.ReplicasPaths:
    """Where each served version of a workload keeps its replicas."""
    row = store.row
    versions = [other for other in store.state.table if (other.group, other.plural) == (row.group, row.plural)]
    return {other.api_version: replicas_path(other) if isinstance(other, CustomResource) else REPLICAS for other in versions}


def with_scale(store: ResourceStore, obj: Object, scale: Object) -> Object:
    """The workload with the replicas of a Scale."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if isinstance(store.row, CustomResource):
        return with_replicas(store.row, obj, replicas)
    return {**obj, "metadata": dict(obj["metadata"]), "spec": {**obj["spec"], "replicas": replicas}}


def check_preconditions(row: Resource, wanted: Object, present: Object) -> None:
    """The version and the UID that a Scale names must be the workload's. Raises Conflict."""
    name = present["name"]
    if (version := wanted.get("resourceVersion")) and version != present["resourceVersion"]:
        raise errors.modified_conflict(row, name)
    if (uid := wanted.get("uid")) and uid != present["uid"]:
        what = row.kind if isinstance(row, CustomResource) else f"{row.plural}/scale"
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {present['uid']}"
        raise errors.conflict(replace(row, plural=what), name, why)


def check_scale(scale: Object, name: str) -> None:
    """Raises BadRequest, Invalid."""
    found = scale["metadata"].get("name", "")
    if found and found != name:
        raise BadRequest(f"the name of the object ({found}) does not match the name on the URL ({name})")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        complaints: list[FieldError] = [invalid_value("spec.replicas", replicas, NEGATIVE)]
        raise invalid_kind(SCALE_GROUP, "Scale", name, complaints)
