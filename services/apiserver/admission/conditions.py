"""matchConditions of webhooks: expressions that must all hold for a webhook to be asked about a request."""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.resources import Object, Resource

from .chain import Attributes
from .expressions import BOOL, Environment, EvaluationError, Program, Scope, View, all_hold
from .matching import Surroundings
from .metrics import AdmissionMetrics

ENVIRONMENT = Environment(has_params=False, has_authorizer=True)


def read_conditions(conditions: list[Object] | None) -> tuple[Program, ...]:
    return tuple(Program(each.get("expression", ""), ENVIRONMENT, BOOL) for each in conditions or ())


class Conditions:
    """Asks the conditions of webhooks."""

    def __init__(self, surroundings: Surroundings, metrics: AdmissionMetrics) -> None:
        self._surroundings = surroundings
        self._metrics = metrics

    def met(
        self, name: str, conditions: tuple[Program, ...], attributes: Attributes, row: Resource, obj: Object | None, step: str, *,
        ignores_failure: bool,
    ) -> bool:  # fmt: skip
        """Whether the webhook is to be asked; `obj` is in the version of `row`.

        Raises Forbidden if no condition fails but some cannot be evaluated, and failurePolicy is not Ignore.
        """
        if not conditions:
            return True
        old = self._surroundings.in_version(attributes, attributes.old, row)
        view = View(attributes, row, obj, old, lambda: None, self._surroundings.state.authorizer)
        labels = name, "webhook", step, attributes.operation
        try:
            if all_hold(conditions, Scope(view, ENVIRONMENT)):
                return True
        except EvaluationError as error:
            self._metrics.condition_errors.labels(*labels).inc()
            if not ignores_failure:
                raise errors.forbidden(attributes.resource, attributes.name, str(error)) from None
            return False
        self._metrics.exclusions.labels(*labels).inc()
        return False
