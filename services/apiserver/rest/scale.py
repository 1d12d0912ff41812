"""The scale subresource: one view of replicas for Deployments, ReplicaSets, StatefulSets and ReplicationControllers.

Imitates pkg/registry/apps/*/storage (ScaleREST).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubecosm.api import errors, managedfields, selectors
from kubecosm.api.errors import BadRequest
from kubecosm.api.field import FieldError, invalid_kind, invalid_value
from kubecosm.api.resources import REPLICATIONCONTROLLERS, CustomResource, Object

from ..cache.entry import Entry
from ..customresources.scale import scale_of_custom, with_replicas
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
Written = Callable[[Object, Object], Object]
"""(workload, wanted Scale) → the workload that has it, with its owners noted."""
NEGATIVE = "must be greater than or equal to 0"


def scale_of(store: ResourceStore, obj: Object) -> Object:
    """The Scale of a workload. Raises InternalError for a custom resource that has no replicas."""
    if isinstance(store.row, CustomResource):
        return scale_of_custom(store.row, obj)
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
    return answer_scale(request, store, scale_of(store, store.entry(request.info.namespace, request.info.name).decode()))


async def update_scale(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "UpdateOptions")
    scale = decode_body(store.row, request, await request.read(), options.field_validation, subresource=store.row.subresource("scale"))
    entry = await set_scale(store, request, lambda _: scale, caller_of(request, options))
    return answer_scale(request, store, scale_of(store, entry.decode()))


async def set_scale(
    store: ResourceStore, request: Request, change: ScaleChange, caller: Caller, written: Written | None = None
) -> Entry:
    """Change replicas as `change` wants the Scale to be; `written` if that is not done by an update of replicas. Raises ApiError."""
    info = request.info

    def update(obj: Object, scale: Object) -> Object:
        return with_scale(store, obj, scale, caller)

    def apply(obj: Object) -> Object:
        scale = change(scale_of(store, obj))
        check_scale(scale, info.name)
        version = scale["metadata"].get("resourceVersion")
        if version and version != obj["metadata"]["resourceVersion"]:
            raise errors.modified_conflict(store.row, info.name)
        return (written or update)(obj, scale)

    def show(obj: Object) -> Object:
        return scale_of(store, obj)

    def take(scale: Object, obj: Object) -> Object:
        """What a mutating plugin made of the Scale."""
        check_scale(scale, info.name)
        return obj if scale.get("spec") == show(obj).get("spec") else update(obj, scale)

    entry, _ = await store.update(info.namespace, info.name, apply, caller, subresource="scale", projection=Projection(show, take))
    return entry


def with_scale(store: ResourceStore, obj: Object, scale: Object, caller: Caller) -> Object:
    """The workload with the replicas of a Scale."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if isinstance(store.row, CustomResource):
        changed = with_replicas(store.row, obj, replicas)
    else:
        changed = {**obj, "metadata": dict(obj["metadata"]), "spec": {**obj["spec"], "replicas": replicas}}
    managedfields.on_update(store.row, changed, obj, caller.field_manager, store.state.clock.now(), "scale")
    return changed


def check_scale(scale: Object, name: str) -> None:
    """Raises BadRequest, Invalid."""
    found = scale["metadata"].get("name", "")
    if found and found != name:
        raise BadRequest(f"the name of the object ({found}) does not match the name on the URL ({name})")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        complaints: list[FieldError] = [invalid_value("spec.replicas", replicas, NEGATIVE)]
        raise invalid_kind(SCALE_GROUP, "Scale", name, complaints)
