"""What the manager's caches keep of an object: all of what its controllers read, and of the rest only what garbage collection needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubecosm.api.names import CONFIGMAP_ROOT_CA, SECRET_BOOTSTRAP_TOKEN, SECRET_SERVICE_ACCOUNT_TOKEN
from kubecosm.api.resources import CONFIGMAPS, CUSTOMRESOURCEDEFINITIONS, RESOURCECLAIMS, SECRETS, Object
from kubecosm.client.controller import Controller
from kubecosm.client.informer import Transform, drop_managed_fields

from .certificates.bootstrap import KEPT_KEYS

GRAPH_FIELDS = (
    "name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "ownerReferences", "finalizers", "labels",
)  # fmt: skip
"""The metadata that the graph of owners is made of."""
TOKEN_IS_THERE = "…"
COUNTED_ONLY = {(CONFIGMAPS.api_version, CONFIGMAPS.kind), (SECRETS.api_version, SECRETS.kind)}
"""Kinds that controllers merely count; their data may be large, or secret."""

MEASURED = {(RESOURCECLAIMS.api_version, RESOURCECLAIMS.kind)}
"""Kinds that a controller reads although its SPEC does not name them, as a server may not serve them: quotas measure their objects."""


def slimming(controllers: Iterable[Controller]) -> Transform:
    """A Transform that cuts objects of kinds that none of these controllers reads down to their place in the graph.

    Secrets, for instance, are watched for their owners alone: their data never stays in this process.
    """
    needed = {(resource.api_version, resource.kind) for one in controllers for resource in one.SPEC.resources()}
    needed = needed - COUNTED_ONLY | MEASURED

    def slim(obj: Object) -> Object:
        kind = obj.get("apiVersion"), obj.get("kind")
        if kind in needed:
            return drop_managed_fields(obj)
        if kind[1] == CONFIGMAPS.kind and obj["metadata"]["name"] == CONFIGMAP_ROOT_CA:
            return drop_managed_fields(obj)
        slimmed: Object = {"apiVersion": kind[0], "kind": kind[1], "metadata": _graph_fields(obj)}
        if obj.get("type") == SECRET_SERVICE_ACCOUNT_TOKEN:
            slimmed |= {"type": obj["type"], "data": _without_token(obj.get("data") or {})}
            slimmed["metadata"]["annotations"] = obj["metadata"].get("annotations") or {}
        if obj.get("type") == SECRET_BOOTSTRAP_TOKEN:
            slimmed |= {"type": obj["type"], "data": {key: value for key, value in (obj.get("data") or {}).items() if key in KEPT_KEYS}}
        if kind == (CUSTOMRESOURCEDEFINITIONS.api_version, CUSTOMRESOURCEDEFINITIONS.kind):
            spec, status = obj["spec"], obj.get("status") or {}
            slimmed["spec"] = {"group": spec["group"], "names": spec["names"]}
            slimmed["status"] = {"conditions": status.get("conditions") or []}
        return slimmed

    return slim


def _without_token(data: Mapping[str, str]) -> dict[str, str]:
    """Whether a token is there, but not the token."""
    kept = {name: data[name] for name in ("ca.crt", "namespace") if name in data}
    return kept | {"token": TOKEN_IS_THERE if data.get("token") else ""}


def _graph_fields(obj: Object) -> Object:
    meta = obj["metadata"]
    return {field: meta[field] for field in GRAPH_FIELDS if field in meta}
