"""The table of controllers: name, module, how many work items at once. `--controllers` chooses among them.

A module has `SPEC` and `reconcile`; one that needs flags has `build(config)` instead, which answers an object with these two names.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import import_module

from kubecosm.client.controller import Controller, ControllerSpec, Reconcile

from .accounts import ACCOUNTS
from .config import Config
from .names import check_names, is_enabled


@dataclass(frozen=True)
class Row:
    """One controller of the manager."""

    name: str
    module: str
    workers_flag: str = ""
    """The field of Config that says how many work items run at once; empty: as the SPEC says."""
    on_by_default: bool = True

    @property
    def account(self) -> str:
        """Its ServiceAccount in kube-system; empty: it acts as the manager itself."""
        return ACCOUNTS.get(self.name, "")


TABLE = (
    Row("deployment-controller", "workloads.deployment", "concurrent_deployment_syncs"),
    Row("replicaset-controller", "workloads.replicaset", "concurrent_replicaset_syncs"),
    Row("replicationcontroller-controller", "workloads.replicationcontroller", "concurrent_rc_syncs"),
    Row("statefulset-controller", "workloads.statefulset", "concurrent_statefulset_syncs"),
    Row("daemonset-controller", "workloads.daemonset", "concurrent_daemonset_syncs"),
    Row("job-controller", "workloads.job", "concurrent_job_syncs"),
    Row("cronjob-controller", "workloads.cronjob", "concurrent_cron_job_syncs"),
    Row("ttl-after-finished-controller", "workloads.ttl_after_finished", "concurrent_ttl_after_finished_syncs"),
    Row("endpointslice-controller", "network.endpointslice", "concurrent_service_endpoint_syncs"),
    Row("endpoints-controller", "network.endpoints", "concurrent_endpoint_syncs"),
    Row("endpointslice-mirroring-controller", "network.endpointslice_mirroring"),
    Row("service-cidr-controller", "network.servicecidr"),
    Row("namespace-controller", "cluster.namespace", "concurrent_namespace_syncs"),
    Row("serviceaccount-controller", "cluster.serviceaccount"),
    Row("serviceaccount-token-controller", "cluster.serviceaccount_tokens", "concurrent_serviceaccount_token_syncs"),
    Row("legacy-serviceaccount-token-cleaner-controller", "cluster.legacy_token_cleaner"),
    Row("root-ca-certificate-publisher-controller", "cluster.root_ca_publisher"),
    Row("node-ipam-controller", "cluster.node_ipam"),
    Row("ttl-controller", "cluster.node_ttl"),
    Row("node-lifecycle-controller", "cluster.node_lifecycle"),
    Row("cluster-autoscaler-controller", "cluster.autoscaler"),
    Row("taint-eviction-controller", "cluster.taint_eviction"),
    Row("pod-garbage-collector-controller", "cluster.pod_gc"),
    Row("disruption-controller", "workloads.disruption"),
    Row("horizontal-pod-autoscaler-controller", "workloads.horizontal", "concurrent_horizontal_pod_autoscaler_syncs"),
    Row("persistentvolume-binder-controller", "storage.pv_binder"),
    Row("persistentvolume-lifecycle-controller", "storage.volumes"),
    Row("persistentvolume-expander-controller", "storage.expansion"),
    Row("volume-provisioner-controller", "storage.provisioner"),
    Row("persistentvolume-protection-controller", "storage.protection"),
    Row("volumeattributesclass-protection-controller", "storage.class_protection"),
    Row("persistentvolume-attach-detach-controller", "storage.attach_detach"),
    Row("ephemeral-volume-controller", "storage.ephemeral"),
    Row("resourceclaim-controller", "workloads.resource_claims"),
    Row("device-taint-eviction-controller", "workloads.device_taint_eviction"),
    Row("resourcequota-controller", "cluster.resource_quota", "concurrent_resource_quota_syncs"),
    Row("certificatesigningrequest-approving-controller", "certificates.approving"),
    Row("certificatesigningrequest-signing-controller", "certificates.signing"),
    Row("certificatesigningrequest-cleaner-controller", "certificates.cleaner"),
    Row("bootstrap-signer-controller", "certificates.bootstrap_signer", on_by_default=False),
    Row("token-cleaner-controller", "certificates.token_cleaner", on_by_default=False),
    Row("clusterrole-aggregation-controller", "cluster.clusterrole_aggregation"),
    Row("garbage-collector-controller", "cluster.garbage_collector", "concurrent_gc_syncs"),
)
NAMES = tuple(row.name for row in TABLE)


@dataclass(frozen=True)
class Tuned:
    """A controller whose number of workers was set by a flag."""

    SPEC: ControllerSpec
    reconcile: Reconcile


def load(row: Row, config: Config) -> Controller:
    """The controller of a row, built from the flags."""
    module = import_module(f".{row.module}", __package__)
    controller: Controller = module.build(config) if hasattr(module, "build") else module
    if not row.workers_flag:
        return controller
    spec = dataclasses.replace(controller.SPEC, workers=getattr(config, row.workers_flag))
    return Tuned(spec, controller.reconcile)


def enabled_rows(config: Config) -> list[Row]:
    """All controllers that `--controllers` turns on. StartupError for an unknown name."""
    check_names(config.controllers, NAMES)
    return [row for row in TABLE if is_enabled(row.name, config.controllers, on_by_default=row.on_by_default)]


def load_enabled(config: Config) -> list[Controller]:
    """The same, loaded."""
    return [load(row, config) for row in enabled_rows(config)]
