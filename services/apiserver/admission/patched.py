"""From a document that somebody made of an object during admission back to an object: typed, defaulted, in the stored version."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api import schema
from kubecosm.api.errors import ApiError, InternalError
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema import prune

from ..state import State
from .chain import Attributes


def decode_patched(state: State, attributes: Attributes, row: Resource, document: Any) -> Object:
    """The object in the version of `row`, with what its kind does not know dropped, and pruned. Raises InternalError."""
    subresource = row.subresource(attributes.subresource) if attributes.subresource else None
    try:
        obj, _ = schema.decode(row, orjson.dumps(document), field_validation=schema.IGNORE, subresource=subresource)
    except ApiError as error:
        why = error.message
        raise InternalError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]}) from None
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    prune(obj)
    return obj


def put_back(state: State, attributes: Attributes, row: Resource, obj: Object) -> None:
    """Make `obj` (in the version of `row`) the object of the request, with the defaults of its kind."""
    store = state.stores.get((row.group, row.version, row.plural)) if attributes.kind[2] == attributes.resource.kind else None
    if store is not None:
        store.served_strategy.default(obj)
        obj = store.to_stored(obj)
    attributes.obj = obj
