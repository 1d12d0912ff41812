"""Flags of the proxy; names follow kube-proxy's where one exists, `dns-*` are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from kubecosm.runtime.ranges import SERVICE_CIDR

DNS_ADDRESS_INDEX = 10
"""The DNS has the tenth address of the Service range, where add-ons put it."""


@dataclass(frozen=True)
class Config:
    """The Kubernetes network proxy: Service addresses, node ports and the cluster DNS on the loopback network."""

    kubeconfig: str = field(default="", metadata={"help": "kubeconfig with the API server's address and this proxy's identity"})
    hostname_override: str = field(
        default="", metadata={"help": "serve only the node of this name (one proxy a host); empty: every node with a loopback address"}
    )
    service_cluster_ip_range: str = field(default=SERVICE_CIDR, metadata={"help": "the range Service addresses are taken from"})
    load_balancer_cidr: str = field(
        default="", metadata={"help": "range of addresses for Services of type LoadBalancer; empty: they are left to another controller"}
    )
    metrics_bind_address: str = field(default="127.0.0.1:0", metadata={"help": "address of /metrics and the health endpoints"})
    balancer: str = field(default="random", metadata={"help": "how a backend is chosen: random or round-robin"})
    connect_timeout: float = field(default=2.0, metadata={"help": "seconds to wait for a backend to accept before another is tried"})
    connect_attempts_max: int = field(default=4, metadata={"help": "backends tried for one connection before it is closed"})
    udp_idle_timeout: float = field(default=30.0, metadata={"help": "seconds after which an idle UDP flow forgets its backend"})
    udp_flows_max: int = field(default=16384, metadata={"help": "UDP flows kept at once; the oldest gives way"})
    affinity_entries_max: int = field(default=65536, metadata={"help": "clients remembered for session affinity, over all Services"})
    nodeport_node_addresses_max: int = field(
        default=64, metadata={"help": "with more nodes than this a NodePort listens once for all addresses instead of once a node"}
    )
    dns: bool = field(default=True, metadata={"help": "serve the cluster DNS"})
    cluster_dns: str = field(default="", metadata={"help": "Service address the DNS answers on; empty: the tenth of the Service range"})
    dns_port: int = field(
        default=10053, metadata={"help": "second DNS port on the same address, for users who may not open port 53; 0: none"}
    )
    cluster_domain: str = field(default="cluster.local", metadata={"help": "domain of the cluster's own names"})
    dns_ttl: int = field(default=30, metadata={"help": "seconds that clients may keep a cluster record"})
    dns_upstream: tuple[str, ...] = field(default=(), metadata={"help": "resolvers for other names; empty: those of /etc/resolv.conf"})
    dns_upstream_timeout: float = field(default=2.0, metadata={"help": "seconds to wait for an upstream resolver"})
    dns_cache_entries_max: int = field(default=10000, metadata={"help": "answers kept ready in wire format"})
    dns_tcp_idle_timeout: float = field(default=8.0, metadata={"help": "seconds after which an idle DNS-over-TCP connection is closed"})

    @property
    def dns_ip(self) -> str:
        """The address of the DNS Service."""
        return self.cluster_dns or str(IPv4Network(self.service_cluster_ip_range)[DNS_ADDRESS_INDEX])

    def __post_init__(self) -> None:
        """ValueError for an address or range that is none."""
        IPv4Address(self.dns_ip)
        if self.load_balancer_cidr:
            IPv4Network(self.load_balancer_cidr)
