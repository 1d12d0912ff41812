"""What the autoscaler counts, under kube-controller-manager's names (podautoscaler/monitor).

`action` is scale_up, scale_down or none; `error` says what kept it from more: internal, or none.
"""

from __future__ import annotations

from kubecosm.client.controller import Context
from kubecosm.client.metrics import COUNTER, HISTOGRAM, Family

PREFIX = "horizontal_pod_autoscaler_controller_"
_SECONDS = tuple(0.001 * 2**exponent for exponent in range(15))
_LOOK, _PROPOSAL = ("action", "error"), ("action", "error", "metric_type")
LOOKS = Family(PREFIX + "reconciliations_total", COUNTER, "Looks at autoscalers.", _LOOK)
LOOK_SECONDS = Family(PREFIX + "reconciliation_duration_seconds", HISTOGRAM, "How long looks at autoscalers took.", _LOOK, _SECONDS)
PROPOSALS = Family(PREFIX + "metric_computation_total", COUNTER, "Numbers of replicas that metrics proposed.", _PROPOSAL)
PROPOSAL_SECONDS = Family(PREFIX + "metric_computation_duration_seconds", HISTOGRAM, "How long proposals took.", _PROPOSAL, _SECONDS)
FAMILIES = (LOOKS, LOOK_SECONDS, PROPOSALS, PROPOSAL_SECONDS)


def count_look(ctx: Context, started: float, action: str, error: str) -> None:
    ctx.meter.add(LOOKS, action, error)
    ctx.meter.observe(LOOK_SECONDS, ctx.clock.monotonic() - started, action, error)


def count_proposal(ctx: Context, started: float, action: str, error: str, metric_type: str) -> None:
    ctx.meter.add(PROPOSALS, action, error, metric_type)
    ctx.meter.observe(PROPOSAL_SECONDS, ctx.clock.monotonic() - started, action, error, metric_type)
