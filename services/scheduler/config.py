"""Flags of the scheduler, named as kube-scheduler's where it has one."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubecosm.runtime.flags import Duration


@dataclass(frozen=True)
class Config:
    """The Kubernetes scheduler: gives every pod a node."""

    kubeconfig: str = field(default="", metadata={"help": "kubeconfig with the API server's address and this scheduler's identity"})
    config: str = field(default="", metadata={"help": "a KubeSchedulerConfiguration file: profiles, plugins, back-offs"})
    metrics_bind_address: str = field(default="127.0.0.1:0", metadata={"help": "address of /metrics, health and /debug/scheduling"})
    leader_elect: bool = field(default=False, metadata={"help": "work only while holding the kube-scheduler Lease"})
    leader_elect_lease_duration: Duration = field(default=Duration(15.0), metadata={"help": "how long others wait for a silent leader"})
    leader_elect_renew_deadline: Duration = field(default=Duration(10.0), metadata={"help": "how long a leader tries to renew"})
    leader_elect_retry_period: Duration = field(default=Duration(2.0), metadata={"help": "how long to wait between two tries"})
    leader_elect_resource_name: str = field(default="kube-scheduler", metadata={"help": "name of the Lease"})
    leader_elect_resource_namespace: str = field(default="kube-system", metadata={"help": "namespace of the Lease"})
    pod_max_in_unschedulable_pods_duration: Duration = field(
        default=Duration(300.0), metadata={"help": "after this a rejected pod is tried again even if nothing has happened"}
    )
    percentage_of_nodes_to_score: int = field(
        default=0, metadata={"help": "score no more than this share of the nodes; 0: a share by the size of the cluster; 100: all"}
    )
    bindings_in_flight_max: int = field(default=32, metadata={"help": "pods whose binding is under way at once"})
    decisions_memory_bytes_max: int = field(default=8 * 1024 * 1024, metadata={"help": "memory for explanations of past decisions"})
    random_seed: int = field(default=0, metadata={"help": "seed of all random choices; 0: a fresh one"})

    def __post_init__(self) -> None:
        """ValueError for a figure that makes no sense."""
        if not 0 <= self.percentage_of_nodes_to_score <= 100:
            raise ValueError("percentage-of-nodes-to-score must be between 0 and 100")
        if self.bindings_in_flight_max < 1:
            raise ValueError("bindings-in-flight-max must be at least 1")
