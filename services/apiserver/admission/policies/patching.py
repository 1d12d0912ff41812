"""What the expressions of a mutating policy come to: a configuration that is merged in, or operations of a JSON patch. Pure.

Imitates apiserver/pkg/admission/plugin/policy/mutating/patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from kubecosm.api.managedfields.kinds import shape_of_resource
from kubecosm.api.managedfields.merge import merge
from kubecosm.api.managedfields.shapes import KeyProblem, ListShape, MapShape, Shape
from kubecosm.api.managedfields.validate import complaints
from kubecosm.api.patch.json_patch import PatchFailed, TestFailed, apply_operations
from kubecosm.api.resources import Object, Resource


class MutationFailed(Exception):
    """A mutation cannot be applied; the failure policy decides."""


def apply_configuration(row: Resource, obj: Object, configuration: Any) -> Object:
    """The object with a configuration merged in, as server-side apply does it but without owners. Raises MutationFailed."""
    if not isinstance(configuration, dict):
        raise MutationFailed(f"must evaluate to Object but got {type(configuration).__name__}")
    config = {**configuration, "kind": obj["kind"], "apiVersion": obj["apiVersion"]}
    shape = shape_of_resource(row, typed=False)
    if problem := complaints(shape, config):
        raise MutationFailed(f"error applying patch: failed to convert patch object to typed object: {problem}")
    atomic = ", ".join(atomic_parts(shape, config, ""))
    if atomic:
        raise MutationFailed(f"error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomic}")
    try:
        merged = merge(shape, obj, config)
    except KeyProblem as problem:
        raise MutationFailed(f"error applying patch: failed to merge patch: {problem}") from None
    assert isinstance(merged, dict)
    return merged


def atomic_parts(shape: Shape | None, value: Any, path: str) -> Iterator[str]:
    """Paths of lists and maps in a configuration that would replace the present ones as a whole."""
    if shape is None or not isinstance(value, dict | list):
        return
    if shape.atomic:
        yield path or "."
    if isinstance(shape, MapShape) and isinstance(value, dict):
        for name, item in value.items():
            yield from atomic_parts(shape.child(name), item, f"{path}.{name}")
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from atomic_parts(shape.elem, item, f"{path}[{index}]")


def apply_json_patch(obj: Object, operations: Any) -> Any:
    """The document after the operations, or as it was if a test among them fails; `obj` is changed. Raises MutationFailed."""
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise MutationFailed("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
    before = orjson.dumps(obj)
    try:
        return apply_operations(obj, operations)
    except TestFailed:
        return orjson.loads(before)  # a test that fails is how a policy says that there is nothing to do
    except PatchFailed as error:
        raise MutationFailed(f"JSONPath: {error}") from None
