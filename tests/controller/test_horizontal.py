"""Horizontal pod autoscaling: the arithmetic by table, windows and policies, and whole hours of load in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from kubecosm.api.errors import NotFound, modified_conflict
from kubecosm.api.meta import Key, get_condition
from kubecosm.api.resources import DEPLOYMENTS, EVENTS, HORIZONTALPODAUTOSCALERS, PODS, Object, Resource
from kubecosm.api.times import format_time
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.workloads.horizontal import behavior, build, calculator
from kubecosm.services.controller.workloads.horizontal.behavior import Bounds, History, Sample
from kubecosm.services.controller.workloads.horizontal.calculator import CalculationError, PodMetric, Tolerance, Warmup
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .fake_api import FakeApi
from .harness import controllers, settle, wait_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOLERANCE = Tolerance(0.1, 0.1)
WARMUP = Warmup(300, 30)


def a_pod(name: str, *, phase: str = "Running", ready: bool = True, age_seconds: float = 3600, cpu: str | None = "1") -> Object:
    started = NOW - timedelta(seconds=age_seconds)
    requests = {"cpu": cpu} if cpu else {}
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": format_time(started + timedelta(seconds=5))}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
        "status": {"phase": phase, "startTime": format_time(started), "conditions": [condition]},
    }


def measured(*values: int | None, at: datetime = NOW) -> dict[str, PodMetric]:
    return {f"p{i}": PodMetric(value, at, 10) for i, value in enumerate(values) if value is not None}


def utilization(current: int, target: int, metrics: dict[str, PodMetric], pods: list[Object]) -> tuple[int, int | None]:
    groups = calculator.plan_groups(pods, metrics, "cpu", WARMUP, NOW)
    requests = calculator.plan_requests(pods, "", "cpu")
    found = calculator.plan_by_utilization(current, metrics, groups, requests, target, TOLERANCE, NOW)
    return found.replicas, found.utilization


# As upstream's replica_calculator_test.go poses them, in numbers of our own.
@pytest.mark.parametrize(
    ("values", "unready", "target", "expected"),
    [
        ((900, 900), 0, 50, 4),
        ((540, 540), 0, 50, 2),
        ((100, 100, 100, 100), 0, 50, 1),
        ((900, None), 0, 50, 2),
        ((900, 900, None), 0, 50, 4),
        ((100, None), 0, 50, 2),
        ((100, 100, 100, None), 0, 50, 3),
        ((800, 800), 2, 50, 4),
        ((2000, 2000), 1, 50, 8),
    ],
    ids=[
        "twice the target", "within the tolerance", "a fifth of the target", "one of two unknown, taken for idle", "one of three unknown",
        "fewer, but the unknown one is taken to be at its full request", "fewer, damped", "unready pods are taken for idle", "far above",
    ],
)  # fmt: skip
def test_replicas_follow_utilization_and_doubt_speaks_against_change(
    values: tuple[int | None, ...], unready: int, target: int, expected: int
) -> None:
    pods = [a_pod(f"p{i}") for i in range(len(values))] + [a_pod(f"u{i}", phase="Pending") for i in range(unready)]
    assert utilization(len(pods), target, measured(*values), pods)[0] == expected


def test_the_utilization_is_a_percentage_of_all_requests() -> None:
    pods = [a_pod("p0", cpu="500m"), a_pod("p1", cpu="1500m")]
    assert utilization(2, 50, measured(300, 700), pods) == (2, 50)


def test_pods_that_end_are_ignored_and_failed_ones_too() -> None:
    pods = [a_pod("p0"), a_pod("p1", phase="Failed"), {**a_pod("p2"), "metadata": {**a_pod("p2")["metadata"], "deletionTimestamp": "x"}}]
    groups = calculator.plan_groups(pods, measured(100, 100, 100), "cpu", WARMUP, NOW)
    assert groups == calculator.Grouped(1, frozenset(), frozenset(), frozenset(("p1", "p2")))


@pytest.mark.parametrize(
    ("age", "ready", "measured_seconds_ago", "counts"),
    [(3600, True, 0, True), (100, True, 0, True), (10, True, 0, False), (100, False, 0, False), (3600, False, 0, False)],
    ids=["grown up", "young but measured since it became ready", "measured before it was ready", "young and not ready", "never was ready"],
)
def test_the_cpu_of_starting_pods_does_not_count(age: float, ready: bool, measured_seconds_ago: float, counts: bool) -> None:
    metrics = measured(100, at=NOW - timedelta(seconds=measured_seconds_ago))
    groups = calculator.plan_groups([a_pod("p0", age_seconds=age, ready=ready)], metrics, "cpu", WARMUP, NOW)
    assert (groups.ready == 1) is counts
    assert calculator.plan_groups([a_pod("p0", age_seconds=age, ready=ready)], metrics, "memory", WARMUP, NOW).ready == 1


def test_a_container_without_a_request_is_named() -> None:
    with pytest.raises(CalculationError, match="missing request for cpu in container c of Pod p0"):
        calculator.plan_requests([a_pod("p0", cpu=None)], "", "cpu")


def test_no_measurement_of_a_ready_pod_is_no_proposal() -> None:
    with pytest.raises(CalculationError, match=r"did not receive metrics for targeted pods \(pods might be unready\)"):
        utilization(1, 50, {}, [a_pod("p0")])


@pytest.mark.parametrize(("current", "ready", "usage", "expected"), [(4, 4, 2000, 8), (4, 4, 1050, 4), (0, 0, 3500, 4), (4, 2, 2000, 4)])
def test_the_value_of_one_metric_scales_the_ready_pods(current: int, ready: int, usage: int, expected: int) -> None:
    pods = [a_pod(f"p{i}", ready=i < ready) for i in range(current)]
    assert calculator.plan_by_value(current, pods, usage, 1000, TOLERANCE) == expected


def test_pods_that_do_not_run_are_not_ready_whatever_they_say() -> None:
    pods = [a_pod("p0"), a_pod("p1", phase="Succeeded")]
    assert calculator.plan_by_value(2, pods, 4000, 1000, TOLERANCE) == 4
    with pytest.raises(CalculationError, match="unable to calculate ready pods: no pods returned by selector while calculating replica"):
        calculator.plan_by_value(2, [], 4000, 1000, TOLERANCE)
    assert calculator.plan_by_value(2, pods, 10**16, 1, TOLERANCE) == 2**31 - 1


def test_requests_of_a_whole_pod_count_before_those_of_its_containers() -> None:
    pod = a_pod("p0", cpu="250m")
    pod["spec"]["resources"] = {"requests": {"cpu": "2"}}
    assert calculator.plan_requests([pod], "", "cpu") == {"p0": 2000}
    assert calculator.plan_requests([pod], "c", "cpu") == {"p0": 250}
    pod["spec"]["resources"] = {"requests": {"memory": "1Gi"}}
    assert calculator.plan_requests([pod], "", "cpu") == {"p0": 250}
    pod["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(CalculationError, match="missing pod-level request for cpu in Pod p0"):
        calculator.plan_requests([pod], "", "cpu")
    with pytest.raises(CalculationError, match="container other not found in Pod p0"):
        calculator.plan_requests([pod], "other", "cpu")


def test_a_shared_value_is_split_among_replicas() -> None:
    assert calculator.plan_by_share(3, 10_000, 2_000, TOLERANCE) == (5, 3334)
    assert calculator.plan_by_share(5, 10_100, 2_000, TOLERANCE) == (5, 2020)


def test_without_behavior_replicas_at_most_double_and_the_highest_recommendation_of_the_window_counts() -> None:
    assert behavior.plan_limited(100, Bounds(1, 1000, 10)) == (20, *behavior.TOO_FAST_UP)
    assert behavior.plan_limited(3, Bounds(1, 10, 1)) == (3, *behavior.WITHIN)
    assert behavior.plan_limited(30, Bounds(1, 15, 10)) == (15, *behavior.TOO_MANY)
    samples = [Sample(0, 50), Sample(200, 7)]
    assert behavior.plan_stable(3, samples, 300, 299).replicas == 50
    assert behavior.plan_stable(3, samples, 300, 301) == (7, *behavior.HIGHEST)
    assert behavior.plan_stable(3, samples, 300, 501) == (3, *behavior.READY)


UP = {
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 100, "periodSeconds": 60}],
}
DOWN = {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]}


@pytest.mark.parametrize(
    ("wanted", "current", "ups", "downs", "up", "down", "expected"),
    [
        (50, 10, [], [], UP, DOWN, 20),
        (50, 2, [], [], UP, DOWN, 6),
        (50, 10, [], [], {**UP, "selectPolicy": "Min"}, DOWN, 14),
        (50, 10, [], [], {**UP, "selectPolicy": "Disabled"}, DOWN, 10),
        (50, 20, [Sample(70, 10)], [], UP, DOWN, 20),
        (50, 20, [Sample(30, 10)], [], UP, DOWN, 40),
        (1, 10, [], [], UP, DOWN, 5),
        (1, 5, [], [Sample(70, 5)], UP, DOWN, 5),
        (1, 10, [], [], UP, {"selectPolicy": "Disabled"}, 10),
        (1, 10, [], [], UP, {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}, 8),
    ],
    ids=[
        "the largest policy", "four pods when few", "the smallest policy", "never up", "what was added in the period counts",
        "what was added before does not", "half at most", "what was removed in the period counts", "never down", "two pods at most",
    ],
)  # fmt: skip
def test_policies_bound_the_speed(
    wanted: int, current: int, ups: list[Sample], downs: list[Sample], up: Object, down: Object, expected: int
) -> None:
    history = History([], ups, downs)
    assert behavior.plan_limited_with_behavior(wanted, Bounds(1, 100, current), history, up, down, 100).replicas == expected


def test_windows_of_both_directions_damp_recommendations() -> None:
    history = History([Sample(90, 4), Sample(95, 12)])
    up, down = {"stabilizationWindowSeconds": 30}, {"stabilizationWindowSeconds": 30}
    assert behavior.plan_stable_with_behavior(20, 8, history, up, down, 100) == (8, *behavior.LOWEST)
    assert behavior.plan_stable_with_behavior(20, 8, history, {}, down, 100) == (20, *behavior.READY)


class MeteredApi(FakeApi):
    """A FakeApi with scales, and metrics APIs whose values the test sets."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.load = 0
        """Milli-CPUs used by all pods together."""
        self.answers: dict[str, Object] = {}
        """Path → what other metrics APIs answer."""

    def size(self) -> int:
        return int(self.all(DEPLOYMENTS)[0]["spec"]["replicas"])

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        obj = await super().get(resource, name, namespace)
        if more.get("subresource") != "scale":
            return obj
        selector = ",".join(f"{key}={value}" for key, value in obj["spec"]["selector"]["matchLabels"].items())
        replicas = obj["spec"]["replicas"]
        return {"metadata": obj["metadata"], "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": selector}}

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None, **more: Any) -> Object:
        if subresource != "scale":
            return await super().update(resource, obj, subresource=subresource, **more)
        await self._call("update/scale", resource, obj["metadata"]["name"])
        whole = self.objects[resource][Key("default", obj["metadata"]["name"])]
        self.put(resource, {**whole, "spec": {**whole["spec"], "replicas": obj["spec"]["replicas"]}})
        self.make_pods()
        return obj

    async def request(self, method: str, path: str, **more: Any) -> bytes:
        if path == "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods":
            pods = self.all(PODS)
            each = self.load // max(len(pods), 1)
            stamp = format_time(self.clock.now())
            usage = [{"name": "c", "usage": {"cpu": f"{each}m", "memory": "64Mi"}}]
            metrics = [{"metadata": pod["metadata"], "timestamp": stamp, "window": "10s", "containers": usage} for pod in pods]
            return orjson.dumps({"items": metrics if self.load >= 0 else []})
        if path in self.answers:
            return orjson.dumps(self.answers[path])
        if "metrics.k8s.io" in path:
            raise NotFound("the server could not find the requested resource")
        return await super().request(method, path, **more)

    def make_pods(self) -> None:
        """As many ready pods as the Deployment wants."""
        for pod in self.all(PODS):
            self.remove(PODS, pod)
        for i in range(self.size()):
            pod = a_pod(f"p{i}")
            started = format_time(self.clock.now() - timedelta(hours=1))
            pod["status"]["startTime"] = started
            pod["status"]["conditions"][0]["lastTransitionTime"] = started
            self.put(PODS, pod)


def metered(test: Callable[[MeteredApi], Coroutine[Any, Any, None]], *, replicas: int = 2) -> None:
    async def main() -> None:
        api = MeteredApi()
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}}
        api.put(DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
        api.make_pods()
        async with controllers(api, build(Config())):
            await test(api)

    run_virtual(main(), grace_seconds=0)


def autoscaler(*metrics: Object, name: str = "web", **spec: Any) -> Object:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 10, "metrics": list(metrics) or [cpu], **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": body}


def status_of(api: FakeApi, name: str = "web") -> Object:
    status: Object = api.objects[HORIZONTALPODAUTOSCALERS][Key("default", name)].get("status") or {}
    return status


def told(api: FakeApi) -> set[tuple[str, str]]:
    """Reasons and messages of all events."""
    return {(event["reason"], event["message"]) for event in api.all(EVENTS)}


def condition(api: FakeApi, kind: str, name: str = "web") -> tuple[str, str, str]:
    found = get_condition(api.objects[HORIZONTALPODAUTOSCALERS][Key("default", name)], kind) or {}
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def test_load_that_rises_scales_up_and_load_that_falls_scales_down_after_five_minutes() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 2000
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        await wait_for(lambda: api.size() == 4)
        assert api.clock.monotonic() < 1, "a new autoscaler is looked at at once"
        await settle(30)
        status = status_of(api)
        assert (status["currentReplicas"], status["desiredReplicas"]) == (4, 4)
        assert status["currentMetrics"][0]["resource"]["current"] == {"averageUtilization": 50, "averageValue": "500m"}
        assert condition(api, "ScalingActive") == (
            "True", "ValidMetricFound",
            "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)",
        )  # fmt: skip
        api.load, fell = 400, api.clock.monotonic()
        await settle(60)
        assert condition(api, "AbleToScale")[1] == "ScaleDownStabilized"
        await wait_for(lambda: api.size() == 1)
        assert 270 < api.clock.monotonic() - fell < 320
        await wait_for(
            lambda: any(e["reason"] == "SuccessfulRescale" and "All metrics below target" in e["message"] for e in api.all(EVENTS))
        )

    metered(test)


def test_growth_is_doubling_and_the_limit_is_told() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 50_000
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(maxReplicas=40))
        sizes = []
        for _ in range(6):
            sizes.append(api.size())
            await settle(15)
        assert sizes == [2, 4, 8, 16, 32, 40]
        assert condition(api, "ScalingLimited") == ("True", *behavior.TOO_MANY)

    metered(test)


def test_replicas_outside_of_the_bounds_are_brought_inside_whatever_the_metrics_say() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = -1
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(minReplicas=3, maxReplicas=5))
        await wait_for(lambda: api.size() == 3)
        await wait_for(lambda: any("Current number of replicas below Spec.MinReplicas" in e["message"] for e in api.all(EVENTS)))

    metered(test)


def test_a_target_of_size_zero_is_left_alone() -> None:
    async def test(api: MeteredApi) -> None:
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        await wait_for(lambda: condition(api, "ScalingActive")[1] == "ScalingDisabled")
        assert api.size() == 0

    metered(test, replicas=0)


def test_metrics_that_cannot_be_had_are_a_condition_and_an_event_and_change_nothing() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = -1
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        await wait_for(lambda: condition(api, "ScalingActive")[1] == "FailedGetResourceMetric")
        why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"
        assert condition(api, "ScalingActive")[2] == f"the HPA was unable to compute the replica count: {why}"
        await wait_for(lambda: {"FailedGetResourceMetric", "FailedComputeMetricsReplicas"} <= {e["reason"] for e in api.all(EVENTS)})
        assert api.size() == 2
        api.load = 2000
        await wait_for(lambda: api.size() == 4)

    metered(test)


def test_one_failing_metric_of_two_may_scale_up_but_not_down() -> None:
    missing = {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}}
    cpu = autoscaler()["spec"]["metrics"][0]

    async def test(api: MeteredApi) -> None:
        api.load = 100
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(cpu, missing))
        await wait_for(lambda: condition(api, "ScalingActive")[1] == "FailedGetPodsMetric")
        await settle(400)
        assert api.size() == 2
        api.load = 2000
        await wait_for(lambda: api.size() == 4)

    metered(test)


def test_a_missing_target_is_told() -> None:
    async def test(api: MeteredApi) -> None:
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(scaleTargetRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}))
        await wait_for(lambda: condition(api, "AbleToScale")[1] == "FailedGetScale")
        assert 'deployments.apps "none" not found' in condition(api, "AbleToScale")[2]
        api.put(
            HORIZONTALPODAUTOSCALERS, autoscaler(scaleTargetRef={"apiVersion": "example.com/v1", "kind": "Nothing", "name": "x"}, name="b")
        )
        await wait_for(lambda: 'no matches for kind "Nothing" in group "example.com"' in condition(api, "AbleToScale", "b")[2])

    metered(test)


def test_two_autoscalers_of_the_same_pods_are_told_to_be_ambiguous() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 1000
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(name="web-2"))
        await wait_for(lambda: condition(api, "ScalingActive")[1] == "AmbiguousSelector")
        assert condition(api, "ScalingActive")[2] == (
            "pods by selector app=web are controlled by multiple HPAs: [{web default} {web-2 default}]"
        )

    metered(test)


CUSTOM = "/apis/custom.metrics.k8s.io"


@pytest.mark.parametrize(
    ("metric", "answers", "expected", "shown"),
    [
        (
            {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
            {f"{CUSTOM}/v1beta2/namespaces/default/pods/*/qps": ["15", "15"]}, 3,
            {"type": "Pods", "pods": {"metric": {"name": "qps"}, "current": {"averageValue": "15"}}},
        ),
        (
            {
                "type": "Object",
                "object": {
                    "metric": {"name": "hits"}, "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"},
                    "target": {"type": "Value", "value": "100"},
                },
            },
            {f"{CUSTOM}/v1beta2/namespaces/default/ingresses.networking.k8s.io/i/hits": ["200"]}, 4,
            {
                "type": "Object",
                "object": {
                    "metric": {"name": "hits"}, "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"},
                    "current": {"value": "200"},
                },
            },
        ),
        (
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
            {"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue": ["20", "20"]}, 4,
            {"type": "External", "external": {"metric": {"name": "queue"}, "current": {"averageValue": "10"}}},
        ),
        (
            {
                "type": "ContainerResource",
                "containerResource": {"name": "cpu", "container": "c", "target": {"type": "AverageValue", "averageValue": "250m"}},
            },
            {}, 4,
            {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "current": {"averageValue": "250m"}}},
        ),
    ],
    ids=["pods", "object", "external", "container"],
)  # fmt: skip
def test_every_type_of_metric_scales(metric: Object, answers: dict[str, list[str]], expected: int, shown: Object) -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 1000
        stamp = format_time(api.clock.now())
        api.answers[CUSTOM] = {"preferredVersion": {"version": "v1beta2"}}
        for path, values in answers.items():
            items = [{"describedObject": {"name": f"p{i}"}, "timestamp": stamp, "value": value} for i, value in enumerate(values)]
            api.answers[path] = {"items": items}
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(metric))
        await wait_for(lambda: api.size() == expected)
        if metric["type"] in ("External", "ContainerResource"):
            await settle(20)
        await wait_for(lambda: shown in (status_of(api).get("currentMetrics") or ()), f"{shown} in {status_of(api)}")

    metered(test)


def test_a_custom_resource_is_sized_through_its_scale() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 2000
        resource = api.serve_custom("example.com", "v1", "Web", "webs")
        api.put(
            resource,
            {"metadata": {"name": "w", "namespace": "default"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}}},
        )
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(scaleTargetRef={"apiVersion": "example.com/v1", "kind": "Web", "name": "w"}))
        await wait_for(lambda: api.objects[resource][Key("default", "w")]["spec"]["replicas"] == 4)

    metered(test)


def test_tolerances_of_the_behavior_are_kept() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 1160  # 58 % of the requests: 16 % above the target
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(behavior={"scaleUp": {"tolerance": "200m", **UP}}))
        await settle(60)
        assert api.size() == 2
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(behavior={"scaleUp": {"tolerance": "100m", **UP}}))
        await wait_for(lambda: api.size() == 3)

    metered(test)


def test_an_idle_autoscaler_writes_nothing() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 1000
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        await settle(60)
        before = len(api.calls)
        await settle(600)
        assert {call[0] for call in api.calls[before:]} == {"get"}

    metered(test)


def metric_of(kind: str, target: Object, **selector: Any) -> Object:
    """An Object metric of an Ingress, or an External one."""
    described = {"describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"}} if kind == "Object" else {}
    return {"type": kind, kind.lower(): {"metric": {"name": "hits", **selector}, "target": target, **described}}


AVERAGE, VALUE = {"type": "AverageValue", "averageValue": "10"}, {"type": "Value", "value": "10"}
NOTHING = "the server could not find the requested resource"


@pytest.mark.parametrize(
    ("metric", "event", "told", "first"),
    [
        (
            metric_of("External", AVERAGE, selector={"matchLabels": {"q": "a"}}), "FailedGetExternalMetric",
            "unable to get external metric default/hits/&LabelSelector{MatchLabels:map[string]string{q: a,},"
            f"MatchExpressions:[]LabelSelectorRequirement{{}},}}: unable to fetch metrics from external metrics API: {NOTHING}",
            "failed to get hits external metric value: failed to get hits external metric: ",
        ),
        (
            metric_of("External", VALUE), "FailedGetExternalMetric",
            f"unable to get external metric default/hits/nil: unable to fetch metrics from external metrics API: {NOTHING}",
            "failed to get hits external metric value: failed to get external metric hits: ",
        ),
        (
            metric_of("Object", VALUE), "FailedGetObjectMetric",
            f"unable to get metric hits: Ingress on default i/unable to fetch metrics from custom metrics API: {NOTHING}",
            "failed to get object metric value: ",
        ),
        (
            metric_of("Object", AVERAGE), "FailedGetObjectMetric",
            f"unable to get metric hits: Ingress on default i/unable to fetch metrics from custom metrics API: {NOTHING}",
            "failed to get object metric value: failed to get hits object metric: ",
        ),
        (
            {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "x", "target": AVERAGE}},
            "FailedGetContainerResourceMetric",
            "failed to get cpu usage: unable to get metrics for resource cpu: failed to get container metrics: container x not present in "
            "metrics for pod default/p0", "failed to get x container metric value: ",
        ),
    ],
    ids=["external average", "external value", "object value", "object average", "container"],
)  # fmt: skip
def test_a_metric_that_cannot_be_had_is_told_in_the_words_of_kubernetes(metric: Object, event: str, told: str, first: str) -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 100
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(metric))
        await wait_for(lambda: len(api.all(EVENTS)) == 2)
        assert {(e["reason"], e["message"]) for e in api.all(EVENTS)} == {
            (event, told), ("FailedComputeMetricsReplicas", f"invalid metrics (1 invalid out of 1), first error is: {first}{told}"),
        }  # fmt: skip
        assert condition(api, "ScalingActive") == ("False", event, f"the HPA was unable to compute the replica count: {told}")
        status = status_of(api)
        assert (status["currentReplicas"], status["desiredReplicas"], status["currentMetrics"]) == (2, 0, [{"type": ""}])

    metered(test)


def test_a_metric_that_fails_beside_one_that_grows_is_told_only_for_itself() -> None:
    cpu = autoscaler()["spec"]["metrics"][0]

    async def test(api: MeteredApi) -> None:
        api.load = 2000
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(metric_of("External", VALUE), cpu))
        await wait_for(lambda: api.size() == 4)
        await settle(1)
        assert {event["reason"] for event in api.all(EVENTS)} == {"FailedGetExternalMetric", "SuccessfulRescale"}
        shown = status_of(api)["currentMetrics"]
        assert [metric["type"] for metric in shown] == ["", "Resource"]

    metered(test)


def test_memory_is_shown_in_powers_of_two() -> None:
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "128Mi"}}}

    async def test(api: MeteredApi) -> None:
        api.load = 100
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler(memory))
        await wait_for(lambda: status_of(api).get("currentMetrics"))
        (shown,) = status_of(api)["currentMetrics"]
        assert shown == {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "64Mi"}}}

    metered(test)


def test_a_target_without_selector_and_a_status_that_cannot_be_written_are_told() -> None:
    async def test(api: MeteredApi) -> None:
        api.load = 1000
        web = api.all(DEPLOYMENTS)[0]
        api.put(DEPLOYMENTS, {**web, "spec": {**web["spec"], "selector": {"matchLabels": {}}}})
        api.answer_with(modified_conflict(HORIZONTALPODAUTOSCALERS, "web"), "update/status", "horizontalpodautoscalers")
        api.put(HORIZONTALPODAUTOSCALERS, autoscaler())
        await wait_for(lambda: condition(api, "ScalingActive")[1] == "InvalidSelector")
        assert condition(api, "ScalingActive")[2] == "the HPA target's scale is missing a selector"
        await wait_for(lambda: len({event["reason"] for event in api.all(EVENTS)}) == 3)
        found = {event["reason"]: event["message"] for event in api.all(EVENTS)}
        assert found["SelectorRequired"] == found["FailedComputeMetricsReplicas"] == "selector is required"
        assert found["FailedUpdateStatus"].startswith('Operation cannot be fulfilled on horizontalpodautoscalers.autoscaling "web"')

    metered(test)
