"""matchConditions of webhooks and policies: expressions that must all hold for one to be asked about a request.

Imitates apiserver/pkg/admission/plugin/webhook/matchconditions.
"""

from __future__ import annotations

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from .expressions import BOOL, Environment, EvaluationError, OutOfBudget, Program, Scope, View, evaluated
from .metrics import AdmissionMetrics
from .waiting import Waits

ENVIRONMENT = Environment(has_params=False, has_authorizer=True)
COST_MAX = 2_500_000
"""celconfig.RuntimeCELCostBudgetMatchConditions."""


def read_conditions(conditions: list[Object] | None, environment: Environment = ENVIRONMENT) -> tuple[Program, ...]:
    return tuple(Program(each.get("expression", ""), environment, BOOL) for each in conditions or ())


class Conditions:
    """Judges the conditions of webhooks or of policies, and counts the outcome. They do not see the namespace."""

    def __init__(self, metrics: AdmissionMetrics, clock: Clock, kind: str, step: str) -> None:
        """`kind` and `step` are what metrics call them."""
        self._metrics = metrics
        self._clock = clock
        self._labels = kind, step

    def hold(
        self, name: str, programs: tuple[Program, ...], view: View, params: Object | None = None, *, ignores_failure: bool
    ) -> Waits[bool]:
        """Whether whoever has this name is to be asked: one condition that does not hold settles it.

        Raises EvaluationError if no condition fails but some cannot be evaluated, and failures are not ignored.
        """
        if not programs:
            return True
        labels = name, *self._labels, view.attributes.operation
        started = self._clock.monotonic()
        scope = Scope(view, programs[0].environment, params, knows_namespace=False, budget=COST_MAX)
        try:
            holds, failures = yield from self._judge(programs, scope)
        except OutOfBudget:
            if not ignores_failure:
                raise
            return False
        self._metrics.condition_seconds.labels(*labels).observe(self._clock.monotonic() - started)
        if failures:
            self._metrics.condition_errors.labels(*labels).inc(len(failures))
        if not holds:
            self._metrics.exclusions.labels(*labels).inc()
        elif failures and not ignores_failure:
            told = list(dict.fromkeys(failures))
            raise EvaluationError(told[0] if len(told) == 1 else f"[{', '.join(told)}]")
        return holds and not failures

    @staticmethod
    def _judge(programs: tuple[Program, ...], scope: Scope) -> Waits[tuple[bool, list[str]]]:
        """Whether none fails, and why those that cannot be evaluated could not be."""
        failures: list[str] = []
        for program in programs:
            try:
                if (yield from evaluated(program, scope)) is not True:
                    return False, failures
            except OutOfBudget:
                raise
            except EvaluationError as error:
                failures.append(str(error))
        return True, failures
