"""OpenAPI v2 as the protobuf message that kubectl asks for: gnostic's openapi.v2.Document.

Field numbers are those of google/gnostic-models' OpenAPIv2.proto. Only what our documents hold is encoded; vendor extensions travel as YAML
text, for which JSON serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from kubecosm.api.resources import Object

from ..wire import varint

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


def _bytes(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def _text(field: int, text: str | None) -> bytes:
    return _bytes(field, text.encode()) if text else b""


def _texts(field: int, texts: Iterable[str]) -> bytes:
    return b"".join([_bytes(field, text.encode()) for text in texts])


def _flag(field: int, value: Any) -> bytes:
    return varint(field << 3) + b"\1" if value else b""


def _any(field: int, value: Any) -> bytes:
    return _bytes(field, _text(2, orjson.dumps(value).decode() + "\n"))


def _extensions(field: int, obj: Object) -> bytes:
    return b"".join([_bytes(field, _text(1, key) + _any(2, value)) for key, value in obj.items() if key.startswith("x-")])


def document(doc: Object) -> bytes:
    """The encoded message of a v2 document."""
    info, token = doc["info"], doc["securityDefinitions"]["BearerToken"]
    api_key = _text(1, token["type"]) + _text(2, token["name"]) + _text(3, token["in"]) + _text(4, token["description"])
    parts = [
        _text(1, doc["swagger"]),
        _bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
        _bytes(8, b"".join([_bytes(2, _text(1, path) + _bytes(2, _path_item(item))) for path, item in doc["paths"].items()])),
        _bytes(9, b"".join([_named_schema(1, name, schema) for name, schema in doc["definitions"].items()])),
        _bytes(10, b"".join([_bytes(1, _text(1, name) + _bytes(2, _parameter(value))) for name, value in doc["parameters"].items()])),
        _bytes(12, _bytes(1, _text(1, "BearerToken") + _bytes(2, b""))),
        _bytes(13, _bytes(1, _text(1, "BearerToken") + _bytes(2, _bytes(2, api_key)))),
    ]
    return b"".join(parts)


def _named_schema(field: int, name: str, schema: Object) -> bytes:
    return _bytes(field, _text(1, name) + _bytes(2, _schema(schema)))


def _schema(schema: Object) -> bytes:
    parts = [
        _text(1, schema.get("$ref")),
        _text(2, schema.get("format")),
        _text(4, schema.get("description")),
        _texts(19, schema.get("required", ())),
    ]
    if "additionalProperties" in schema:
        inner = schema["additionalProperties"]
        parts.append(_bytes(21, _flag(2, inner) if isinstance(inner, bool) else _bytes(1, _schema(inner))))
    if "type" in schema:
        kinds = schema["type"]
        parts.append(_bytes(22, _texts(1, [kinds] if isinstance(kinds, str) else kinds)))
    if "items" in schema:
        parts.append(_bytes(23, _bytes(1, _schema(schema["items"]))))
    if "properties" in schema:
        parts.append(_bytes(25, b"".join([_named_schema(1, name, value) for name, value in schema["properties"].items()])))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _path_item(item: Object) -> bytes:
    parts = [_bytes(number, _operation(item[method])) for method, number in _METHODS.items() if method in item]
    return b"".join([*parts, *(_bytes(9, _parameters_item(parameter)) for parameter in item.get("parameters", ()))])


def _operation(operation: Object) -> bytes:
    answers = operation.get("responses", {})
    responses = [_bytes(1, _text(1, code) + _bytes(2, _bytes(1, _response(value)))) for code, value in answers.items()]
    return b"".join([
        _texts(1, operation.get("tags", ())), _text(3, operation.get("description")), _text(5, operation.get("operationId")),
        _texts(6, operation.get("produces", ())), _texts(7, operation.get("consumes", ())),
        *(_bytes(8, _parameters_item(parameter)) for parameter in operation.get("parameters", ())),
        _bytes(9, b"".join(responses)), _texts(10, operation.get("schemes", ())), _extensions(13, operation),
    ])  # fmt: skip


def _response(response: Object) -> bytes:
    schema = response.get("schema")
    return _text(1, response.get("description")) + (_bytes(2, _bytes(1, _schema(schema))) if schema is not None else b"")


def _parameters_item(parameter: Object) -> bytes:
    return _bytes(2, _text(1, parameter["$ref"])) if "$ref" in parameter else _bytes(1, _parameter(parameter))


def _parameter(parameter: Object) -> bytes:
    name, place, required = parameter["name"], parameter["in"], parameter.get("required")
    if place == "body":
        return _bytes(1, _text(2, name) + _text(3, place) + _flag(4, required) + _bytes(5, _schema(parameter["schema"])))
    common = _flag(1, required) + _text(2, place) + _text(4, name)
    if place == "path":
        return _bytes(2, _bytes(4, common + _text(5, parameter.get("type")) + _flag(19, parameter.get("uniqueItems"))))
    return _bytes(2, _bytes(3, common + _text(6, parameter.get("type")) + _flag(20, parameter.get("uniqueItems"))))
