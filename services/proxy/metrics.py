"""What the proxy measures, under kube-proxy's and CoreDNS' names."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import Metrics, exponential_buckets

from .dns.server import Resolver
from .tcp import TcpContext
from .udp import UdpContext

PROGRAMMING_BUCKETS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
"""From the change of a pod to its being reached."""


class ProxyMetrics:
    """Counters the proxier touches; what sockets and the DNS count themselves is read when somebody scrapes."""

    def __init__(self, metrics: Metrics) -> None:
        self.sync_duration = metrics.histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds", "Duration of one round of changes.", buckets=exponential_buckets(0.001, 2, 15)
        )
        self.endpoint_changes = metrics.counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Number of EndpointSlice changes seen."
        )
        self.service_changes = metrics.counter(
            "kubeproxy_sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes."
        )
        self.last_sync = metrics.gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced."
        )
        self.programming = metrics.histogram(
            "kubeproxy_network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds",
            buckets=PROGRAMMING_BUCKETS,
        )
        self.open_listeners = metrics.gauge("kubecosm_proxy_listeners", "Sockets open for Service addresses and NodePorts.")
        self._metrics = metrics

    def watch_traffic(self, tcp: TcpContext, udp: UdpContext, resolver: Resolver | None) -> None:
        self._metrics.gauge("kubecosm_proxy_tcp_connections", "Proxied TCP connections open at present.").set_function(
            lambda: len(tcp.connections)
        )
        self._metrics.gauge("kubecosm_proxy_udp_flows", "UDP flows remembered at present.").set_function(lambda: len(udp.flows))
        if resolver is not None:
            self._metrics.registry.register(DnsCollector(resolver))


class DnsCollector(Collector):
    """coredns_dns_requests_total and coredns_dns_responses_total from the resolver's own counts."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def collect(self) -> Iterable[CounterMetricFamily]:
        requests = CounterMetricFamily("coredns_dns_requests_total", "DNS requests by protocol and type.", labels=["proto", "type"])
        for (protocol, rtype), count in self._resolver.requests.items():
            requests.add_metric([protocol, rtype], count)
        responses = CounterMetricFamily("coredns_dns_responses_total", "DNS responses by response code.", labels=["rcode"])
        for rcode, count in self._resolver.responses.items():
            responses.add_metric([rcode], count)
        return (requests, responses)
