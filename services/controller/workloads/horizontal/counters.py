"""What the autoscaler counts, under kube-controller-manager's names (podautoscaler/monitor).

`action` is scale_up, scale_down or none; `error` says what kept it from more: spec, internal, or none.
"""

from __future__ import annotations

from kubecosm.client.controller import Context
from kubecosm.client.metrics import COUNTER, GAUGE, HISTOGRAM, Family

PREFIX = "horizontal_pod_autoscaler_controller_"
_SECONDS = tuple(0.001 * 2**exponent for exponent in range(15))
_LOOK, _PROPOSAL = ("action", "error"), ("action", "error", "metric_type")
LOOKS = Family(PREFIX + "reconciliations_total", COUNTER, "Number of reconciliations of HPA controller.", _LOOK)
LOOK_SECONDS = Family(
    PREFIX + "reconciliation_duration_seconds", HISTOGRAM, "The time(seconds) that the HPA controller takes to reconcile once.",
    _LOOK, _SECONDS,
)  # fmt: skip
PROPOSALS = Family(PREFIX + "metric_computation_total", COUNTER, "Number of metric computations.", _PROPOSAL)
PROPOSAL_SECONDS = Family(
    PREFIX + "metric_computation_duration_seconds", HISTOGRAM,
    "The time(seconds) that the HPA controller takes to calculate one metric.", _PROPOSAL, _SECONDS,
)  # fmt: skip
KNOWN = Family(PREFIX + "num_horizontal_pod_autoscalers", GAUGE, "Current number of controlled HPA objects.")
DESIRED = Family(PREFIX + "desired_replicas", GAUGE, "Current desired replica count for HPA objects.", ("namespace", "hpa_name"))
FAMILIES = (LOOKS, LOOK_SECONDS, PROPOSALS, PROPOSAL_SECONDS, KNOWN, DESIRED)


def count_look(ctx: Context, started: float, action: str, error: str) -> None:
    ctx.meter.add(LOOKS, action, error)
    ctx.meter.observe(LOOK_SECONDS, ctx.clock.monotonic() - started, action, error)


def count_proposal(ctx: Context, started: float, action: str, error: str, metric_type: str) -> None:
    ctx.meter.add(PROPOSALS, action, error, metric_type)
    ctx.meter.observe(PROPOSAL_SECONDS, ctx.clock.monotonic() - started, action, error, metric_type)
