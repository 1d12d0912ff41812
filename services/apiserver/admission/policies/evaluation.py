"""What the expressions of a policy see, and the parts that both kinds of policies share: conditions, variables, parameters."""

from __future__ import annotations

from dataclasses import dataclass

from kubecosm.api.resources import NAMESPACES, Object, Resource

from ...rest.store import ResourceStore
from ..chain import Attributes
from ..expressions import BOOL, Environment, Program, Scope, View, all_hold
from ..matching import Surroundings
from .index import Binding
from .params import collect, param_store


@dataclass(frozen=True)
class Shared:
    """What a policy of either kind has."""

    environment: Environment
    conditions: tuple[Program, ...]
    param_kind: Object | None


def read_shared(spec: Object) -> Shared:
    """Of a policy's spec. Match conditions do not see the variables."""
    has_params = "paramKind" in spec
    plain = Environment(has_params, has_authorizer=True)
    variables = {each["name"]: each.get("expression", "") for each in spec.get("variables") or ()}
    conditions = tuple(Program(each.get("expression", ""), plain, BOOL) for each in spec.get("matchConditions") or ())
    return Shared(Environment(has_params, has_authorizer=True, variables=variables), conditions, spec.get("paramKind"))


class Views:
    """The request as policies see it, made once for each version they want it in."""

    def __init__(self, surroundings: Surroundings, attributes: Attributes) -> None:
        self._surroundings = surroundings
        self._attributes = attributes
        self._made: dict[Resource, View] = {}

    def of(self, row: Resource) -> View:
        found = self._made.get(row)
        if found is None:
            found = self._made[row] = view_of(self._surroundings, self._attributes, row)
        return found


def view_of(surroundings: Surroundings, attributes: Attributes, row: Resource) -> View:
    obj = surroundings.in_version(attributes, attributes.obj, row)
    old = surroundings.in_version(attributes, attributes.old, row)
    return View(attributes, row, obj, old, lambda: namespace_object(surroundings, attributes), surroundings.state.authorizer)


_SHOWN_META = (
    "name", "generateName", "namespace", "labels", "annotations", "uid", "creationTimestamp", "deletionGracePeriodSeconds",
    "deletionTimestamp", "generation", "resourceVersion", "finalizers",
)  # fmt: skip


def namespace_object(surroundings: Surroundings, attributes: Attributes) -> Object | None:
    """`namespaceObject`: None for what is in no namespace, Namespaces included. Raises NotFound."""
    if not attributes.namespace or attributes.resource == NAMESPACES:
        return None
    namespace = surroundings.namespace(attributes.namespace)
    meta = {name: namespace["metadata"][name] for name in _SHOWN_META if name in namespace["metadata"]}
    return {"metadata": meta, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}


class Evaluator:
    """Makes the scopes in which the programs of policies run."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def param_store(self, shared: Shared) -> ResourceStore | None:
        """Raises NotConfigured."""
        return None if shared.param_kind is None else param_store(self._surroundings.state, shared.param_kind)

    @staticmethod
    def scopes(shared: Shared, store: ResourceStore | None, binding: Binding, view: View) -> list[Scope]:
        """One for each parameter. Raises NotConfigured, and NotFound where the namespace is missing."""
        params = collect(store, binding.param_ref, view.attributes.namespace)
        return [Scope(view, shared.environment, each) for each in params]

    @staticmethod
    def conditions_met(shared: Shared, scope: Scope) -> bool:
        """Raises EvaluationError if no condition fails but some cannot be evaluated."""
        return all_hold(shared.conditions, scope)
