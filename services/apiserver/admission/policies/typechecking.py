"""Whether the expressions of a policy fit the kinds it is about: warnings for its status, since policies may be about kinds yet to come.

Pure. Imitates apiserver/pkg/admission/plugin/policy/validating/typechecking.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from kubecosm.api.resources import CustomResource, Object, Resource, ResourceTable
from kubecosm.api.schema.model import LIST, MAP, META, STRUCT, schemas
from kubecosm.api.schema.model import Type as ApiType
from kubecosm.cel.types import BOOL, BYTES, DOUBLE, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of, object_of

from ..engine import compile_expression
from ..expressions import ANY, CompilationError, Environment

KINDS_MAX = 10
"""Kinds that are looked at for one policy."""
_SCALARS = {
    "string": STRING, "bool": BOOL, "int32": INT, "int64": INT, "float64": DOUBLE, "bytes": BYTES, "quantity": STRING, "time": TIMESTAMP,
    "microtime": TIMESTAMP, "duration": STRING,
}  # fmt: skip
_JSON_SCALARS = {"string": STRING, "boolean": BOOL, "integer": INT, "number": DOUBLE}


def warnings_of(spec: Object, table: ResourceTable) -> list[Object]:
    """The ExpressionWarnings of a ValidatingAdmissionPolicy's spec."""
    rows = kinds_of(spec, table)
    found: list[Object] = []
    for i, validation in enumerate(spec.get("validations") or ()):
        for name in ("expression", "messageExpression"):
            source = validation.get(name, "")
            complaints = list(_complaints(source, spec, rows, table)) if source else []
            if complaints:
                found.append({"fieldRef": f"spec.validations[{i}].{name}", "warning": "\n".join(complaints)})
    return found


def kinds_of(spec: Object, table: ResourceTable) -> list[Resource]:
    """The rows that the rules name outright, without wildcards."""
    found: dict[Resource, None] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        parts = (rule.get("apiGroups") or (), rule.get("apiVersions") or (), rule.get("resources") or ())
        for group, version, plural in product(*parts):
            row = table.by_path(group, version, plural)
            if row is not None:
                found[row] = None
    return sorted(found, key=lambda row: (row.group, row.version, row.kind))[:KINDS_MAX]


def _complaints(source: str, spec: Object, rows: list[Resource], table: ResourceTable) -> Iterator[str]:
    for row in rows:
        types = _types_for(spec, row, table)
        try:
            compile_expression(source, _typed_environment(spec, types), ANY, types)
        except CompilationError as error:
            yield f"{_printed(row)}: {str(error).removeprefix('compilation failed: ')}\n"


def _printed(row: Resource) -> str:
    """As Go prints a GroupVersionKind."""
    return f"{row.group}/{row.version}, Kind={row.kind}"


def _types_for(spec: Object, row: Resource, table: ResourceTable) -> dict[str, Type]:
    types = {"object": type_of_row(row), "oldObject": type_of_row(row)}
    kind = spec.get("paramKind")
    param = table.by_kind(kind.get("apiVersion", ""), kind.get("kind", "")) if kind else None
    if param is not None:
        types["params"] = type_of_row(param)
    return types


def _typed_environment(spec: Object, types: dict[str, Type]) -> Environment:
    """The environment of a policy's expressions; variables get into `types`, as far as they can be compiled."""
    environment = Environment("paramKind" in spec)
    fields: dict[str, Type] = {}
    for variable in spec.get("variables") or ():
        types["variables"] = object_of("kubernetes.variables", dict(fields))
        try:
            fields[variable["name"]] = compile_expression(variable.get("expression", ""), environment, ANY, types).type
        except CompilationError:
            fields[variable["name"]] = DYN
    types["variables"] = object_of("kubernetes.variables", fields)
    return environment


def type_of_row(row: Resource) -> Type:
    """The type of a kind's objects; dyn where nothing is known of them."""
    if isinstance(row, CustomResource):
        return _of_schema(row.schema, row.kind)
    definition = schemas().of_kind(row.api_version, row.kind)
    return DYN if definition is None else _of_definition(definition.name)


class _Fields(Mapping[str, Type]):
    """The fields of a definition, worked out one by one: definitions refer to each other in circles."""

    def __init__(self, name: str) -> None:
        self._fields = schemas().definition(name).fields

    def __getitem__(self, name: str) -> Type:
        return _of_type(self._fields[name].type)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@lru_cache(2000)
def _of_definition(name: str) -> Type:
    return object_of(name, _Fields(name))


def _of_type(kind: ApiType) -> Type:
    if kind.kind == STRUCT:
        return _of_definition(kind.ref) if not schemas().definition(kind.ref).special else DYN
    if kind.kind == LIST and kind.elem is not None:
        return list_of(_of_type(kind.elem))
    if kind.kind == MAP and kind.elem is not None:
        return map_of(STRING, _of_type(kind.elem))
    return _SCALARS.get(kind.kind, DYN)


def _of_schema(schema: Mapping[str, Any], path: str) -> Type:
    """Of a structural schema; the root's metadata is that of every object."""
    kind = schema.get("type")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") and not schema.get("properties")
    if is_open or schema.get("x-kubernetes-int-or-string"):
        return DYN
    if kind == "array":
        return list_of(_of_schema(schema.get("items") or {}, f"{path}.@items"))
    if kind != "object":
        return _JSON_SCALARS.get(kind or "", DYN)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return map_of(STRING, _of_schema(extra, f"{path}.@values"))
    fields = {name: _of_schema(inner, f"{path}.{name}") for name, inner in (schema.get("properties") or {}).items()}
    if "." not in path:
        fields |= {"apiVersion": STRING, "kind": STRING, "metadata": _of_definition(META + "ObjectMeta")}
    return object_of(path, fields)
