"""Flags of the controller manager, named as kube-controller-manager's where it has one."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubecosm.runtime.flags import Duration
from kubecosm.runtime.ranges import CLUSTER_CIDR, SERVICE_CIDR


@dataclass(frozen=True)
class Config:
    """The Kubernetes controller manager: brings what is closer to what should be, in one loop per kind of object."""

    kubeconfig: str = field(default="", metadata={"help": "kubeconfig with the API server's address and this manager's identity"})
    metrics_bind_address: str = field(default="127.0.0.1:0", metadata={"help": "address of /metrics and the health endpoints"})
    controllers: tuple[str, ...] = field(
        default=("*",), metadata={"help": "controllers to run: `*` all that are on by default, `foo` this one, `-foo` not this one"}
    )
    use_service_account_credentials: bool = field(
        default=False, metadata={"help": "let each controller act as its own ServiceAccount in kube-system, with that account's rights"}
    )
    leader_elect: bool = field(default=False, metadata={"help": "work only while holding the kube-controller-manager Lease"})
    leader_elect_lease_duration: Duration = field(default=Duration(15.0), metadata={"help": "how long others wait for a silent leader"})
    leader_elect_renew_deadline: Duration = field(default=Duration(10.0), metadata={"help": "how long a leader tries to renew"})
    leader_elect_retry_period: Duration = field(default=Duration(2.0), metadata={"help": "how long to wait between two tries"})
    leader_elect_resource_name: str = field(default="kube-controller-manager", metadata={"help": "name of the Lease"})
    leader_elect_resource_namespace: str = field(default="kube-system", metadata={"help": "namespace of the Lease"})
    random_seed: int = field(default=0, metadata={"help": "seed of all random choices; 0: a fresh one"})
    concurrent_deployment_syncs: int = field(default=32, metadata={"help": "Deployments synced at once"})
    concurrent_replicaset_syncs: int = field(default=32, metadata={"help": "ReplicaSets synced at once"})
    concurrent_rc_syncs: int = field(default=16, metadata={"help": "ReplicationControllers synced at once"})
    concurrent_statefulset_syncs: int = field(default=32, metadata={"help": "StatefulSets synced at once"})
    concurrent_daemonset_syncs: int = field(default=16, metadata={"help": "DaemonSets synced at once"})
    concurrent_job_syncs: int = field(default=32, metadata={"help": "Jobs synced at once"})
    concurrent_cron_job_syncs: int = field(default=16, metadata={"help": "CronJobs synced at once"})
    concurrent_endpoint_syncs: int = field(default=16, metadata={"help": "Services whose Endpoints are synced at once"})
    concurrent_service_endpoint_syncs: int = field(default=16, metadata={"help": "Services whose EndpointSlices are synced at once"})
    concurrent_namespace_syncs: int = field(default=16, metadata={"help": "Namespaces synced at once"})
    concurrent_serviceaccount_token_syncs: int = field(default=5, metadata={"help": "token Secrets synced at once"})
    concurrent_ttl_after_finished_syncs: int = field(default=5, metadata={"help": "finished Jobs deleted at once"})
    concurrent_resource_quota_syncs: int = field(default=5, metadata={"help": "ResourceQuotas synced at once"})
    resource_quota_sync_period: Duration = field(
        default=Duration(300.0), metadata={"help": "how often what a quota limits is counted at least"}
    )
    concurrent_gc_syncs: int = field(default=32, metadata={"help": "objects that the garbage collector works on at once"})
    concurrent_horizontal_pod_autoscaler_syncs: int = field(default=5, metadata={"help": "HorizontalPodAutoscalers synced at once"})
    horizontal_pod_autoscaler_sync_period: Duration = field(
        default=Duration(15.0), metadata={"help": "how often each HorizontalPodAutoscaler looks at its metrics"}
    )
    horizontal_pod_autoscaler_downscale_stabilization: Duration = field(
        default=Duration(300.0), metadata={"help": "how long an autoscaler without `behavior` remembers that more replicas were wanted"}
    )
    horizontal_pod_autoscaler_tolerance: float = field(
        default=0.1, metadata={"help": "the difference between the wanted and the present value that does not yet matter"}
    )
    horizontal_pod_autoscaler_cpu_initialization_period: Duration = field(
        default=Duration(300.0), metadata={"help": "how long after its start a pod's CPU use may be left out of account"}
    )
    horizontal_pod_autoscaler_initial_readiness_delay: Duration = field(
        default=Duration(30.0), metadata={"help": "how long after its start a pod's changes of readiness count as its starting up"}
    )
    endpoint_updates_batch_period: Duration = field(
        default=Duration(0.0), metadata={"help": "how long an Endpoints object waits for more changes of its pods"}
    )
    endpointslice_updates_batch_period: Duration = field(
        default=Duration(0.0), metadata={"help": "how long a Service's EndpointSlices wait for more changes of its pods"}
    )
    mirroring_endpointslice_updates_batch_period: Duration = field(
        default=Duration(0.0), metadata={"help": "how long Endpoints that are mirrored wait for more changes of themselves"}
    )
    max_endpoints_per_slice: int = field(default=100, metadata={"help": "endpoints that an EndpointSlice holds at most"})
    mirroring_max_endpoints_per_subset: int = field(
        default=1000, metadata={"help": "addresses of a subset of Endpoints that are mirrored to EndpointSlices at most"}
    )
    mirroring_concurrent_service_endpoint_syncs: int = field(
        default=5, metadata={"help": "Endpoints mirrored to EndpointSlices at once"}
    )
    node_monitor_period: Duration = field(default=Duration(5.0), metadata={"help": "how often node health is judged at least"})
    node_monitor_grace_period: Duration = field(
        default=Duration(50.0), metadata={"help": "how long a node may be silent before it counts as unhealthy"}
    )
    node_startup_grace_period: Duration = field(
        default=Duration(60.0), metadata={"help": "how long a new node may be silent before it counts as unhealthy"}
    )
    node_eviction_rate: float = field(default=0.1, metadata={"help": "nodes per second tainted NoExecute in a healthy zone"})
    secondary_node_eviction_rate: float = field(default=0.01, metadata={"help": "the same in an unhealthy zone that is large"})
    large_cluster_size_threshold: int = field(default=50, metadata={"help": "nodes above which a zone is large"})
    unhealthy_zone_threshold: float = field(default=0.55, metadata={"help": "fraction of nodes not ready that makes a zone unhealthy"})
    scan_interval: Duration = field(default=Duration(1.0), metadata={"help": "cluster autoscaler: how often it looks at most"})
    scale_down_unneeded_time: Duration = field(
        default=Duration(600.0), metadata={"help": "cluster autoscaler: how long a node must be unneeded before it is removed"}
    )
    scale_down_delay_after_add: Duration = field(
        default=Duration(600.0), metadata={"help": "cluster autoscaler: how long after a scale-up no node is removed"}
    )
    scale_down_delay_after_failure: Duration = field(
        default=Duration(180.0), metadata={"help": "cluster autoscaler: how long after a failed removal no node is removed"}
    )
    scale_down_unready_time: Duration = field(
        default=Duration(1200.0), metadata={"help": "cluster autoscaler: how long a node that is not ready must be unneeded"}
    )
    max_scale_down_parallelism: int = field(default=10, metadata={"help": "cluster autoscaler: nodes that are removed at once"})
    max_drain_parallelism: int = field(default=1, metadata={"help": "cluster autoscaler: nodes with pods among them"})
    max_pod_eviction_time: Duration = field(
        default=Duration(120.0), metadata={"help": "cluster autoscaler: how long evictions that are refused are tried again"}
    )
    max_graceful_termination_sec: int = field(
        default=600, metadata={"help": "cluster autoscaler: seconds that evicted pods may take to end at most"}
    )
    scale_down_utilization_threshold: float = field(
        default=0.5, metadata={"help": "cluster autoscaler: share of CPU or memory requested above which a node is needed"}
    )
    expander: tuple[str, ...] = field(
        default=("least-waste",),
        metadata={"help": "cluster autoscaler: who chooses the group: least-waste, most-pods, least-nodes, price, priority, random"},
    )
    balance_similar_node_groups: bool = field(
        default=False, metadata={"help": "cluster autoscaler: spread new nodes over groups that are alike"}
    )
    max_nodes_total: int = field(default=0, metadata={"help": "cluster autoscaler: nodes the cluster may have; 0: no limit"})
    max_node_provision_time: Duration = field(
        default=Duration(900.0), metadata={"help": "cluster autoscaler: how long a new node may take to come"}
    )
    initial_node_group_backoff_duration: Duration = field(
        default=Duration(300.0), metadata={"help": "cluster autoscaler: how long a group is left alone when its nodes did not come"}
    )
    max_node_group_backoff_duration: Duration = field(
        default=Duration(1800.0), metadata={"help": "cluster autoscaler: the same at most, as it doubles with each failure"}
    )
    node_group_backoff_reset_timeout: Duration = field(
        default=Duration(10800.0), metadata={"help": "cluster autoscaler: after so long a failure is forgotten"}
    )
    expendable_pods_priority_cutoff: int = field(
        default=-10, metadata={"help": "cluster autoscaler: pods of lower priority neither make nor keep nodes"}
    )
    skip_nodes_with_local_storage: bool = field(
        default=True, metadata={"help": "cluster autoscaler: pods with data on their node keep it, but for those that say otherwise"}
    )
    skip_nodes_with_system_pods: bool = field(
        default=True, metadata={"help": "cluster autoscaler: pods of kube-system without a disruption budget keep their node"}
    )
    skip_nodes_with_custom_controller_pods: bool = field(
        default=True, metadata={"help": "cluster autoscaler: pods of controllers that Kubernetes does not know keep their node"}
    )
    terminated_pod_gc_threshold: int = field(default=12500, metadata={"help": "ended pods that may exist before the oldest are deleted"})
    allocate_node_cidrs: bool = field(default=True, metadata={"help": "give each node a range of pod addresses"})
    cluster_cidr: str = field(default=CLUSTER_CIDR, metadata={"help": "range of all pod addresses"})
    node_cidr_mask_size: int = field(default=24, metadata={"help": "prefix length of a node's range"})
    service_cluster_ip_range: str = field(default=SERVICE_CIDR, metadata={"help": "range of all Service addresses"})
    cluster_signing_cert_file: str = field(
        default="", metadata={"help": "authority that issues approved certificates (PEM); empty: only signers with their own issue any"}
    )
    cluster_signing_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    cluster_signing_kubelet_serving_cert_file: str = field(
        default="", metadata={"help": "authority of the signer kubelet-serving alone (PEM)"}
    )
    cluster_signing_kubelet_serving_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    cluster_signing_kubelet_client_cert_file: str = field(
        default="", metadata={"help": "authority of the signer kube-apiserver-client-kubelet alone (PEM)"}
    )
    cluster_signing_kubelet_client_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    cluster_signing_kube_apiserver_client_cert_file: str = field(
        default="", metadata={"help": "authority of the signer kube-apiserver-client alone (PEM)"}
    )
    cluster_signing_kube_apiserver_client_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    cluster_signing_legacy_unknown_cert_file: str = field(
        default="", metadata={"help": "authority of the signer legacy-unknown alone (PEM)"}
    )
    cluster_signing_legacy_unknown_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    cluster_signing_duration: Duration = field(default=Duration(31536000.0), metadata={"help": "how long issued certificates live at most"})
    legacy_service_account_token_clean_up_period: Duration = field(
        default=Duration(365 * 24 * 3600.0),
        metadata={"help": "how long a ServiceAccount token in a Secret must go unused before it is marked invalid, and then be removed"},
    )
    root_ca_file: str = field(default="", metadata={"help": "CA certificate published to every namespace as ConfigMap kube-root-ca.crt"})
    service_account_private_key_file: str = field(
        default="", metadata={"help": "accepted as kube-controller-manager does; tokens in Secrets are asked of the API server instead"}
    )
    default_storage_class: str = field(
        default="standard", metadata={"help": "name of the default StorageClass that is created when there is none; empty: none is created"}
    )
