"""MutatingAdmissionPolicy: expressions that change an object, by a configuration that is merged in or by a JSON patch.

Imitates apiserver/pkg/admission/plugin/policy/{generic/policy_dispatcher,mutating/dispatcher}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..chain import Attributes, Reinvocation
from ..expressions import JSON_PATCH, OBJECT, EvaluationError, Program, evaluated
from ..metrics import NO_ERROR, error_type
from ..patched import decode_patched, put_back
from ..refusal import refuse
from ..rounds import Memory, snapshot
from ..views import Views
from ..waiting import Waits, begin
from .index import Binding
from .patching import MutationFailed, apply_configuration, apply_json_patch
from .plugin import Invocation, Misconfigured, Policy, PolicyPlugin, read_fields

if TYPE_CHECKING:
    from ..plugins import Parts


@dataclass(frozen=True)
class MutatingPolicy(Policy):
    """Its mutations are (patchType, what makes the patch)."""

    is_reinvocable: bool
    mutations: tuple[tuple[str, Program], ...]


def read_policy(obj: Object) -> MutatingPolicy:
    spec, fields = obj["spec"], read_fields(obj)
    environment = fields[3].for_mutations()
    mutations = []
    for each in spec.get("mutations") or ():
        is_patch = each.get("patchType") == "JSONPatch"
        source = (each.get("jsonPatch" if is_patch else "applyConfiguration") or {}).get("expression", "")
        mutations.append((each.get("patchType", ""), Program(source, environment, JSON_PATCH if is_patch else OBJECT)))
    return MutatingPolicy(*fields, spec.get("reinvocationPolicy") == "IfNeeded", tuple(mutations))


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
class Pass:
    """One time that all policies are asked about a write."""

    attributes: Attributes
    views: Views
    failures: list[Failure]


class MutatingAdmissionPolicyPlugin(PolicyPlugin[MutatingPolicy]):
    name = "MutatingAdmissionPolicy"
    policies, bindings = "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises the error of the first failure under failurePolicy Fail. Waits only where webhooks convert or authorize."""
        return begin(self._admit(attributes))

    def _admit(self, attributes: Attributes) -> Waits[None]:
        failures: list[Failure] = []
        invocations: list[Invocation[MutatingPolicy]] = []
        for one in (yield from self._planned(attributes)):
            if isinstance(one, Misconfigured):
                failures.append(Failure(one.policy, one.binding, one.why))
            else:
                invocations.append(one)
        if invocations:
            yield from self._dispatch(invocations, Pass(attributes, Views(self._surroundings, attributes), failures))
        counted = [failure for failure in failures if not failure.policy.ignores_failure]
        if counted:
            raise refusal(attributes, counted)

    def _dispatch(self, invocations: list[Invocation[MutatingPolicy]], run: Pass) -> Waits[None]:
        attributes, round_ = run.attributes, run.attributes.reinvocable()
        memory = round_.memory.setdefault(self.name, Memory())
        if round_.is_second and memory.output != snapshot(attributes.obj):
            memory.object_changed()
        try:
            for one in invocations:
                for param in one.params:
                    yield from self._invoke(one, param, run, round_, memory)
        finally:
            memory.output = snapshot(attributes.obj)

    def _invoke(
        self, invocation: Invocation[MutatingPolicy], param: Object | None, run: Pass, round_: Reinvocation, memory: Memory
    ) -> Waits[None]:
        policy, key = invocation.policy, _key(invocation, param)
        try:
            if not (yield from self._applies(policy, (yield from run.views.of(invocation.row)), param)):
                return
        except EvaluationError as error:
            run.failures.append(Failure(policy, invocation.binding, str(error), "Invalid"))
            return
        if round_.is_second and key not in memory.again:
            return
        before = snapshot(run.attributes.obj)
        for mutation in policy.mutations if run.attributes.obj is not None else ():
            started, outcome = self._clock.monotonic(), (NO_ERROR, "allow")
            try:
                yield from self._mutate(mutation, invocation, param, run)
            except (EvaluationError, MutationFailed) as error:
                run.failures.append(Failure(policy, invocation.binding, str(error), "Invalid"))
                outcome = error_type(str(error)), "deny"
            self._observe(invocation, outcome, self._clock.monotonic() - started)
        if snapshot(run.attributes.obj) != before:
            memory.object_changed()
            round_.wanted = True
        if policy.is_reinvocable:
            memory.invoked.add(key)

    def _observe(self, invocation: Invocation[MutatingPolicy], outcome: tuple[str, str], seconds: float) -> None:
        """`outcome` is the type of error and what became of the request."""
        labels = (*outcome, invocation.policy.name, invocation.binding.name)
        self._metrics.mutations.labels(*labels).inc()
        self._metrics.mutation_seconds.labels(*labels).observe(seconds)

    def _mutate(
        self, mutation: tuple[str, Program], invocation: Invocation[MutatingPolicy], param: Object | None, run: Pass
    ) -> Waits[None]:
        """Raises EvaluationError, MutationFailed, ApiError (the result is no such object)."""
        kind, program = mutation
        row, state = invocation.row, self._surroundings.state
        view = yield from run.views.of(row)
        outcome = yield from evaluated(program, self._scope(invocation.policy, view, param))
        assert view.obj is not None
        run.views.forget()  # patches are applied in place
        patched = apply_json_patch(view.obj, outcome) if kind == "JSONPatch" else apply_configuration(row, view.obj, outcome)
        obj = decode_patched(state, run.attributes, row, patched)
        yield from self._surroundings.converted(run.attributes, lambda: put_back(state, run.attributes, row, obj))


def _key(invocation: Invocation[MutatingPolicy], param: Object | None) -> str:
    """What reinvocation remembers it by."""
    meta = (param or {}).get("metadata") or {}
    return f"{invocation.policy.name}/{invocation.binding.name}/{meta.get('namespace', '')}/{meta.get('name', '')}"


def refusal(attributes: Attributes, failures: list[Failure]) -> ApiError:
    """A Status with the first failure's message and reason, and all of them as causes."""
    base = refuse(attributes, "admission request denied by policy")
    details = {**(base.details or {}), "causes": [{"message": str(failure)} for failure in failures]}
    return ApiError(str(failures[0]), reason=failures[0].reason, code=base.code, details=details)


def build(parts: Parts) -> MutatingAdmissionPolicyPlugin:
    return MutatingAdmissionPolicyPlugin(parts, read_policy)
