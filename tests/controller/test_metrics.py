"""What the controllers count is there under kube-controller-manager's names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from kubecosm.api.meta import Key
from kubecosm.client.controller import ControllerSpec
from kubecosm.client.metrics import COUNTER, Family, Meter, PrometheusClientMetrics
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.controller.common.slices import SlicePlan
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.network.slice_metrics import (
    CHANGES,
    FAMILIES,
    MIRROR_CHANGES,
    MIRROR_FAMILIES,
    SYNCS,
    MirrorTotals,
    Totals,
)
from kubecosm.services.controller.table import load_enabled
from kubecosm.services.controller.workloads.job import metrics as job_metrics
from kubecosm.services.controller.workloads.job.target import FAILURE_TARGET, Target

STABLE = {
    "cronjob_controller_job_creation_skew_duration_seconds", "job_controller_job_pods_finished_total",
    "job_controller_job_sync_duration_seconds", "job_controller_job_syncs_total", "job_controller_jobs_finished_total",
    "node_collector_evictions_total",
}  # fmt: skip
BETA = {
    "endpoint_slice_controller_desired_endpoint_slices", "endpoint_slice_controller_endpoints_added_per_sync",
    "endpoint_slice_controller_endpoints_desired", "endpoint_slice_controller_endpoints_removed_per_sync",
    "endpoint_slice_controller_num_endpoint_slices", "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds",
    "horizontal_pod_autoscaler_controller_metric_computation_total",
    "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds", "horizontal_pod_autoscaler_controller_reconciliations_total",
    "job_controller_pod_failures_handled_by_failure_policy_total", "job_controller_terminated_pods_tracking_finalizer_total",
}  # fmt: skip


def metered() -> tuple[CollectorRegistry, Meter]:
    registry = CollectorRegistry()
    return registry, PrometheusClientMetrics(registry).meter


def specs() -> list[ControllerSpec]:
    return [controller.SPEC for controller in load_enabled(Config())]


def test_every_stable_metric_of_the_controllers_is_declared() -> None:
    declared = {family.name for spec in specs() for family in spec.metrics}
    assert declared >= STABLE | BETA


def test_declared_metrics_are_served_before_anything_was_counted() -> None:
    registry, meter = metered()
    for spec in specs():
        meter.declare(spec.metrics)
        meter.declare(spec.metrics)
    text = generate_latest(registry).decode()
    assert all(f"# HELP {name}" in text for name in STABLE | BETA)


def test_a_meter_that_nobody_reads_counts_nothing_and_complains_about_nothing() -> None:
    family = Family("x_total", COUNTER, "x", ("a",))
    Meter().declare((family,))
    Meter().add(family, "b")


def endpoint_slice(name: str, *addresses: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "addressType": "IPv4", "endpoints": [{"addresses": [address]} for address in addresses]}


def test_slices_are_summed_over_all_services_and_forgotten_with_them() -> None:
    registry, meter = metered()
    meter.declare(FAMILIES)
    totals = Totals(endpoints_max=2)
    totals.count(meter, Key("default", "a"), [], SlicePlan(create=[endpoint_slice("a-1", "1", "2"), endpoint_slice("a-2", "3")]), "")
    totals.count(
        meter, Key("default", "b"), [endpoint_slice("b-1", "4")], SlicePlan(update=[endpoint_slice("b-1", "5", "6")]), "PreferSameZone"
    )  # fmt: skip

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"endpoint_slice_controller_{name}")

    assert (value("endpoints_desired"), value("num_endpoint_slices"), value("desired_endpoint_slices")) == (5, 3, 3)
    assert (value("endpoints_added_per_sync_sum"), value("endpoints_removed_per_sync_sum")) == (5, 1)
    totals.forget(meter, Key("default", "a"))
    assert (value("endpoints_desired"), value("num_endpoint_slices"), value("desired_endpoint_slices")) == (2, 1, 1)

    def with_distribution() -> float | None:
        name = "endpoint_slice_controller_services_count_by_traffic_distribution"
        return registry.get_sample_value(name, {"traffic_distribution": "PreferSameZone"})

    assert with_distribution() == 1
    totals.forget(meter, Key("default", "b"))
    assert with_distribution() == 0


def test_counters_of_slices_have_the_names_that_kubernetes_gave_them() -> None:
    metrics = Metrics()
    meter = PrometheusClientMetrics(metrics.registry).meter
    meter.declare((*FAMILIES, *MIRROR_FAMILIES))
    meter.add(CHANGES, "create")
    meter.add(SYNCS, "success")
    meter.add(MIRROR_CHANGES, "update")
    text = metrics.render()[1].decode()
    assert 'endpoint_slice_controller_changes{operation="create"} 1.0' in text
    assert 'endpoint_slice_controller_syncs{result="success"} 1.0' in text
    assert 'endpoint_slice_mirroring_controller_changes{operation="update"} 1.0' in text


def test_what_mirroring_adds_changes_and_removes_is_counted_by_sync() -> None:
    registry, meter = metered()
    meter.declare(MIRROR_FAMILIES)
    totals = MirrorTotals(1000)
    before = [endpoint_slice("a-1", "1", "2")]
    changed = {**endpoint_slice("a-1", "2", "3", "4")}
    changed["endpoints"] = [{**endpoint, "nodeName": "n"} for endpoint in changed["endpoints"]]  # type: ignore[attr-defined]
    totals.count(meter, Key("default", "a"), before, SlicePlan(update=[changed]))

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"endpoint_slice_mirroring_controller_{name}")

    assert [value(f"endpoints_{what}_per_sync_sum") for what in ("added", "updated", "removed")] == [2, 1, 1]
    assert (value("endpoints_desired"), value("num_endpoint_slices"), value("desired_endpoint_slices")) == (3, 1, 1)
    totals.forget(meter, Key("default", "a"))
    assert (value("endpoints_desired"), value("num_endpoint_slices"), value("desired_endpoint_slices")) == (0, 0, 0)


def test_jobs_are_counted_by_mode_and_result() -> None:
    registry, meter = metered()
    meter.declare(job_metrics.FAMILIES)

    class Counting:
        def __init__(self) -> None:
            self.meter = meter

    ctx, job = Counting(), {"spec": {"completionMode": "Indexed", "completions": 3}}
    shrunk = {"succeeded": 3, "completedIndexes": "0-2"}  # index 4 lies beyond the completions of today
    job_metrics.count_pods(ctx, job, {"succeeded": 2, "completedIndexes": "0,4"}, {**shrunk, "failed": 1})  # type: ignore[arg-type]
    job_metrics.count_released(ctx, [{}, {}, {}])  # type: ignore[arg-type]
    job_metrics.count_judged(ctx, {"Ignore": 2})  # type: ignore[arg-type]
    job_metrics.count_ended(ctx, job, Target(FAILURE_TARGET, "BackoffLimitExceeded", ""))  # type: ignore[arg-type]

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"job_controller_{name}", labels)

    assert value("job_pods_finished_total", completion_mode="Indexed", result="succeeded") == 2
    assert value("jobs_finished_total", completion_mode="Indexed", result="failed", reason="BackoffLimitExceeded") == 1
    assert value("job_finished_indexes_total", status="succeeded", backoffLimit="global") == 2
    assert value("terminated_pods_tracking_finalizer_total", event="delete") == 3
    assert value("pod_failures_handled_by_failure_policy_total", action="Ignore") == 2
