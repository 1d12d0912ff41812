"""What the plugins of both kinds of policies share: which policies apply to a write, for which bindings, with which parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.resources import Object, Resource

from ...rest.store import ResourceStore
from ..chain import Attributes
from ..conditions import Conditions, read_conditions
from ..configured import ConfiguredPlugin
from ..expressions import Environment, Program, Scope, View
from ..matching import Criteria, read_criteria
from ..waiting import Waits
from .index import Binding, Match, PolicyIndex
from .params import NotConfigured, collect, param_store

if TYPE_CHECKING:
    from ..plugins import Parts


@dataclass(frozen=True)
class Policy:
    """A policy of either kind, read once; its expressions are compiled when first needed."""

    name: str
    criteria: Criteria
    ignores_failure: bool
    environment: Environment
    conditions: tuple[Program, ...]
    """They do not see the variables."""
    param_kind: Object | None


Fields = tuple[str, Criteria, bool, Environment, tuple[Program, ...], Object | None]
P = TypeVar("P", bound=Policy)


def read_fields(obj: Object) -> Fields:
    """Those of `Policy`."""
    spec = obj["spec"]
    has_params = "paramKind" in spec
    variables = {each["name"]: each.get("expression", "") for each in spec.get("variables") or ()}
    return (
        obj["metadata"]["name"], read_criteria(spec.get("matchConstraints") or {}, "resourceRules"), spec.get("failurePolicy") == "Ignore",
        Environment(has_params, variables=variables), read_conditions(spec.get("matchConditions"), Environment(has_params)),
        spec.get("paramKind"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Invocation(Generic[P]):
    """A policy to be applied for a binding, once with each parameter; None stands for none."""

    policy: P
    row: Resource
    """The version in which it wants the object."""
    binding: Binding
    params: tuple[Object | None, ...]


@dataclass(frozen=True, slots=True)
class Misconfigured(Generic[P]):
    """A policy, or a binding of it, that cannot be used as it is."""

    policy: P
    binding: Binding | None
    why: str


class PolicyPlugin(ConfiguredPlugin[PolicyIndex[P]], Generic[P]):
    """`policies` and `bindings` are the plurals of the kinds that configure it."""

    policies = ""
    bindings = ""

    def __init__(self, parts: Parts, read: Callable[[Object], P]) -> None:
        caches = parts.policies(self.policies), parts.policies(self.bindings)
        super().__init__(PolicyIndex(*caches, parts.surroundings, read))
        self._surroundings = parts.surroundings
        self._clock = parts.state.clock
        self._metrics = parts.metrics
        self._conditions = Conditions(parts.metrics, parts.state.clock, "policy", "validate")  # so do mutating ones call themselves

    def _planned(self, attributes: Attributes) -> Waits[list[Invocation[P] | Misconfigured[P]]]:
        """What is to be done about a write, in order."""
        found: list[Invocation[P] | Misconfigured[P]] = []
        for match in self._index.find(attributes):
            yield from self._plan(match, attributes, found)
        return found

    def _plan(self, match: Match[P], attributes: Attributes, found: list[Invocation[P] | Misconfigured[P]]) -> Waits[None]:
        policy = match.policy
        try:
            if not self._surroundings.selects(policy.criteria, attributes):
                return
            store = None if policy.param_kind is None else param_store(self._surroundings.state, policy.param_kind)
        except (NotConfigured, NotFound) as error:
            found.append(Misconfigured(policy, None, f"failed to configure policy: {error}"))
            return
        for binding in match.bindings:
            try:
                if self._index.binds(binding, attributes):
                    params = yield from self._params(store, binding, attributes)
                    found.append(Invocation(policy, match.row, binding, params))
            except (NotConfigured, NotFound) as error:
                found.append(Misconfigured(policy, binding, f"failed to configure binding: {error}"))

    def _params(self, store: ResourceStore | None, binding: Binding, attributes: Attributes) -> Waits[tuple[Object | None, ...]]:
        """Raises NotConfigured, also if a webhook that must convert them fails."""

        def work() -> tuple[Object | None, ...]:
            return collect(store, binding.param_ref, attributes.namespace)

        try:
            return (yield from self._surroundings.converted(attributes, work))
        except ApiError as error:
            raise NotConfigured(error.message) from None

    def _applies(self, policy: P, view: View, param: Object | None) -> Waits[bool]:
        """Whether the policy's conditions hold. Raises EvaluationError."""
        return (yield from self._conditions.hold(policy.name, policy.conditions, view, param, ignores_failure=policy.ignores_failure))

    @staticmethod
    def _scope(policy: P, view: View, param: Object | None) -> Scope:
        return Scope(view, policy.environment, param)
