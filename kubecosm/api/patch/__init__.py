"""Patches: JSON (RFC 6902), merge (RFC 7396) and strategic merge, with Kubernetes' refusals.

Server-side apply is not a patch of a document but a negotiation over fields: see kubecosm.api.managedfields. Imitates
k8s.io/apiserver/pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.errors import ApiError, BadRequest, Invalid, RequestEntityTooLarge, UnsupportedMediaType
from kubecosm.api.field import go_quote
from kubecosm.api.patch import json_patch, merge_patch, strategic
from kubecosm.api.resources import Object, Resource, Subresource
from kubecosm.api.schema import IGNORE, STRICT, WARN, gojson, wire
from kubecosm.api.schema.explain import DecodeError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

REJECTED = "the server rejected our request due to an error in our request"


def apply_patch(
    resource: Resource, live: Object, patch: bytes, patch_type: str, field_validation: str = WARN, *,
    subresource: Subresource | None = None,
) -> tuple[Object, list[str]]:  # fmt: skip
    """(the patched object, decoded but not defaulted; warnings about its fields). `live` stays as it is; what was not patched is its own.

    Raises BadRequest (the patch is malformed), Invalid (it does not apply, or its result does not fit the kind), RequestEntityTooLarge, or
    UnsupportedMediaType (unknown type; strategic patch of a kind without a schema).
    """
    target = wire.target_of(resource, subresource)
    if patch_type == JSON_PATCH:
        document, complaints = _json(live, patch, field_validation)
    elif patch_type == MERGE_PATCH:
        document, complaints = _merge(live, patch, field_validation)
    elif patch_type == STRATEGIC_MERGE_PATCH and target.definition is not None:
        return _strategic(target, live, patch, field_validation)
    else:
        raise unsupported(strategic_too=target.definition is not None)
    return _decode(target, live, document, complaints, field_validation, None)


def unsupported(*, strategic_too: bool) -> UnsupportedMediaType:
    """The refusal of a patch's media type."""
    accepted = [JSON_PATCH, MERGE_PATCH, *([STRATEGIC_MERGE_PATCH] if strategic_too else []), APPLY_PATCH]
    why = "the body of the request was in an unknown format - accepted media types include: "
    return UnsupportedMediaType(why + ", ".join(accepted))


def _json(live: Object, patch: bytes, validation: str) -> tuple[Any, list[str]]:
    operations, complaints = _parse(patch)
    if not isinstance(operations, gojson.Pairs) and isinstance(operations, list):
        plain = [gojson.plain(operation) for operation in operations]
    else:
        raise BadRequest(f"error decoding patch: json: cannot unmarshal {_shape(operations)} into Go value of type []handlers.jsonPatchOp")
    for operation in operations:
        if not isinstance(operation, gojson.Pairs):
            raise BadRequest(f"error decoding patch: json: cannot unmarshal {_shape(operation)} into Go value of type handlers.jsonPatchOp")
        for name, value in operation:
            if name in ("op", "path", "from") and (not isinstance(value, str) or isinstance(value, gojson.Number)):
                where = f"Go struct field jsonPatchOp.{name} of type string"
                raise BadRequest(f"error decoding patch: json: cannot unmarshal {_shape(value)} into {where}")
    complaints = [f"json patch {complaint}" for complaint in [*_unknown_members(operations), *complaints]] if validation != IGNORE else []
    if len(plain) > json_patch.OPERATIONS_MAX:
        limit = f"The allowed maximum operations in a JSON patch is {json_patch.OPERATIONS_MAX}, got {len(plain)}"
        raise RequestEntityTooLarge(f"Request entity too large: {limit}")
    try:
        return json_patch.apply_operations(orjson.loads(orjson.dumps(live)), plain), complaints
    except json_patch.PatchFailed:
        raise Invalid(REJECTED, details={}) from None


def _unknown_members(operations: Any) -> list[str]:
    return [
        f'unknown field "[{index}].{name}"'
        for index, operation in enumerate(operations)
        for name, _ in operation
        if name not in ("op", "path", "from", "value")
    ]


def _merge(live: Object, patch: bytes, validation: str) -> tuple[Any, list[str]]:
    found = _plain_object(patch)
    if found is None:
        node, complaints = _parse(patch)
        if not isinstance(node, gojson.Pairs):
            if validation == IGNORE:
                raise BadRequest("Invalid JSON Patch")
            raise BadRequest(f"error decoding patch: json: cannot unmarshal {_shape(node)} into Go value of type map[string]interface {{}}")
        found = gojson.plain(node), complaints
    change, complaints = found
    return merge_patch.merge(live, change), complaints if validation != IGNORE else []


def _strategic(target: wire.Target, live: Object, patch: bytes, validation: str) -> tuple[Object, list[str]]:
    found = _plain_object(patch)
    if found is None:
        node, complaints = _parse(patch, prefix="")
        if not isinstance(node, gojson.Pairs):
            raise BadRequest(f"json: cannot unmarshal {_shape(node)} into Go value of type map[string]interface {{}}")
        found = gojson.plain(node), complaints
    change, complaints = found
    try:
        document = strategic.merge(target.name, live, change)
    except strategic.PatchInvalid as error:
        raise BadRequest(str(error)) from None
    except strategic.PatchUnprocessable:
        raise Invalid(REJECTED, details={}) from None
    except strategic.PatchError as error:
        raise ApiError(str(error)) from None
    for name, own in (("kind", target.kind), ("apiVersion", target.api_version)):
        if document.get(name) != own and isinstance(document.get(name), str | None):
            document[name] = own  # Go fills the type it has at hand: what the patch calls itself does not count
    return _decode(target, live, document, complaints if validation != IGNORE else [], validation, change)


def _plain_object(patch: bytes) -> tuple[dict[str, Any], list[str]] | None:
    """The patch and no complaints, if it is plainly an object without repeated fields, as nearly all are; None: see `_parse`."""
    try:
        value = orjson.loads(patch)
    except orjson.JSONDecodeError:
        return None
    return (value, []) if type(value) is dict and not wire.has_repeats(patch, value) else None


def _parse(patch: bytes, prefix: str = "error decoding patch: ") -> tuple[Any, list[str]]:
    """The patch with nothing forgotten, and complaints about repeated fields."""
    try:
        node = gojson.parse(patch)
    except gojson.SyntaxProblem as problem:
        raise BadRequest(f"{prefix}{problem}") from None
    return node, list(dict.fromkeys(_repeats(node, "")))


def _repeats(node: Any, path: str) -> list[str]:
    if isinstance(node, gojson.Pairs):
        found, seen = [], set()
        for name, value in node:
            below = f"{path}.{name}" if path else name
            if name in seen:
                found.append(f'duplicate field "{below}"')
            seen.add(name)
            found += _repeats(value, below)
        return found
    if isinstance(node, list):
        return [complaint for index, item in enumerate(node) for complaint in _repeats(item, f"{path}[{index}]")]
    return []


def _shape(node: Any) -> str:
    if isinstance(node, gojson.Pairs):
        return "object"
    if isinstance(node, list):
        return "array"
    if isinstance(node, bool):
        return "bool"
    return "null" if node is None else "number" if isinstance(node, gojson.Number) else "string"


def _decode(
    target: wire.Target, live: Object, document: Any, complaints: list[str], validation: str, change: Any
) -> tuple[Object, list[str]]:
    """The patched document as an object of the kind. Raises Invalid, naming the change if given, else the patched document.

    What the patch has left alone is live's own.
    """
    if not complaints and (plain := wire.decode_changes(target, live, document)) is not None:
        return plain, []
    body = orjson.dumps(document)
    try:
        obj, found = wire.decode_document(target, body, validation)
    except DecodeError as error:
        raise _invalid(_shown(document, change), str(error)) from None
    warnings = [*complaints, *found]
    if warnings and validation == STRICT:
        raise _invalid(_shown(document, change), f"strict decoding error: {', '.join(warnings)}")
    return obj, warnings


def _shown(document: Any, change: Any) -> str:
    if change is not None:
        return strategic.go_text(change)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def _invalid(value: str, why: str) -> Invalid:
    body = f"Invalid value: {go_quote(value)}: {why}"
    cause = {"reason": "FieldValueInvalid", "message": body, "field": "patch"}
    return Invalid(f' "" is invalid: patch: {body}', details={"causes": [cause]})
