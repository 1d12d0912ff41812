"""Flags of the kubelet; names follow the real kubelet's where one exists. One process may host many nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubecosm.runtime.flags import Duration
from kubecosm.runtime.ranges import CLUSTER_CIDR, CLUSTER_DNS, NODE_CIDR

from .nodes.objects import KUBELET_VERSION


@dataclass(frozen=True)
class Config:
    """The kubelet: registers nodes and runs their pods; one process may host thousands."""

    kubeconfig: str = field(default="", metadata={"help": "kubeconfig with the API server's address and this kubelet's identity"})
    nodes: int = field(default=3, metadata={"help": "how many nodes this process hosts"})
    node_name_prefix: str = field(default="node-", metadata={"help": "nodes are called PREFIX0, PREFIX1, …"})
    hostname_override: str = field(default="", metadata={"help": "name of the only node, instead of prefix and number"})
    first_node: int = field(default=0, metadata={"help": "number of the first node, where several kubelets share a cluster's ranges"})
    node_cidr: str = field(default=NODE_CIDR, metadata={"help": "addresses of nodes: node i gets the (i+1)th"})
    cluster_cidr: str = field(default=CLUSTER_CIDR, metadata={"help": "addresses of pods: each node gets a /24 of it"})
    node_ip: str = field(default="", metadata={"help": "address of the only node, instead of one of --node-cidr"})
    address: str = field(default="", metadata={"help": "address the kubelet's API listens on; empty: every loopback address"})
    port: int = field(default=0, metadata={"help": "port of the kubelet's API on all its nodes; 0 takes any free one"})
    tls_cert_file: str = field(default="", metadata={"help": "certificate of the kubelet's API; empty: one is made"})
    tls_private_key_file: str = field(default="", metadata={"help": "key of --tls-cert-file"})
    client_ca_file: str = field(default="", metadata={"help": "CA that clients of the kubelet's API must be certified by"})
    authorization_mode: str = field(
        default="Webhook", metadata={"help": "Webhook: the API server is asked what callers may; AlwaysAllow: a certificate is enough"}
    )
    authorization_webhook_cache_authorized_ttl: Duration = field(
        default=Duration(300.0), metadata={"help": "how long it is remembered what a caller may"}
    )
    authorization_webhook_cache_unauthorized_ttl: Duration = field(
        default=Duration(30.0), metadata={"help": "how long it is remembered what a caller may not"}
    )
    authentication_token_webhook: bool = field(default=True, metadata={"help": "take bearer tokens, about which the API server is asked"})
    authentication_token_webhook_cache_ttl: Duration = field(
        default=Duration(120.0), metadata={"help": "how long it is remembered whose a token is"}
    )
    root_dir: str = field(default="", metadata={"help": "directory for the kubelet's files"})
    cluster_dns: str = field(default=CLUSTER_DNS, metadata={"help": "address of the cluster DNS, as pods see it"})
    cluster_domain: str = field(default="cluster.local", metadata={"help": "domain of the cluster's own names"})
    node_labels: tuple[str, ...] = field(default=(), metadata={"help": "labels for every node, as key=value"})
    node_zones: int = field(default=0, metadata={"help": "spread the nodes over so many zones; 0: no zones"})
    cpu: str = field(default="32", metadata={"help": "CPU capacity of each node"})
    memory: str = field(default="256Gi", metadata={"help": "memory capacity of each node"})
    ephemeral_storage: str = field(default="1Ti", metadata={"help": "disk capacity of each node"})
    node_version: str = field(default=KUBELET_VERSION, metadata={"help": "version of the kubelet that the nodes report"})
    max_pods: int = field(default=110, metadata={"help": "pods that fit on a node"})
    adopt_nodes: bool = field(
        default=False, metadata={"help": "host Nodes that others create with the label kubecosm.dev/simulated=true, too"}
    )
    node_lease_duration_seconds: int = field(
        default=40, metadata={"help": "how long a node's lease holds; it is renewed four times as often"}
    )
    node_status_report_frequency: Duration = field(
        default=Duration(300.0), metadata={"help": "how often a node's unchanged status is posted"}
    )
    shutdown_grace_period: Duration = field(
        default=Duration(30.0), metadata={"help": "time that pods have in all when their node is shut down; 0: it goes off at once"}
    )
    shutdown_grace_period_critical_pods: Duration = field(
        default=Duration(10.0), metadata={"help": "the part of --shutdown-grace-period that is kept for critical pods, which end last"}
    )
    shutdown_grace_period_by_pod_priority: tuple[str, ...] = field(
        default=(), metadata={"help": "PRIORITY=SECONDS: what pods of this priority and above have, instead of the two flags before"}
    )
    event_qps: float = field(default=50.0, metadata={"help": "events written per second once the burst is spent; 0: no limit"})
    event_burst: int = field(default=100, metadata={"help": "events written at once"})
    image_profiles: str = field(default="", metadata={"help": "YAML file of image profiles that come before the built-in ones"})
    preloaded_images: tuple[str, ...] = field(
        default=(), metadata={"help": "globs of images that every node has: what imagePullPolicy Never finds (`*` for all)"}
    )
    seed: int = field(default=0, metadata={"help": "seed of what is random about simulated pods; 0: a new one each start"})

    def __post_init__(self) -> None:
        """ValueError for what cannot be used."""
        if self.authorization_mode not in ("Webhook", "AlwaysAllow"):
            raise ValueError("--authorization-mode must be Webhook or AlwaysAllow")
