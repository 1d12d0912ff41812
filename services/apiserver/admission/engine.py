"""CEL as admission uses it: the types of what expressions may name, programs with what they expect, the authorizer, mutations.

Imitates apiserver/pkg/admission/plugin/cel/{compile,composition}.go and pkg/cel/mutation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kubecosm.api.resources import Resource
from kubecosm.cel.environment import Environment as CelEnvironment
from kubecosm.cel.environment import Program as CelProgram
from kubecosm.cel.issues import CompileError
from kubecosm.cel.libraries.authorization import Authorizer
from kubecosm.cel.nodes import Call, ListNode, Node, Struct
from kubecosm.cel.types import BOOL, DYN, STRING, Type, list_of, map_of, object_of, opaque
from kubecosm.cel.values import CelError, CostExceeded, Fields, Opaque

from ..aside import TooLong
from ..authn.user import User
from ..authz.attributes import Attributes as Asked
from .expressions import ANY, JSON_PATCH, OBJECT, CompilationError, Environment, EvaluationError, OutOfBudget, Scope, View

CALL_COST_MAX = 1_000_000
"""celconfig.PerCallLimit."""
PROGRAMS_MAX = 1000
REQUEST_RESOURCE = "authorizer.requestResource"
_KIND = object_of("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
_RESOURCE = object_of("kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
_USER = object_of("kubernetes.UserInfo", {
    "username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING)),
})  # fmt: skip
_REQUEST = object_of("kubernetes.AdmissionRequest", {
    "kind": _KIND, "resource": _RESOURCE, "subResource": STRING, "requestKind": _KIND, "requestResource": _RESOURCE,
    "requestSubResource": STRING, "name": STRING, "namespace": STRING, "operation": STRING, "userInfo": _USER, "dryRun": BOOL,
    "options": DYN,
})  # fmt: skip
_NAMES: dict[str, Type] = {"object": DYN, "oldObject": DYN, "request": _REQUEST, "namespaceObject": DYN}
_PATCH = object_of("JSONPatch", {"op": STRING, "path": STRING, "from": STRING, "value": DYN})


class Compiled:
    """A program. Only what it names is worked out for it."""

    def __init__(self, program: CelProgram, environment: Environment, mismatch: str = "") -> None:
        """`mismatch` is what is wrong with the names of the objects it constructs."""
        self.type = program.type
        self._mismatch = mismatch
        self._program = program
        self._environment = environment
        names = (*_NAMES, "params", "variables", "authorizer")
        self._names = tuple(name for name in names if program.mentions(name))

    def run(self, scope: Scope) -> Any:
        """Raises EvaluationError, Undecided, TooLong."""
        values: dict[str, Any] = {}
        for name in self._names:
            if name == "variables":
                values[name] = Variables(self._environment, scope)
            elif name == "authorizer":
                values[name] = authorizer = authorizer_of(scope.view)
                values[REQUEST_RESOURCE] = request_resource(authorizer, scope.view)
            else:
                values[name] = scope.value(name)
        limit = min(CALL_COST_MAX, scope.budget)
        try:
            value, cost = self._program.evaluate(values, min(limit, scope.patience))
        except CostExceeded as error:
            if scope.patience < limit:
                raise TooLong from None
            scope.budget -= limit
            raise (EvaluationError(str(error)) if limit == CALL_COST_MAX else OutOfBudget()) from None
        except CelError as error:
            raise EvaluationError(str(error)) from None
        scope.budget -= cost
        scope.patience -= cost
        if self._mismatch:
            raise EvaluationError(f"type mismatch: {self._mismatch}")
        return plain(value) if self._environment.mutates else value


class Variables(Fields):
    """`variables.x`: worked out when it is first named, then kept for the scope."""

    def __init__(self, environment: Environment, scope: Scope) -> None:
        self._environment, self._scope = environment, scope

    def cel_get(self, name: str) -> Any:
        computed = self._scope.computed
        if name not in computed:
            compiled = _variables(self._environment)[name]
            try:
                computed[name] = compiled.run(self._scope)
            except OutOfBudget:
                raise
            except EvaluationError as error:
                raise CelError(f'composited variable "{name}" fails to evaluate: {error}') from None
        return computed[name]

    def cel_has(self, name: str) -> bool:
        return name in self._environment.variables


class Mutations(Mapping[str, Type]):
    """The objects that mutations construct: `Object`, `Object.` and any path of fields, and `JSONPatch`."""

    def __getitem__(self, name: str) -> Type:
        if name == "JSONPatch":
            return _PATCH
        if name == "Object" or name.startswith("Object."):
            return _object(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("Object", "JSONPatch"))

    def __len__(self) -> int:
        return 2


@lru_cache(PROGRAMS_MAX)
def _object(name: str) -> Type:
    return object_of(name, None)


def compile_expression(
    source: str, environment: Environment, results: tuple[str, ...], types: Mapping[str, Type] | None = None
) -> Compiled:
    """`types` are those of names whose type is known better than usual. Raises CompilationError."""
    names = dict(_NAMES)
    if environment.has_params:
        names["params"] = DYN
    if environment.has_authorizer:
        names["authorizer"] = opaque("kubernetes.authorization.Authorizer")
        names[REQUEST_RESOURCE] = opaque("kubernetes.authorization.ResourceCheck")
    if environment.variables:
        variables = {name: compiled.type for name, compiled in _variables(environment).items()}
        names["variables"] = object_of("kubernetes.variables", variables)
    names |= types or {}
    try:
        program = CelEnvironment(names, Mutations() if environment.mutates else None).compile(source)
    except CompileError as error:
        raise CompilationError(f"compilation failed: {error}") from None
    if results != ANY and not any(_is(program.type, wanted) for wanted in results):
        wanted = results[0] if len(results) == 1 else f"one of [{' '.join(results)}]"
        raise CompilationError(f"must evaluate to {wanted}")
    return Compiled(program, environment, _mismatch(program.tree, "Object") if results == OBJECT else "")


def _mismatch(node: Node, path: str) -> str:
    """What is wrong with the name of a constructed object: it must be the path of fields that it stands at. Empty: nothing."""
    if isinstance(node, Struct):
        if node.name != path:
            return f'unexpected type name "{node.name}", expected "{path}", which matches field name path from root Object type'
        return next(filter(None, (_mismatch(value, f"{path}.{name}") for _, name, value, _ in node.fields)), "")
    if isinstance(node, ListNode):
        return next(filter(None, (_mismatch(element, path) for element in node.elements)), "")
    if isinstance(node, Call) and node.function == "_?_:_":
        return next(filter(None, (_mismatch(branch, path) for branch in node.args[1:])), "")
    return ""


def _is(found: Type, wanted: str) -> bool:
    if wanted == JSON_PATCH[0]:
        return found.kind == "list" and found.params[0].name in ("JSONPatch", "dyn")
    if wanted == OBJECT[0]:
        return found.name == "Object"
    return found.kind == {"null_type": "null"}.get(wanted, wanted)


def _variables(environment: Environment) -> dict[str, Compiled]:
    """The programs of an environment's variables, each compiled with those before it; those that cannot be are left out.

    Variables may ask the authorizer even where what names them may not.
    """
    return _compiled_variables(tuple(environment.variables.items()), environment.has_params, environment.mutates)


@lru_cache(PROGRAMS_MAX)
def _compiled_variables(variables: tuple[tuple[str, str], ...], has_params: bool, mutates: bool) -> dict[str, Compiled]:
    found: dict[str, Compiled] = {}
    base = Environment(has_params, mutates=mutates)
    for index, (name, source) in enumerate(variables):
        try:
            found[name] = compile_expression(source, replace(base, variables=dict(variables[:index])), ANY)
        except CompilationError:
            continue
    return found


def authorizer_of(view: View) -> Authorizer:
    """`authorizer`: asks the server's own about the caller."""

    return Authorizer(lambda wanted: view.decisions.decide(_asked(view.attributes.user, wanted)))


def _asked(user: User, wanted: dict[str, Any]) -> Asked:
    if "serviceAccount" in wanted:
        namespace, name = wanted["serviceAccount"]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        user = User(f"system:serviceaccount:{namespace}:{name}", groups)
    if "path" in wanted:
        return Asked(user, wanted["verb"], is_resource=False, path=wanted["path"])
    return Asked(
        user, wanted["verb"], wanted.get("namespace", ""), wanted.get("group", ""), "*", wanted.get("resource", ""),
        wanted.get("subresource", ""), wanted.get("name", ""),
    )  # fmt: skip


def request_resource(authorizer: Authorizer, view: View) -> Authorizer:
    """`authorizer.requestResource`: the check of what the request is about."""
    attributes, row = view.attributes, view.attributes.resource
    return _about(authorizer, row).having(
        "ResourceCheck", subresource=attributes.subresource, namespace=attributes.namespace, name=attributes.name
    )


def _about(authorizer: Authorizer, row: Resource) -> Authorizer:
    return authorizer.having("ResourceCheck", group=row.group, resource=row.plural)


def plain(value: Any) -> Any:
    """A value as JSON. Raises EvaluationError for what has no JSON form."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Opaque):
        if value.cel_kind not in ("timestamp", "duration"):
            raise EvaluationError(f"type conversion error from '{value.cel_kind}' to JSON")
        return str(value)
    return int(value) if type(value) not in (bool, str, int, float, bytes, type(None)) and isinstance(value, int) else value
