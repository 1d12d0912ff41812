"""Asks the metrics APIs: metrics.k8s.io for CPU and memory of pods, custom.metrics.k8s.io and external.metrics.k8s.io for all else.

Imitates pkg/controller/podautoscaler/metrics. Amounts are milli-units.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object, Resource
from kubecosm.api.selectors import from_label_selector
from kubecosm.api.times import parse_time
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.runtime.flags import parse_duration

from .calculator import CalculationError, PodMetric

RESOURCE_METRICS = "/apis/metrics.k8s.io/v1beta1"
CUSTOM_METRICS, CUSTOM_METRICS_VERSION = "custom.metrics.k8s.io", "v1beta2"
EXTERNAL_METRICS = "/apis/external.metrics.k8s.io/v1beta1"
WINDOW_SECONDS_DEFAULT = 60.0
"""What a value without a window is taken to cover (metricServerDefaultMetricWindow)."""


class MetricsReader:
    """Reads metrics through the API server, whoever serves them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def of_pods(self, resource: str, namespace: str, selector: str, container: str) -> dict[str, PodMetric]:
        """CPU or memory by pod name, of whole pods or of one container. CalculationError if there is nothing to be had."""
        listed = await self._get("resource", f"{RESOURCE_METRICS}/namespaces/{namespace}/pods", {"labelSelector": selector})
        if not listed:
            raise CalculationError("no metrics returned from resource metrics API")
        found: dict[str, PodMetric] = {}
        for item in listed:
            total = _usage(item, resource, container)
            if total is not None:
                found[item["metadata"]["name"]] = PodMetric(total, parse_time(item["timestamp"]), _seconds(item.get("window")))
        return found

    async def custom_of_pods(self, metric: Object, namespace: str, selector: str) -> dict[str, PodMetric]:
        """A custom metric by pod name. CalculationError as above."""
        params = _metric_params(metric) | {"labelSelector": selector}
        path = f"{await self._custom()}/namespaces/{namespace}/pods/*/{quote(metric['name'], safe='')}"
        listed = await self._get("custom", path, params)
        if not listed:
            raise CalculationError("no metrics returned from custom metrics API")
        return {item["describedObject"]["name"]: _pod_metric(item) for item in listed}

    async def custom_of_object(self, metric: Object, namespace: str, resource: Resource, name: str) -> int:
        """A custom metric of one object of the namespace, or of the namespace itself. CalculationError as above."""
        if resource.plural == "namespaces" and not resource.group:
            where = f"namespaces/{namespace}/metrics"
        else:
            where = f"namespaces/{namespace}/{resource.group_resource}/{name}"
        listed = await self._get("custom", f"{await self._custom()}/{where}/{quote(metric['name'], safe='')}", _metric_params(metric))
        if not listed:
            raise CalculationError("no metrics returned from custom metrics API")
        return _milli(listed[0]["value"])

    async def external(self, metric: Object, namespace: str) -> int:
        """The sum of an external metric's series. CalculationError as above."""
        path = f"{EXTERNAL_METRICS}/namespaces/{namespace}/{quote(metric['name'], safe='')}"
        selector = from_label_selector(metric.get("selector") or {})
        listed = await self._get("external", path, {"labelSelector": str(selector)})
        if not listed:
            raise CalculationError("no metrics returned from external metrics API")
        return sum(_milli(item["value"]) for item in listed)

    async def _get(self, which: str, path: str, params: Mapping[str, str]) -> list[Object]:
        """The items at a path, which one metrics API or another serves."""
        try:
            answer = await self._client.request("GET", path, params={name: value for name, value in params.items() if value})
        except (ApiError, *TRANSPORT_ERRORS) as error:
            raise CalculationError(f"unable to fetch metrics from {which} metrics API: {error}") from error
        items: list[Object] = orjson.loads(answer).get("items") or []
        return items

    async def _custom(self) -> str:
        """The custom metrics API in the version that its server prefers."""
        try:
            group = orjson.loads(await self._client.request("GET", f"/apis/{CUSTOM_METRICS}"))
        except NotFound:
            return f"/apis/{CUSTOM_METRICS}/{CUSTOM_METRICS_VERSION}"
        except (ApiError, *TRANSPORT_ERRORS) as error:
            raise CalculationError(f"unable to fetch metrics from custom metrics API: {error}") from error
        return f"/apis/{CUSTOM_METRICS}/{group['preferredVersion']['version']}"


def _usage(item: Object, resource: str, container: str) -> int | None:
    """What a PodMetrics says; None if a container's value is not known yet. CalculationError if the container is not there."""
    containers = [one for one in item["containers"] if container in ("", one["name"])]
    if container and not containers:
        meta = item["metadata"]
        missing = f"container {container} not present in metrics for pod {meta['namespace']}/{meta['name']}"
        raise CalculationError(f"failed to get container metrics: {missing}")
    values = [(one.get("usage") or {}).get(resource) for one in containers]
    known = [_milli(value) for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _pod_metric(item: Object) -> PodMetric:
    at: datetime = parse_time(item["timestamp"])
    return PodMetric(_milli(item["value"]), at, float(item.get("windowSeconds") or WINDOW_SECONDS_DEFAULT))


def _metric_params(metric: Object) -> dict[str, str]:
    selector = metric.get("selector")
    return {"metricLabelSelector": str(from_label_selector(selector))} if selector else {}


def _milli(value: Any) -> int:
    return Quantity.of(value).milli_value()


def _seconds(duration: str | None) -> float:
    """`10s`, `1m0s` as metrics APIs print windows."""
    if not duration:
        return WINDOW_SECONDS_DEFAULT
    try:
        return parse_duration(duration)
    except ValueError:
        return WINDOW_SECONDS_DEFAULT
