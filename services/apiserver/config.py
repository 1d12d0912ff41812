"""Flags of the apiserver; names follow kube-apiserver's where one exists."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from kubecosm.runtime.flags import Duration
from kubecosm.runtime.ranges import SERVICE_CIDR

from .auditflags import AuditFlags
from .authflags import AuthFlags


@dataclass(frozen=True)
class Config(AuthFlags, AuditFlags):
    """The Kubernetes API server: validates and stores objects, and lets the others watch them."""

    bind_address: str = field(default="127.0.0.1", metadata={"help": "address to listen on; loopback unless told otherwise"})
    secure_port: int = field(default=6443, metadata={"help": "HTTPS port; 0 takes any free one"})
    advertise_address: str = field(default="", metadata={"help": "address published as the endpoint of the kubernetes Service"})
    tls_cert_file: str = field(default="", metadata={"help": "server certificate (PEM); empty: a self-signed one is made for this run"})
    tls_private_key_file: str = field(default="", metadata={"help": "key of the server certificate (PEM)"})
    storage_backend: str = field(default="sqlite", metadata={"help": "sqlite, etcd or memory"})
    etcd_servers: tuple[str, ...] = field(default=(), metadata={"help": "addresses of the etcd cluster, as http://127.0.0.1:2379"})
    etcd_cafile: str = field(default="", metadata={"help": "authority of etcd's certificates (PEM)"})
    etcd_certfile: str = field(default="", metadata={"help": "certificate shown to etcd (PEM)"})
    etcd_keyfile: str = field(default="", metadata={"help": "its key (PEM)"})
    data_dir: str = field(default="data", metadata={"help": "directory of the SQLite database"})
    service_cluster_ip_range: str = field(default=SERVICE_CIDR, metadata={"help": "range that Service addresses are taken from"})
    service_node_port_range: str = field(default="30000-32767", metadata={"help": "ports for Services of type NodePort"})
    kubelet_client_certificate: str = field(default="", metadata={"help": "certificate shown to kubelets (PEM)"})
    kubelet_client_key: str = field(default="", metadata={"help": "its key (PEM)"})
    kubelet_certificate_authority: str = field(default="", metadata={"help": "authority of the kubelets' serving certificates (PEM)"})
    service_account_issuer: tuple[str, ...] = field(
        default=("https://kubernetes.default.svc.cluster.local",),
        metadata={"help": "issuer (iss) of ServiceAccount tokens; tokens of further ones are accepted but not made"},
    )
    service_account_jwks_uri: str = field(default="", metadata={"help": "where others find the keys; empty: below the issuer"})
    service_account_max_token_expiration: Duration = field(
        default=Duration(0.0), metadata={"help": "the longest that ServiceAccount tokens may last; 0: no bound"}
    )
    service_account_extend_token_expiration: bool = field(
        default=True, metadata={"help": "let tokens that kubelets put into pods last a year, for clients that never read them again"}
    )
    service_account_key_file: tuple[str, ...] = field(
        default=(), metadata={"help": "public keys (PEM) that ServiceAccount tokens are checked with; empty: that of the signing key"}
    )
    service_account_signing_key_file: str = field(default="", metadata={"help": "RSA or EC key (PEM) that signs ServiceAccount tokens"})
    service_account_extra_config_maps: tuple[str, ...] = field(
        default=(), metadata={"help": "further CA bundles in the token volume of pods, as ConfigMap=key"}
    )
    enable_admission_plugins: tuple[str, ...] = field(
        default=(), metadata={"help": "admission plugins to ask besides those that are on by default, by name"}
    )
    disable_admission_plugins: tuple[str, ...] = field(default=(), metadata={"help": "admission plugins to leave out, by name"})
    enable_metrics_api: bool = field(
        default=False, metadata={"help": "serve metrics.k8s.io out of the kubelets' figures, as the metrics-server add-on would"}
    )
    policy_status: bool = field(
        default=True,
        metadata={"help": "write warnings of type checking into the status of ValidatingAdmissionPolicies, as a controller manager would"},
    )
    default_not_ready_toleration_seconds: int = field(
        default=300, metadata={"help": "seconds that pods tolerate a node which is not ready, unless they say otherwise"}
    )
    default_unreachable_toleration_seconds: int = field(
        default=300, metadata={"help": "seconds that pods tolerate an unreachable node, unless they say otherwise"}
    )
    admission_control_config_file: str = field(
        default="", metadata={"help": "AdmissionConfiguration (YAML) with the configuration of admission plugins"}
    )
    runtime_config: tuple[str, ...] = field(
        default=(), metadata={"help": "versions to serve besides the stable ones: api/all=true, api/beta=true, group/version=true|false"}
    )
    max_requests_inflight: int = field(default=400, metadata={"help": "reads served at once (0: no bound); see the next two flags"})
    max_mutating_requests_inflight: int = field(
        default=200, metadata={"help": "writes served at once; with priority and fairness the sum of both is divided among the levels"}
    )
    enable_priority_and_fairness: bool = field(
        default=True, metadata={"help": "queue requests by FlowSchema and priority level instead of counting reads and writes"}
    )
    encryption_provider_config: str = field(
        default="", metadata={"help": "EncryptionConfiguration: what is encrypted in the storage, and with which keys"}
    )
    encryption_provider_config_automatic_reload: bool = field(
        default=False, metadata={"help": "take up changes of --encryption-provider-config without a restart"}
    )
    request_timeout: Duration = field(default=Duration(60.0), metadata={"help": "how long a request that is no stream may take"})
    min_request_timeout: Duration = field(
        default=Duration(1800.0), metadata={"help": "watches whose client does not say last between this and twice this"}
    )
    shutdown_delay_duration: Duration = field(
        default=Duration(0.0), metadata={"help": "how long to go on serving, with /readyz failing, once told to stop"}
    )
    event_ttl: Duration = field(default=Duration(3600.0), metadata={"help": "how long events are kept after their last change"})
    compaction_interval: Duration = field(default=Duration(300.0), metadata={"help": "how often old versions of objects are forgotten"})

    def __post_init__(self) -> None:
        """ValueError for what cannot be used."""
        if self.storage_backend not in ("sqlite", "etcd", "memory"):
            raise ValueError("--storage-backend must be sqlite, etcd or memory")
        if (self.storage_backend == "etcd") != bool(self.etcd_servers):
            raise ValueError("--storage-backend=etcd and --etcd-servers belong together: give both or none")
        IPv4Network(self.service_cluster_ip_range)
        if self.node_ports[0] > self.node_ports[1]:
            raise ValueError("--service-node-port-range must be LOW-HIGH")

    @property
    def node_ports(self) -> tuple[int, int]:
        """The lowest and the highest NodePort."""
        low, _, high = self.service_node_port_range.partition("-")
        return int(low), int(high)
