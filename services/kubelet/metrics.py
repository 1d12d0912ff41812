"""The kubelet's metrics under Kubernetes' names (pkg/kubelet/metrics). What can be counted when somebody looks is counted only then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import Metrics

from .cri.types import ContainerKind, ContainerState, NodeInfo, PodStatus
from .nodes.heartbeat import Heartbeat
from .pods.events import KubeletEvents
from .pods.status_manager import StatusManager
from .probes.manager import ProbeCount, ProbeManager

POD_START_BUCKETS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
CONTAINER_TYPES = {ContainerKind.INIT: "init_container", ContainerKind.REGULAR: "container", ContainerKind.EPHEMERAL: "ephemeral_container"}
CONTAINER_STATES = {
    ContainerState.CREATED: "created",
    ContainerState.RUNNING: "running",
    ContainerState.EXITED: "exited",
    ContainerState.UNKNOWN: "unknown",
}
NODE_NAMES_MAX = 100
"""kubelet_node_name names so many nodes at most."""


class PodMetrics:
    """Counted as it happens, by pod workers."""

    def __init__(self, metrics: Metrics) -> None:
        self._start_seconds = metrics.histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run.",
            buckets=POD_START_BUCKETS,
        )  # fmt: skip
        started = metrics.counter("kubelet_started_containers_total", "Cumulative number of containers started", ("container_type",))
        self._containers = {kind: started.labels(name) for kind, name in CONTAINER_TYPES.items()}
        self._pods = metrics.counter("kubelet_started_pods_total", "Cumulative number of pods started")

    def container_started(self, kind: ContainerKind) -> None:
        self._containers[kind].inc()

    def sandbox_started(self) -> None:
        self._pods.inc()

    def pod_started(self, seconds: float) -> None:
        """A pod runs for the first time, so long after the kubelet first saw it."""
        self._start_seconds.observe(seconds)


def probe_metrics(counts: Iterable[ProbeCount]) -> str:
    """The body of /metrics/probes, in the Prometheus text format."""
    lines = ["# TYPE prober_probe_total counter"]
    for count in counts:
        where = f'container="{count.container}",namespace="{count.namespace}",pod="{count.pod}",pod_uid="{count.uid}"'
        for result, number in (("successful", count.successes), ("failed", count.failures)):
            if number:
                lines.append(f'prober_probe_total{{{where},probe_type="{count.kind.value}",result="{result}"}} {number}')
    return "\n".join(lines) + "\n"


class KubeletCollector(Collector):
    """Looks at the kubelet's parts when /metrics is read."""

    def __init__(
        self, *, nodes: Mapping[str, NodeInfo], statuses: Callable[[], list[PodStatus]], probes: ProbeManager,
        status_manager: StatusManager,
        events: KubeletEvents, heartbeat: Callable[[], Heartbeat | None],
    ) -> None:  # fmt: skip
        self._nodes = nodes
        self._statuses = statuses
        self._probes = probes
        self._status_manager = status_manager
        self._events = events
        self._heartbeat = heartbeat

    def collect(self) -> Iterator[Metric]:
        yield from self._running()
        yield from self._node_metrics()
        yield self._probe_totals()
        writes = CounterMetricFamily("kubecosm_kubelet_pod_status_writes", "Pod statuses written to the API.")
        writes.add_metric([], self._status_manager.writes)
        yield writes
        dropped = CounterMetricFamily("kubecosm_kubelet_events_dropped", "Events that were dropped because too many waited.")
        dropped.add_metric([], self._events.dropped)
        yield dropped

    def _running(self) -> Iterator[Metric]:
        counts = dict.fromkeys(CONTAINER_STATES.values(), 0)
        sandboxes = 0
        for status in self._statuses():
            sandboxes += bool(status.sandbox_id)
            for container in status.containers.values():
                counts[CONTAINER_STATES[container.state]] += 1
        pods = GaugeMetricFamily("kubelet_running_pods", "Number of pods that have a running pod sandbox")
        pods.add_metric([], sandboxes)
        yield pods
        containers = GaugeMetricFamily("kubelet_running_containers", "Number of containers currently running", labels=["container_state"])
        for state, count in counts.items():
            containers.add_metric([state], count)
        yield containers

    def _node_metrics(self) -> Iterator[Metric]:
        names = GaugeMetricFamily("kubelet_node_name", "The node's name. The count is always 1.", labels=["node"])
        for name in list(self._nodes)[:NODE_NAMES_MAX]:
            names.add_metric([name], 1)
        yield names
        hosted = GaugeMetricFamily("kubecosm_kubelet_nodes", "Nodes that this process hosts.")
        hosted.add_metric([], len(self._nodes))
        yield hosted
        heartbeat = self._heartbeat()
        renewals = CounterMetricFamily("kubecosm_kubelet_lease_renewals", "Node leases renewed.", labels=["result"])
        renewals.add_metric(["success"], heartbeat.renewals if heartbeat else 0)
        renewals.add_metric(["failure"], heartbeat.failures if heartbeat else 0)
        yield renewals

    def _probe_totals(self) -> Metric:
        labels = ["container", "namespace", "pod", "pod_uid", "probe_type", "result"]
        text = "Cumulative number of a liveness, readiness or startup probe for a container by result."
        totals = CounterMetricFamily("prober_probe", text, labels=labels)
        for count in self._probes.counts():
            for result, number in (("successful", count.successes), ("failed", count.failures)):
                if number:
                    totals.add_metric([count.container, count.namespace, count.pod, count.uid, count.kind.value, result], number)
        return totals
