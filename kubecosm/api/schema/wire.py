"""From a request body to an object: media types, kind and version, field validation, and the exact refusals.

Imitates k8s.io/apimachinery/pkg/runtime/serializer/json and the decoding part of apiserver's create handler. Custom resources lose
the fields that their structural schema does not know; only their metadata is checked here, validation is the server's business.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.errors import BadRequest, UnsupportedMediaType
from kubecosm.api.resources import CustomResource, Object, Resource, Subresource
from kubecosm.api.schema import gojson
from kubecosm.api.schema.embedded import coerce_embedded
from kubecosm.api.schema.explain import DecodeError
from kubecosm.api.schema.explain import decode as explain
from kubecosm.api.schema.fast import Doubt, checker
from kubecosm.api.schema.model import META, Definition, schemas
from kubecosm.api.schema.pruning import pruner
from kubecosm.api.schema.structural import prune_unknown
from kubecosm.api.schema.yaml import YamlError
from kubecosm.api.schema.yaml import load as load_yaml

IGNORE, WARN, STRICT = "Ignore", "Warn", "Strict"
JSON, YAML, MSGPACK = "application/json", "application/yaml", "application/msgpack"
PROTOBUF = "application/vnd.kubernetes.protobuf"
EVERY_GROUP = ("DeleteOptions",)
"""Kinds that are registered in every group and version: any apiVersion will do."""
SUMMARY_BYTES = 30
_UNKNOWN_FORMAT = (
    "the body of the request was in an unknown format - accepted media types include: "
    "application/json, application/yaml, application/vnd.kubernetes.protobuf"
)
_FIND_KIND = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


def decode(
    resource: Resource, body: bytes, media_type: str = JSON, field_validation: str = WARN, *, subresource: Subresource | None = None,
) -> tuple[Object, list[str]]:  # fmt: skip
    """The object in a body for this resource (or a subresource with a kind of its own), and warnings about its fields.

    It is what Go holds after decoding: nulls and scalars that are omitted when empty gone, always-written fields present (`resources: {}`,
    `status: {}`, null for nil lists never omitted), quantities, times and base64 canonical, apiVersion and kind set. Empty lists and maps
    stay until `prune` makes the object what is stored.
    Raises BadRequest (malformed, wrong kind, wrong type, strict field errors) or UnsupportedMediaType.
    """
    target = target_of(resource, subresource)
    essence = media_type.partition(";")[0].strip().lower() or JSON
    if essence == JSON:
        return _decode_json(target, body, field_validation)
    if essence == YAML:
        return _decode_yaml(target, body, field_validation)
    if essence == MSGPACK:
        return _decode_msgpack(target, body, field_validation)
    if essence == PROTOBUF:
        return _decode_protobuf(target, body, field_validation)
    raise UnsupportedMediaType(_UNKNOWN_FORMAT)


class Target:
    """What a body is expected to be."""

    __slots__ = ("api_version", "custom", "definition", "group", "kind", "name", "version")

    def __init__(self, group: str, version: str, kind: str, custom: Object | None = None) -> None:
        self.custom = custom
        """The structural schema of a custom resource: fields it does not know are pruned."""
        self.group, self.version, self.kind = group, version, kind
        self.api_version = f"{group}/{version}" if group else version
        self.definition: Definition | None = schemas().of_kind(self.api_version, kind) or _options(kind)
        self.name = self.definition.name if self.definition else ""


_targets: dict[tuple[str, str, str], Target] = {}


def target_of(resource: Resource, subresource: Subresource | None = None) -> Target:
    """What bodies for a resource, or for its subresource with a kind of its own, must be."""
    row = subresource or resource
    key = (row.group, row.version, row.kind) if row.version else (resource.group, resource.version, row.kind)  # no version: the resource's
    if subresource is None and isinstance(resource, CustomResource):
        return Target(*key, resource.schema)
    found = _targets.get(key)
    if found is None:
        found = Target(*key)
        if found.definition is not None:
            _targets[key] = found
    return found


def _options(kind: str) -> Definition | None:
    """DeleteOptions and the like are bodies in every group."""
    return schemas().definition(META + kind) if kind in ("DeleteOptions", "Status") else None


def _decode_json(target: Target, body: bytes, validation: str) -> tuple[Object, list[str]]:
    try:
        obj = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _explain(target, body, _parse_slowly(target, body), validation)
    if obj is None and target.definition is not None:
        return finish(target, {}), []  # Go leaves a struct as it was when told null
    if type(obj) is not dict or not _fits(target, obj) or (validation != IGNORE and has_repeats(body, obj)):
        return _explain(target, body, _parse_slowly(target, body), validation)
    try:
        return finish(target, obj), []
    except (Doubt, ValueError):
        return _explain(target, body, _parse_slowly(target, body), validation)


def has_repeats(body: bytes, obj: Any) -> bool:
    """Whether JSON text has repeated keys, given what it parsed to; may be wrong only by saying yes.

    A dropped repeat takes its key's quotes with it. Escaped quotes stand in both texts, save those written as \\u0022.
    """
    return bool(body.count(b'"') != orjson.dumps(obj).count(b'"') or b"\\u0022" in body)


def finish(target: Target, obj: Object) -> Object:
    """Check and normalise a parsed object in place; Doubt or ValueError if it is not plainly right."""
    if target.definition is None:
        _check_custom(obj, target.custom)
    else:
        checker(target.name)(obj)
    if "apiVersion" not in obj or "kind" not in obj:
        obj = {"apiVersion": target.api_version, "kind": target.kind, **obj}
    return obj


def _check_custom(obj: Object, schema: Object | None) -> None:
    if schema is not None and prune_unknown(schema, obj, remove=False):
        raise Doubt
    metadata = obj.get("metadata")
    if metadata is not None:
        checker(META + "ObjectMeta")(metadata)
    elif "metadata" in obj:
        raise Doubt


def normalize(resource: Resource, obj: Object) -> Object:
    """An object built in the server itself (a patch result) as a round trip through Go's types leaves it. Raises BadRequest as decode does.

    Works on a copy, so objects that share parts with stored ones are safe.
    """
    result = _decode_json(target_of(resource), orjson.dumps(obj), IGNORE)[0]
    prune(result)
    return result


def prune(obj: Object, stored: Object | None = None) -> None:
    """Make of a decoded object, in place, what Go's encoder would write: drop empty lists and maps (null where they are never omitted).

    Parts that it shares with a `stored` object are so already.
    """
    definition = schemas().of_kind(obj["apiVersion"], obj["kind"])
    if definition is not None:
        fresh = obj if stored is None else {name: value for name, value in obj.items() if value is not stored.get(name)}
        names = tuple(fresh)
        pruner(definition.name)(fresh)
        if stored is not None:
            for name in names:
                if name in fresh:
                    obj[name] = fresh[name]
                else:
                    del obj[name]
    elif obj.get("metadata"):
        pruner(META + "ObjectMeta")(obj["metadata"])


def decode_document(target: Target, body: bytes, validation: str) -> tuple[Object, list[str]]:
    """A JSON document made by the server out of an object and a patch; DecodeError, without any prefix, if it does not fit."""
    obj = orjson.loads(body)
    if type(obj) is dict and _fits(target, obj):
        try:
            return finish(target, obj), []
        except (Doubt, ValueError):
            pass
    node = gojson.parse(body)
    if not isinstance(node, gojson.Pairs) or not _fits(target, obj):
        found = obj if type(obj) is dict else {}
        version, kind = str(found.get("apiVersion", "")).rpartition("/")[2], found.get("kind", "")
        internal = f"{target.group.partition('.')[0] or 'core'}.{target.kind}"
        raise DecodeError(f"converting ({version}.{kind}) to ({internal}): unknown conversion")
    if target.definition is None:
        if target.custom is None:
            raise DecodeError("metadata does not fit ObjectMeta")
        unknown = prune_unknown(target.custom, obj)
        coerce_embedded(target.custom, obj)
        return finish(target, obj), _unknown_fields(unknown) if validation != IGNORE else []
    clean, errors = explain(target.definition, node, strict=validation != IGNORE)
    return finish(target, clean), errors


def decode_changes(target: Target, live: Object, document: Any) -> Object | None:
    """A document made out of `live`, whose top-level fields it shares where they are as they were: the others are checked, as in a body.

    None if it is not plainly right, or nothing is known of the kind.
    """
    if target.definition is None or type(document) is not dict or not _fits(target, document):
        return None
    changed = {name: value for name, value in document.items() if name not in live or value is not live[name]}
    try:
        checked: Object = checker(target.name)(orjson.loads(orjson.dumps(changed)))
    except (Doubt, ValueError):
        return None
    result: Object = {"apiVersion": target.api_version, "kind": target.kind}
    for name, value in document.items():
        if name not in changed:
            result[name] = dict(value) if name == "metadata" else value
        elif name in checked:
            result[name] = checked[name]
    for name, value in checked.items():  # what is always there
        result.setdefault(name, value)
    return result


def _fits(target: Target, obj: Object) -> bool:
    """Whether kind and apiVersion are the expected ones or left out."""
    if obj.get("kind", target.kind) != target.kind:
        return False
    return target.kind in EVERY_GROUP or bool(obj.get("apiVersion", target.api_version) == target.api_version)


def _parse_slowly(target: Target, body: bytes) -> Any:
    try:
        return gojson.parse(body)
    except gojson.SyntaxProblem as problem:
        raise unrecognized(target.kind, f"couldn't get version/kind; json parse error: {problem}", body) from None


def _decode_yaml(target: Target, body: bytes, validation: str) -> tuple[Object, list[str]]:
    try:
        value, repeats = load_yaml(body)
    except YamlError as error:
        raise unrecognized(target.kind, str(error), body) from None
    json = orjson.dumps(value)
    if not repeats or validation == IGNORE:
        return _decode_json(target, json, validation)
    complaint = "yaml: unmarshal errors:\n  " + "\n  ".join(repeats)
    return _explain(target, json, gojson.parse(json), validation, earlier=[complaint])


def _decode_msgpack(target: Target, body: bytes, validation: str) -> tuple[Object, list[str]]:
    import msgpack

    try:
        value = msgpack.unpackb(body)
        json = orjson.dumps(value)
    except (ValueError, TypeError, msgpack.UnpackException):
        raise unrecognized(target.kind, "couldn't get version/kind; msgpack parse error", body) from None
    return _decode_json(target, json, validation)


def _decode_protobuf(target: Target, body: bytes, validation: str) -> tuple[Object, list[str]]:
    from kubecosm.api.schema import protobuf

    try:
        value = protobuf.decode(body)
    except protobuf.ProtobufError as error:
        raise unrecognized(target.kind, str(error), body) from None
    return _decode_json(target, orjson.dumps(value), validation)


def _explain(target: Target, body: bytes, node: Any, validation: str, earlier: list[str] | None = None) -> tuple[Object, list[str]]:
    """Decode again with full care: raises the exact refusal, or returns the object with its warnings."""
    api_version, kind = _find_kind(target, node, body)
    group, _, version = api_version.rpartition("/")
    definition = target.definition
    if (api_version, kind) != (target.api_version, target.kind):
        definition = schemas().of_kind(api_version, kind)
        if definition is None and not (kind == target.kind and group == target.group):
            why = f'no kind "{kind}" is registered for version "{api_version}" in scheme "pkg/api/legacyscheme/scheme.go:30"'
            raise cannot_be_handled(kind, version, target.kind, why)
    if definition is None:
        obj, errors = _explain_custom(target, kind, version, node, validation)
    else:
        try:
            obj, errors = explain(definition, node, strict=validation != IGNORE)
        except DecodeError as error:
            raise cannot_be_handled(kind, version, target.kind, str(error)) from None
    errors = [*(earlier or ()), *errors]
    if errors and validation == STRICT:
        raise cannot_be_handled(kind, version, target.kind, f"strict decoding error: {', '.join(errors)}")
    _check_identity(target, api_version, kind)
    return finish(target, obj), errors


def _check_identity(target: Target, api_version: str, kind: str) -> None:
    if kind != target.kind:
        version = api_version.rpartition("/")[2]
        why = f"converting ({version}.{kind}) to ({target.group.partition('.')[0] or 'core'}.{target.kind}): unknown conversion"
        raise cannot_be_handled(kind, version, target.kind, why)
    if api_version != target.api_version:
        raise BadRequest(f"the API version in the data ({api_version}) does not match the expected API version ({target.api_version})")


def _explain_custom(target: Target, kind: str, version: str, node: Any, validation: str) -> tuple[Object, list[str]]:
    """A custom resource: what its schema knows (everything, without one) is kept, its metadata is decoded as ObjectMeta."""
    obj = gojson.plain(node)
    unknown = prune_unknown(target.custom, obj) if target.custom is not None else []
    if target.custom is not None:
        try:
            coerce_embedded(target.custom, obj)
        except DecodeError as error:
            raise cannot_be_handled(kind, version, target.kind, str(error)) from None
    metadata = next((value for name, value in reversed(node) if name == "metadata"), None)
    found, twice = _unknown_fields(unknown), [f'duplicate field "{path}"' for path in gojson.repeats(node)]
    if metadata is None:
        obj.pop("metadata", None)
        return obj, [*twice, *found] if validation != IGNORE else []
    try:
        obj["metadata"], wrong = explain(schemas().definition(META + "ObjectMeta"), metadata, strict=validation != IGNORE)
    except DecodeError as error:
        raise cannot_be_handled(kind, version, target.kind, str(error)) from None
    wrong = [complaint.replace('field "', 'field "metadata.', 1) for complaint in wrong]
    return obj, list(dict.fromkeys([*twice, *wrong, *found])) if validation != IGNORE else []


def _unknown_fields(paths: list[str]) -> list[str]:
    return [f'unknown field "{path}"' for path in paths]


def _find_kind(target: Target, node: Any, body: bytes) -> tuple[str, str]:
    """The body's apiVersion and kind, the expected ones where it names none."""
    prefix = "couldn't get version/kind; json parse error: json: cannot unmarshal"
    if not isinstance(node, gojson.Pairs):
        if node is None:
            return target.api_version, target.kind
        shape = "array" if isinstance(node, list) else "bool" if isinstance(node, bool) else None
        shape = shape or ("number" if isinstance(node, gojson.Number) else "string")
        raise unrecognized(target.kind, f"{prefix} {shape} into Go value of type {_FIND_KIND}", body)
    found = {"apiVersion": "", "kind": ""}
    for name, value in node:
        if name not in found or value is None:
            continue
        if not isinstance(value, str) or isinstance(value, gojson.Number):
            shape = "object" if isinstance(value, gojson.Pairs) else "array" if isinstance(value, list) else None
            shape = shape or ("bool" if isinstance(value, bool) else "number")
            raise unrecognized(target.kind, f"{prefix} {shape} into Go struct field .{name} of type string", body)
        found[name] = value
    if found["apiVersion"].count("/") > 1:
        raise unrecognized(target.kind, f"unexpected GroupVersion string: {found['apiVersion']}", body)
    return found["apiVersion"] or target.api_version, found["kind"] or target.kind


def unrecognized(kind: str, why: str, body: bytes) -> BadRequest:
    """The refusal of a body whose kind cannot even be read."""
    return BadRequest(f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(body)})")


def cannot_be_handled(kind: str, version: str, expected: str, why: str) -> BadRequest:
    """The refusal of a body of a known kind."""
    return BadRequest(f'{kind} in version "{version}" cannot be handled as a {expected}: {why}')


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    cut = body[:SUMMARY_BYTES]
    text = cut.decode("utf-8", "replace") if body[:1] == b"{" else cut.hex()
    return f"{text} ..." if len(body) > SUMMARY_BYTES else text
