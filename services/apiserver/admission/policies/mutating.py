"""MutatingAdmissionPolicy: expressions that change an object, by a configuration that is merged in or by a JSON patch.

Imitates apiserver/pkg/admission/plugin/policy/{generic/policy_dispatcher,mutating/dispatcher}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.resources import Object, Resource

from ...rest.unconverted import Unconverted
from ..chain import Attributes, Plugin, Reinvocation
from ..expressions import JSON_PATCH, OBJECT, EvaluationError, Program, Scope
from ..matching import Criteria, read_criteria
from ..metrics import AdmissionMetrics
from ..patched import decode_patched, put_back
from ..refusal import refuse
from ..rounds import Memory, snapshot
from .evaluation import Evaluator, Shared, read_shared, view_of
from .index import Binding, Match, PolicyIndex
from .params import NotConfigured, collect
from .patching import MutationFailed, apply_configuration, apply_json_patch

if TYPE_CHECKING:
    from ...rest.store import ResourceStore
    from ..plugins import Parts


@dataclass(frozen=True)
class MutatingPolicy:
    """A policy, read once; its expressions are compiled when first needed."""

    name: str
    criteria: Criteria
    ignores_failure: bool
    is_reinvocable: bool
    shared: Shared
    mutations: tuple[tuple[str, Program], ...]
    """(patchType, what makes it)."""


def read_policy(obj: Object) -> MutatingPolicy:
    spec = obj["spec"]
    shared = read_shared(spec)
    environment = shared.environment.for_mutations()
    mutations = []
    for each in spec.get("mutations") or ():
        is_patch = each.get("patchType") == "JSONPatch"
        source = (each.get("jsonPatch" if is_patch else "applyConfiguration") or {}).get("expression", "")
        mutations.append((each.get("patchType", ""), Program(source, environment, JSON_PATCH if is_patch else OBJECT)))
    return MutatingPolicy(
        obj["metadata"]["name"], read_criteria(spec.get("matchConstraints") or {}, "resourceRules"),
        spec.get("failurePolicy") == "Ignore", spec.get("reinvocationPolicy") == "IfNeeded", shared, tuple(mutations),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """A policy that could not be applied."""

    policy: MutatingPolicy
    binding: Binding | None
    message: str
    reason: str = "Forbidden"

    def __str__(self) -> str:
        if self.binding is None:
            return f'policy "{self.policy.name}" denied request: {self.message}'
        return f"policy '{self.policy.name}' with binding '{self.binding.name}' denied request: {self.message}"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A policy to be applied for a binding with one parameter."""

    match: Match[MutatingPolicy]
    binding: Binding
    param: Object | None

    @property
    def key(self) -> str:
        meta = (self.param or {}).get("metadata") or {}
        return f"{self.match.policy.name}/{self.binding.name}/{meta.get('namespace', '')}/{meta.get('name', '')}"


class MutatingAdmissionPolicyPlugin(Plugin):
    name = "MutatingAdmissionPolicy"

    def __init__(self, index: PolicyIndex[MutatingPolicy], evaluator: Evaluator, metrics: AdmissionMetrics) -> None:
        self._index = index
        self._evaluator = evaluator
        self._metrics = metrics

    def handles(self, resource: Resource, subresource: str) -> bool:
        return self._index.may_concern(resource, subresource)

    def follow(self, interest_changed: Callable[[], None]) -> None:
        self._index.changed = interest_changed

    def start(self) -> None:
        self._index.start()

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises the error of the first failure under failurePolicy Fail. Waits only for webhooks that must convert the object."""
        before = attributes.obj
        try:
            self._admit(attributes)
        except Unconverted:
            return self._index.surroundings.converting(attributes, lambda: self._admit_anew(attributes, before))
        return None

    def _admit_anew(self, attributes: Attributes, before: Object | None) -> None:
        """From the beginning: an earlier try has come to an object that is yet to be converted."""
        attributes.obj = before
        self._admit(attributes)

    def _admit(self, attributes: Attributes) -> None:
        failures: list[Failure] = []
        invocations: list[Invocation] = []
        for match in self._index.find(attributes):
            invocations += self._invocations(match, attributes, failures)
        if invocations:
            self._dispatch(invocations, attributes, failures)
        counted = [failure for failure in failures if not failure.policy.ignores_failure]
        if counted:
            raise refusal(attributes, counted)

    def _invocations(self, match: Match[MutatingPolicy], attributes: Attributes, failures: list[Failure]) -> list[Invocation]:
        policy, surroundings = match.policy, self._index.surroundings
        found: list[Invocation] = []
        try:
            if not surroundings.selects(policy.criteria, attributes):
                return found
            store = self._evaluator.param_store(policy.shared)
        except (NotConfigured, NotFound) as error:
            failures.append(Failure(policy, None, f"failed to configure policy: {error}"))
            return found
        for binding in match.bindings:
            try:
                found += self._of_binding(match, binding, store, attributes)
            except (NotConfigured, NotFound) as error:
                failures.append(Failure(policy, binding, f"failed to configure binding: {error}"))
        return found

    def _of_binding(
        self, match: Match[MutatingPolicy], binding: Binding, store: ResourceStore | None, attributes: Attributes
    ) -> list[Invocation]:
        """Raises NotConfigured, NotFound."""
        if not self._index.binds(binding, attributes):
            return []
        return [Invocation(match, binding, each) for each in collect(store, binding.param_ref, attributes.namespace)]

    def _dispatch(self, invocations: list[Invocation], attributes: Attributes, failures: list[Failure]) -> None:
        round_ = attributes.reinvocable()
        memory = round_.memory.setdefault(self.name, Memory())
        if round_.is_second and memory.output != snapshot(attributes.obj):
            memory.object_changed()
        try:
            for each in invocations:
                self._invoke(each, attributes, round_, memory, failures)
        finally:
            memory.output = snapshot(attributes.obj)

    def _invoke(
        self, invocation: Invocation, attributes: Attributes, round_: Reinvocation, memory: Memory, failures: list[Failure]
    ) -> None:
        policy, row = invocation.match.policy, invocation.match.row

        def scope() -> Scope:
            return Scope(view_of(self._index.surroundings, attributes, row), policy.shared.environment, invocation.param)

        try:
            if not self._evaluator.conditions_met(policy.shared, scope()):
                return
        except EvaluationError as error:
            failures.append(Failure(policy, invocation.binding, str(error), "Invalid"))
            return
        if round_.is_second and invocation.key not in memory.again:
            return
        before = snapshot(attributes.obj)
        for kind, program in policy.mutations:
            if attributes.obj is None:
                continue
            started, outcome = self._index.surroundings.state.clock.monotonic(), ("no_error", "allow")
            try:
                self._mutate(kind, program, scope(), attributes, row)
            except (EvaluationError, MutationFailed) as error:
                failures.append(Failure(policy, invocation.binding, str(error), "Invalid"))
                outcome = "invalid_error", "deny"
            self._observe(invocation, outcome, self._index.surroundings.state.clock.monotonic() - started)
        if snapshot(attributes.obj) != before:
            memory.object_changed()
            round_.wanted = True
        if policy.is_reinvocable:
            memory.invoked.add(invocation.key)

    def _observe(self, invocation: Invocation, outcome: tuple[str, str], seconds: float) -> None:
        """`outcome` is the type of error and what became of the request."""
        labels = (*outcome, invocation.match.policy.name, invocation.binding.name)
        self._metrics.mutations.labels(*labels).inc()
        self._metrics.mutation_seconds.labels(*labels).observe(seconds)

    def _mutate(self, kind: str, program: Program, scope: Scope, attributes: Attributes, row: Resource) -> None:
        """Raises EvaluationError, MutationFailed, ApiError (the result is no such object)."""
        outcome: Any = program.evaluate(scope)
        obj = scope.view.obj
        assert obj is not None
        patched = apply_json_patch(obj, outcome) if kind == "JSONPatch" else apply_configuration(row, obj, outcome)
        state = self._index.surroundings.state
        put_back(state, attributes, row, decode_patched(state, attributes, row, patched))


def refusal(attributes: Attributes, failures: list[Failure]) -> ApiError:
    """A Status with the first failure's message and reason, and all of them as causes."""
    base = refuse(attributes, "admission request denied by policy")
    details = {**(base.details or {}), "causes": [{"message": str(failure)} for failure in failures]}
    return ApiError(str(failures[0]), reason=failures[0].reason, code=base.code, details=details)


def build(parts: Parts) -> Plugin:
    index = PolicyIndex(
        parts.policies("mutatingadmissionpolicies"), parts.policies("mutatingadmissionpolicybindings"), parts.surroundings, read_policy
    )
    return MutatingAdmissionPolicyPlugin(index, Evaluator(parts.surroundings), parts.metrics)
