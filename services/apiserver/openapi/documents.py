"""Whole OpenAPI documents, as JSON values: v3 for one group and version, v2 for everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus

import kubecosm
from kubecosm.api.resources import CustomResource, Object, Resource
from kubecosm.api.schema import schemas
from kubecosm.api.schema.model import META

from .customs import custom_name, custom_operations, list_definition
from .definitions import full_name, reachable, reference, schema_of
from .descriptions import describe, describe_objects
from .general import documents as general_documents
from .general import resource_lists
from .operations import PARAMETER_TYPES, Operation, operations

_INLINE = ("dryRun", "fieldValidation")
"""Query parameters that v2 writes out in each operation; the others are shared by reference."""
_CODES = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}
_UNKNOWN: Object = {"type": "object"}

CustomSchema = Callable[[Resource, int], Object | None]
"""Gives the schema of a custom resource as published in that OpenAPI version (2 or 3), None if there is none."""


def no_custom_schema(row: Resource, version: int) -> Object | None:
    return None


def v3(rows: Sequence[Resource], custom_schema: CustomSchema = no_custom_schema) -> Object:
    """The document of one group and version."""
    ops = [*resource_lists(rows), *_operations(rows)]
    names = {name for operation in ops for name in (operation.body, operation.answer) if name and not name.startswith("#")}
    customs = _customs(rows, custom_schema, 3)
    if customs:
        names |= {f"{META}ObjectMeta", f"{META}ListMeta"}
    document = _v3(ops, names)
    document["components"]["schemas"] |= customs
    return document


def _operations(rows: Sequence[Resource]) -> list[Operation]:
    """On all resources, in order of their paths."""
    found = list(operations(row for row in rows if not isinstance(row, CustomResource)))
    found += [operation for row in rows if isinstance(row, CustomResource) for operation in custom_operations(row)]
    return sorted(found, key=lambda operation: operation.path)


def v3_general(operation: Operation) -> Object:
    """The document of a path that is about no resource."""
    return _v3([operation], {operation.answer} - {""})


def _v3(ops: Iterable[Operation], names: Iterable[str]) -> Object:
    """The document of these operations, with the definitions of these names and all that they mention."""
    components: Object = {full_name(name): schema_of(schemas().definition(name), 3) for name in reachable(names)}
    describe(components)
    paths: Object = {}
    for operation in ops:
        item = _item(paths, operation, lambda op: [*_path_parameters_v3(op), _query_v3("pretty")])
        item[operation.method] = _operation_v3(operation)
    return {
        "openapi": "3.0.0", "info": _info(), "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"BearerToken": _token()}},
    }  # fmt: skip


def _item(paths: Object, operation: Operation, parameters: Callable[[Operation], list[Object]]) -> Object:
    """The entry of a path. What all methods of a resource take stands there."""
    item: Object = paths.setdefault(operation.path, {"parameters": parameters(operation)} if operation.action else {})
    return item


def v2(rows: Iterable[Resource], custom_schema: CustomSchema = no_custom_schema) -> Object:
    """The one document of everything."""
    rows = list(rows)
    definitions: Object = {full_name(name): schema_of(schemas().definition(name), 2) for name in schemas().names()}
    describe(definitions)
    parameters: Object = {}
    paths: Object = {}
    ops = sorted([*general_documents(rows).values(), *resource_lists(rows), *_operations(rows)], key=lambda operation: operation.path)
    for operation in ops:
        item = _item(paths, operation, lambda op: [*_path_parameters_v2(op), _query_v2("pretty", parameters)])
        item[operation.method] = _operation_v2(operation, parameters)
    definitions |= _customs(rows, custom_schema, 2)
    return {
        "swagger": "2.0", "info": _info(), "paths": paths, "definitions": definitions, "parameters": parameters,
        "securityDefinitions": {"BearerToken": _token()}, "security": [{"BearerToken": []}],
    }  # fmt: skip


def _customs(rows: Iterable[Resource], custom_schema: CustomSchema, version: int) -> Object:
    """The definitions of custom resources and their lists, and of what else has none in the data."""
    found: Object = {}
    for row in rows:
        if isinstance(row, CustomResource) or schemas().of_kind(row.api_version, row.kind) is None:
            kinds = [{"group": row.group, "kind": row.kind, "version": row.version}]
            found[custom_name(row)] = {**(custom_schema(row, version) or _UNKNOWN), "x-kubernetes-group-version-kind": kinds}
        if isinstance(row, CustomResource):
            found[custom_name(row, row.list_kind)] = list_definition(row, version)
    describe_objects(found)
    return found


def _info() -> Object:
    return {"title": "Kubernetes", "version": kubecosm.KUBERNETES_VERSION}


def _token() -> Object:
    return {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"}


def _described(operation: Operation) -> Object:
    return {"description": operation.description} if operation.description else {}


def _extensions(operation: Operation) -> Object:
    """What is done to which kind; nothing for operations on no resource."""
    if not operation.action:
        return {}
    group, version, kind = operation.kind
    return {
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
    }


def _description(code: int) -> str:
    return _CODES.get(code) or HTTPStatus(code).phrase


def _path_parameters_v3(operation: Operation) -> list[Object]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
        for name in operation.path_parameters
    ]


def _query_v3(name: str) -> Object:
    return {"name": name, "in": "query", "schema": {"type": PARAMETER_TYPES.get(name, "string"), "uniqueItems": True}}


def _operation_v3(operation: Operation) -> Object:
    result: Object = {"tags": [operation.tag], "operationId": operation.id, **_described(operation)}
    if operation.query:
        result["parameters"] = [_query_v3(name) for name in operation.query]
    if operation.body:
        schema = reference(operation.body, 3)
        result["requestBody"] = {"content": {media: {"schema": schema} for media in operation.consumes}}
        if operation.body_required:
            result["requestBody"]["required"] = True
    schema = reference(operation.answer, 3) if operation.answer else {"type": "string"}
    content = {media: {"schema": schema} for media in operation.produces}
    result["responses"] = {str(code): {"description": _description(code), "content": content} for code in operation.codes}
    result["responses"]["401"] = {"description": "Unauthorized"}
    return result | _extensions(operation)


def _path_parameters_v2(operation: Operation) -> list[Object]:
    return [{"name": name, "in": "path", "required": True, "type": "string", "uniqueItems": True} for name in operation.path_parameters]


def _query_v2(name: str, shared: Object) -> Object:
    parameter = {"name": name, "in": "query", "type": PARAMETER_TYPES.get(name, "string"), "uniqueItems": True}
    if name in _INLINE:
        return parameter
    shared[name] = parameter
    return {"$ref": f"#/parameters/{name}"}


def _operation_v2(operation: Operation, shared: Object) -> Object:
    result: Object = {
        "tags": [operation.tag], "operationId": operation.id, **_described(operation), "schemes": ["https"],
        "consumes": list(operation.consumes), "produces": list(operation.produces),
    }  # fmt: skip
    parameters = [_query_v2(name, shared) for name in operation.query]
    if operation.body:
        body: Object = {"name": "body", "in": "body", "schema": reference(operation.body, 2)}
        if operation.body_required:
            body["required"] = True
        parameters.insert(0, body)
    if parameters:
        result["parameters"] = parameters
    schema = reference(operation.answer, 2) if operation.answer else {"type": "string"}
    result["responses"] = {str(code): {"description": _description(code), "schema": schema} for code in operation.codes}
    result["responses"]["401"] = {"description": "Unauthorized"}
    return result | _extensions(operation)
