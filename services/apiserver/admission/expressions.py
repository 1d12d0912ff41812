"""Expressions of admission: what they may name, how they are compiled and run, and the words of their failures.

Imitates apiserver/pkg/admission/plugin/cel (compile.go, condition.go) and webhook/matchconditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object, Resource

from ..aside import PATIENCE, Aside, TooLong
from .chain import Attributes
from .decisions import Decisions, Undecided
from .waiting import Waits
from .webhooks.review import request_of

if TYPE_CHECKING:
    from .engine import Compiled

BOOL, STRING, STRING_OR_NULL, OBJECT, JSON_PATCH = ("bool",), ("string",), ("string", "null_type"), ("Object",), ("list(JSONPatch)",)
"""What an expression may evaluate to."""
ANY: tuple[str, ...] = ()
POLICY_COST_MAX = 10_000_000
"""celconfig.RuntimeCELCostBudget."""


class EvaluationError(Exception):
    """An expression gave no answer; the text says why, as refusals show it."""


class OutOfBudget(EvaluationError):
    """All that may be spent on the expressions of one policy has been spent."""

    def __init__(self) -> None:
        super().__init__("validation failed due to running out of cost budget, no further validation rules will be run")


class CompilationError(Exception):
    """An expression cannot be used; the text says why, as validation shows it."""


@dataclass(frozen=True)
class Environment:
    """What expressions may name besides object, oldObject, request and namespaceObject."""

    has_params: bool = False
    has_authorizer: bool = True
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Name → expression, in order; each sees those before it."""
    mutates: bool = False
    """Whether `Object{…}` and `JSONPatch{…}` can be made."""

    def for_messages(self) -> Environment:
        """Message expressions cannot ask the authorizer."""
        return replace(self, has_authorizer=False)

    def for_mutations(self) -> Environment:
        return replace(self, mutates=True)


@dataclass
class View:
    """One request, with its objects in the version of `row`."""

    attributes: Attributes
    row: Resource
    obj: Object | None
    old: Object | None
    find_namespace: Callable[[], Object | None]
    decisions: Decisions
    aside: Aside
    """Where expressions go that take long."""

    @cached_property
    def request(self) -> Object:
        """The AdmissionRequest without the objects."""
        request = request_of(self.attributes, self.row, None, None, "")
        for name in ("uid", "object", "oldObject"):
            del request[name]
        return request

    @cached_property
    def namespace(self) -> Object | None:
        """Raises NotFound."""
        return self.find_namespace()


@dataclass
class Scope:
    """Where the programs of one policy (or webhook) run: one request, one parameter. Variables are computed when first asked for."""

    view: View
    environment: Environment
    params: Object | None = None
    computed: dict[str, Any] = field(default_factory=dict)
    """Variables, by name."""
    knows_namespace: bool = True
    budget: int = POLICY_COST_MAX
    """What evaluations in this scope may still cost."""
    patience: int = PATIENCE
    """What they may cost before others get a turn."""

    def value(self, name: str) -> Any:
        """What a name stands for. Raises NotFound where the namespace is missing."""
        view = self.view
        match name:
            case "object":
                return view.obj
            case "oldObject":
                return view.old
            case "request":
                return view.request
            case "namespaceObject":
                return view.namespace if self.knows_namespace else None
            case "params":
                return self.params
            case _:
                return self.computed


class Program:
    """One expression, compiled when first run or looked at."""

    def __init__(self, source: str, environment: Environment, results: tuple[str, ...]) -> None:
        self.source = source
        self.environment = environment
        self.results = results

    @cached_property
    def _compiled(self) -> Compiled | str:
        from .engine import compile_expression  # imported here: only who has policies or conditions pays for CEL

        try:
            return compile_expression(self.source, self.environment, self.results)
        except CompilationError as error:
            return str(error)

    @property
    def problem(self) -> str:
        """Why it cannot be used, or empty."""
        compiled = self._compiled
        return compiled if isinstance(compiled, str) else ""

    @property
    def asks(self) -> bool:
        """Whether evaluating it may ask the authorizer."""
        return any("authorizer" in source for source in (self.source, *self.environment.variables.values()))

    def evaluate(self, scope: Scope) -> Any:
        """The value as plain Python. Raises EvaluationError, Undecided; TooLong once the patience of the scope is spent."""
        compiled = self._compiled
        if isinstance(compiled, str):
            raise EvaluationError(f"compilation error: {compiled}")
        try:
            return compiled.run(scope)
        except OutOfBudget:
            raise
        except EvaluationError as error:
            raise EvaluationError(f"expression '{self.source}' resulted in error: {error}") from None
        except ApiError as error:
            raise EvaluationError(error.message) from None


def evaluated(program: Program, scope: Scope) -> Waits[Any]:
    """The value, once the authorizer knows all that the expression asks of it. Raises EvaluationError.

    Others get a turn between expressions that take long together, and go on beside one that takes long by itself, unless that asks the
    authorizer, who lives on the event loop.
    """
    if scope.patience < PATIENCE // 2:
        yield asyncio.sleep(0)
        scope.patience = PATIENCE
    try:
        while True:
            try:
                return program.evaluate(scope)
            except Undecided as undecided:
                yield undecided.asking
            except TooLong:
                if not program.asks:
                    return (yield from _aside(program, scope))
                scope.patience = POLICY_COST_MAX
    finally:
        if scope.patience > PATIENCE:
            scope.patience = 0


def _aside(program: Program, scope: Scope) -> Waits[Any]:
    """The value, or what is wrong, worked out in another thread. Raises EvaluationError."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(program.evaluate(scope))
        except EvaluationError as error:
            outcome.append(error)

    scope.patience = POLICY_COST_MAX
    yield scope.view.aside.run(work)
    if isinstance(outcome[0], EvaluationError):
        raise outcome[0]
    return outcome[0]
