"""Leases and LeaseCandidates. Imitates ValidateLeaseSpec."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import NEGATIVE, Errors
from ..strategy import Strategy


class LeaseStrategy(Strategy):
    """A Lease."""

    allow_create_on_update = True
    allow_unconditional_update = False

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj.get("spec") or {}
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if duration is not None and duration <= 0:
            errors.append(invalid_value("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            errors.append(invalid_value("spec.leaseTransitions", transitions, NEGATIVE))
        if spec.get("preferredHolder") and not spec.get("strategy"):
            errors.append(required("spec.strategy", "must be specified when `preferredHolder` is specified"))
        return errors


class LeaseCandidateStrategy(Strategy):
    """A LeaseCandidate."""

    allow_create_on_update = True
    allow_unconditional_update = False

    def validate(self, obj: Object) -> list[FieldError]:
        spec = obj.get("spec") or {}
        return [required(f"spec.{field}") for field in ("leaseName", "binaryVersion", "strategy") if not spec.get(field)]
