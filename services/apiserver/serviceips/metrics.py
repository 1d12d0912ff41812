"""How many addresses and node ports Services hold, by the names of Kubernetes' allocators; worked out when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..registry.core.service_alloc import Allocator

ADDRESSES, PORTS = "kube_apiserver_clusterip_allocator_", "kube_apiserver_nodeport_allocator_"


class AllocatorMetrics(Collector):
    """`allocator` gives the one of the server, or None as long as there is none."""

    def __init__(self, allocator: Callable[[], Allocator | None]) -> None:
        self._allocator = allocator

    def collect(self) -> Iterable[Metric]:
        text = "Gauge measuring the number of {} {} for Services"
        allocated = GaugeMetricFamily(f"{ADDRESSES}allocated_ips", text.format("allocated", "IPs"), labels=("cidr",))
        available = GaugeMetricFamily(f"{ADDRESSES}available_ips", text.format("available", "IPs"), labels=("cidr",))
        ports = GaugeMetricFamily(f"{PORTS}allocated_ports", text.format("allocated", "NodePorts"))
        free_ports = GaugeMetricFamily(f"{PORTS}available_ports", text.format("available", "NodePorts"))
        allocator = self._allocator()
        if allocator is not None:
            for network, taken, free in allocator.addresses_held():
                allocated.add_metric((network,), taken)
                available.add_metric((network,), free)
            taken, free = allocator.ports_held()
            ports.add_metric((), taken)
            free_ports.add_metric((), free)
        yield from (allocated, available, ports, free_ports)
