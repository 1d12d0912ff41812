"""An OpenAPI v2 document as v3, for extension servers that publish nothing newer.

Imitates k8s.io/kube-openapi/pkg/openapiconv. Lossy as that one is: what v2 cannot say (defaults, nullable, unions) is not made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubecosm.api.resources import Object

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_OLD, _NEW = "#/definitions/", "#/components/schemas/"
_IN_SCHEMA = ("type", "format", "items", "default", "enum", "uniqueItems", "maximum", "minimum", "maxLength", "minLength", "pattern")
_FALLBACK = ("application/json",)


def v3_of_v2(document: Object) -> Object:
    """The whole document; references that it does not resolve stay as they are."""
    shared = document.get("parameters") or {}
    schemas = {name: _schema(schema) for name, schema in (document.get("definitions") or {}).items()}
    return {
        "openapi": "3.0.0", "info": document.get("info") or {"title": "", "version": ""},
        "paths": {path: _path(item, shared) for path, item in (document.get("paths") or {}).items()},
        "components": {"schemas": schemas},
    }  # fmt: skip


def _schema(node: Any) -> Any:
    """With references pointing where v3 keeps schemas; nothing may stand beside one but in allOf."""
    if isinstance(node, list):
        return [_schema(child) for child in node]
    if not isinstance(node, dict):
        return node
    target = node.get("$ref")
    if isinstance(target, str):
        moved = {"$ref": _NEW + target.removeprefix(_OLD) if target.startswith(_OLD) else target}
        beside = {key: _schema(value) for key, value in node.items() if key != "$ref"}
        return {**beside, "allOf": [moved]} if beside else moved
    return {key: _schema(value) for key, value in node.items()}


def _path(item: Object, shared: Object) -> Object:
    found = [_resolved(parameter, shared) for parameter in item.get("parameters") or ()]
    result: Object = {key: value for key, value in item.items() if key.startswith("x-")}
    if plain := [_parameter(parameter) for parameter in found if parameter.get("in") != "body"]:
        result["parameters"] = plain
    bodies = [parameter for parameter in found if parameter.get("in") == "body"]
    return result | {method: _operation(item[method], shared, bodies) for method in _METHODS if isinstance(item.get(method), dict)}


def _operation(operation: Object, shared: Object, inherited: list[Object]) -> Object:
    """`inherited`: bodies that the path declares for all its methods."""
    result = {key: value for key, value in operation.items() if key not in ("parameters", "responses", "consumes", "produces", "schemes")}
    found = [_resolved(parameter, shared) for parameter in operation.get("parameters") or ()]
    if plain := [_parameter(parameter) for parameter in found if parameter.get("in") != "body"]:
        result["parameters"] = plain
    for body in [*inherited, *(parameter for parameter in found if parameter.get("in") == "body")]:
        schema = _schema(body.get("schema") or {})
        request: Object = {"content": {media: {"schema": schema} for media in operation.get("consumes") or _FALLBACK}}
        result["requestBody"] = request | {key: body[key] for key in ("description", "required") if key in body}
    produces = operation.get("produces") or _FALLBACK
    result["responses"] = {code: _response(answer, produces) for code, answer in (operation.get("responses") or {}).items()}
    return result


def _resolved(parameter: Object, shared: Object) -> Object:
    name = str(parameter.get("$ref", "")).removeprefix("#/parameters/")
    found: Object = shared.get(name, parameter) if name else parameter
    return found


def _parameter(parameter: Object) -> Object:
    """What v2 says of a parameter's type beside it stands in a schema of its own in v3."""
    schema = {key: _schema(parameter[key]) for key in _IN_SCHEMA if key in parameter}
    kept = {key: value for key, value in parameter.items() if key not in _IN_SCHEMA}
    return {**kept, "schema": schema} if schema else kept


def _response(answer: Object, produces: Iterable[str]) -> Object:
    result = {key: value for key, value in answer.items() if key not in ("schema", "headers", "examples")}
    if "schema" in answer:
        result["content"] = {media: {"schema": _schema(answer["schema"])} for media in produces}
    return result
