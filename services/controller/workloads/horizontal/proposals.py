"""What each metric of an autoscaler proposes, and how it shows in the status: reads the metric, calculates, words the failure.

Imitates computeReplicasForMetrics of pkg/controller/podautoscaler/horizontal.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.quantity import BINARY_SI, DECIMAL_SI, Quantity
from kubecosm.api.resources import Object, Resource

from ...common.goprint import go_selector
from ...common.targets import TargetError
from .calculator import (
    CalculationError,
    PodMetric,
    Proposal,
    Tolerance,
    Warmup,
    counting,
    plan_by_average,
    plan_by_share,
    plan_by_utilization,
    plan_by_value,
    plan_groups,
    plan_requests,
)
from .metrics import MetricsReader


@dataclass(frozen=True)
class Subject:
    """What is to be sized, as it is now."""

    namespace: str
    selector: str
    """The label selector of its pods, as text."""
    pods: Sequence[Object]
    wanted: int
    """Replicas in the spec of the scale."""
    present: int
    """Replicas in its status."""
    tolerance: Tolerance
    warmup: Warmup
    now: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """A metric's proposal, the name it is told by, and its MetricStatus."""

    replicas: int
    name: str
    status: Object


class MetricFailed(Exception):
    """A metric gives no proposal: the reason of the condition, its message, and what the sum of all failures says."""

    def __init__(self, reason: str, message: str, summary: str) -> None:
        super().__init__(summary)
        self.reason = reason
        self.message = message


Find = Callable[[str, str], Awaitable[Resource]]
"""(apiVersion, kind) → the resource. Raises TargetError."""


class Proposals:
    """One method for each type of metric."""

    def __init__(self, reader: MetricsReader, find: Find) -> None:
        self._reader = reader
        self._find = find
        self._types: dict[str, tuple[str, Callable[[Object, Subject], Awaitable[Outcome]]]] = {
            "Resource": ("resource", self._resource),
            "ContainerResource": ("containerResource", self._container_resource),
            "Pods": ("pods", self._pods),
            "Object": ("object", self._object),
            "External": ("external", self._external),
        }

    async def propose(self, spec: Object, subject: Subject) -> Outcome:
        """What one metric asks for. Raises MetricFailed."""
        known = self._types.get(spec["type"])
        if known is None:
            message = f'unknown metric source type "{spec["type"]}"'
            raise MetricFailed("InvalidMetricSourceType", message, message)
        field, propose = known
        source = spec[field]
        try:
            return await propose(source, subject)
        except CalculationError as error:
            summary = f"failed to get {_what(field, source)}: {error.told}"
            raise MetricFailed(f"FailedGet{spec['type']}Metric", str(error), summary) from error

    async def _resource(self, source: Object, subject: Subject) -> Outcome:
        found = await self._by_resource(source, subject, "")
        name = f"{source['name']} resource{_of_request(source)}"
        return Outcome(found.replicas, name, _status("Resource", {"name": source["name"]}, found))

    async def _container_resource(self, source: Object, subject: Subject) -> Outcome:
        found = await self._by_resource(source, subject, source["container"])
        share = _of_request(source)
        name = f"{source['name']} container resource{share}" if share else f"{source['name']} resource"
        identity = {"name": source["name"], "container": source["container"]}
        return Outcome(found.replicas, name, _status("ContainerResource", identity, found))

    async def _by_resource(self, source: Object, subject: Subject, container: str) -> Proposal:
        resource, target = source["name"], source["target"]
        average, percent = target.get("averageValue"), target.get("averageUtilization")
        if average is None and percent is None:
            neither = "neither an average utilization target nor an average value (usage) target was set"
            raise CalculationError(f"invalid resource metric source: {neither}")
        try:
            metrics = await self._read_resource(resource, subject, container)
            groups = plan_groups(_pods_of(subject), metrics, resource, subject.warmup, subject.now)
            if average is not None:
                return plan_by_average(subject.present, metrics, groups, _milli(average), subject.tolerance, subject.now)
            counting(metrics, groups)  # that nothing was measured is told before that something is not requested
            requests = plan_requests(subject.pods, container, resource)
            return plan_by_utilization(subject.wanted, metrics, groups, requests, percent, subject.tolerance, subject.now)
        except CalculationError as error:
            raise CalculationError(f"failed to get {resource} {'usage' if average is not None else 'utilization'}: {error}") from error

    async def _read_resource(self, resource: str, subject: Subject, container: str) -> dict[str, PodMetric]:
        try:
            return await self._reader.of_pods(resource, subject.namespace, subject.selector, container)
        except CalculationError as error:
            raise CalculationError(f"unable to get metrics for resource {resource}: {error}") from error

    async def _pods(self, source: Object, subject: Subject) -> Outcome:
        metric, target = source["metric"], _milli(source["target"]["averageValue"])
        try:
            metrics = await self._reader.custom_of_pods(metric, subject.namespace, subject.selector)
        except CalculationError as error:
            raise CalculationError(f"unable to get metric {metric['name']}: {error}") from error
        groups = plan_groups(_pods_of(subject), metrics, "", subject.warmup, subject.now)
        found = plan_by_average(subject.present, metrics, groups, target, subject.tolerance, subject.now)
        return Outcome(found.replicas, f"pods metric {metric['name']}", _status("Pods", {"metric": metric}, found))

    async def _object(self, source: Object, subject: Subject) -> Outcome:
        metric, described, target = source["metric"], source["describedObject"], source["target"]
        by_value = target.get("type") == "Value" and target.get("value") is not None
        if not by_value and not (target.get("type") == "AverageValue" and target.get("averageValue") is not None):
            raise CalculationError("invalid object metric source: neither a value target nor an average value target was set")
        try:
            usage = await self._of_object(metric, described, subject)
        except CalculationError as error:
            which = f"{described['kind']} on {subject.namespace} {described['name']}"
            message = f"unable to get metric {metric['name']}: {which}/{error}"
            raise CalculationError(message, "" if by_value else f"failed to get {metric['name']} object metric: {message}") from error
        if by_value:
            found, name = _by_value(target, usage, subject), f"{described['kind']} metric {metric['name']}"
        else:
            found, name = _by_share(target, usage, subject), _outside(metric)
        shown = {"metric": metric, "describedObject": described, "current": found[1]}
        return Outcome(found[0], name, {"type": "Object", "object": shown})

    async def _of_object(self, metric: Object, described: Object, subject: Subject) -> int:
        try:
            resource = await self._find(described.get("apiVersion", ""), described["kind"])
        except TargetError as error:
            kind = ".".join(filter(None, (described["kind"], described.get("apiVersion", "").rpartition("/")[0])))
            why = f"unable to map kind {kind} to resource: {error}"
            raise CalculationError(f"unable to fetch metrics from custom metrics API: {why}") from error
        return await self._reader.custom_of_object(metric, subject.namespace, resource, described["name"])

    async def _external(self, source: Object, subject: Subject) -> Outcome:
        metric, target = source["metric"], source["target"]
        by_share = target.get("averageValue") is not None
        if not by_share and target.get("value") is None:
            raise CalculationError("invalid external metric source: neither a value target nor an average value target was set")
        what = f"{metric['name']} external metric" if by_share else f"external metric {metric['name']}"
        try:
            usage = await self._of_outside(metric, subject)
            found = (_by_share if by_share else _by_value)(target, usage, subject)
        except CalculationError as error:
            raise CalculationError(str(error), f"failed to get {what}: {error}") from error
        return Outcome(found[0], _outside(metric), {"type": "External", "external": {"metric": metric, "current": found[1]}})

    async def _of_outside(self, metric: Object, subject: Subject) -> int:
        try:
            return await self._reader.external(metric, subject.namespace)
        except CalculationError as error:
            which = f"{subject.namespace}/{metric['name']}/{go_selector(metric.get('selector'))}"
            raise CalculationError(f"unable to get external metric {which}: {error}") from error


def _outside(metric: Object) -> str:
    """What a metric of the outside world is called; one of an object that is shared by all pods too."""
    return f"external metric {metric['name']}({go_selector(metric.get('selector'))})"


def _by_value(target: Object, usage: int, subject: Subject) -> tuple[int, Object]:
    """(replicas, the current value as the status shows it) for a target in one value."""
    replicas = plan_by_value(subject.wanted, subject.pods, usage, _milli(target["value"]), subject.tolerance)
    return replicas, {"value": str(Quantity.from_milli(usage))}


def _by_share(target: Object, usage: int, subject: Subject) -> tuple[int, Object]:
    """The same for a target in one value per pod."""
    replicas, average = plan_by_share(subject.present, usage, _milli(target["averageValue"]), subject.tolerance)
    return replicas, {"averageValue": str(Quantity.from_milli(average))}


def _pods_of(subject: Subject) -> Sequence[Object]:
    if not subject.pods:
        raise CalculationError("no pods returned by selector while calculating replica count")
    return subject.pods


def _status(metric_type: str, identity: Object, found: Proposal) -> Object:
    current: Object = {} if found.utilization is None else {"averageUtilization": found.utilization}
    current["averageValue"] = str(Quantity.from_milli(found.average, BINARY_SI if identity.get("name") == "memory" else DECIMAL_SI))
    return {"type": metric_type, metric_type[0].lower() + metric_type[1:]: {**identity, "current": current}}


def _of_request(source: Object) -> str:
    return "" if source["target"].get("averageValue") is not None else " utilization (percentage of request)"


def _what(field: str, source: Object) -> str:
    if field == "resource":
        return f"{source['name']} resource metric value"
    if field == "containerResource":
        return f"{source['container']} container metric value"
    return f"{source['metric']['name']} external metric value" if field == "external" else f"{field} metric value"


def _milli(value: str) -> int:
    return Quantity.of(value).milli_value()
