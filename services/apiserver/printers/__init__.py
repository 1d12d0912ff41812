"""The columns of Tables and the cells of each kind, as `kubectl get` shows them. Kinds without columns of their own show their creation.

`columns.json` holds the columns, by resource; the modules hold what fills them. Objects come in the version they are stored in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol

import orjson

from kubecosm.api.resources import CustomResource, Object, Resource
from kubecosm.api.times import format_time, parse_time

Cells = Callable[[Object, datetime], list[Any]]
Conditions = Callable[[Object], list[Object]]

_MODULES = {
    "pods": "pods:pods",
    "podtemplates": "workloads:pod_templates",
    "replicationcontrollers": "workloads:replication_controllers",
    "replicasets.apps": "workloads:replica_sets",
    "deployments.apps": "workloads:deployments",
    "statefulsets.apps": "workloads:stateful_sets",
    "daemonsets.apps": "workloads:daemon_sets",
    "controllerrevisions.apps": "workloads:controller_revisions",
    "jobs.batch": "workloads:jobs",
    "cronjobs.batch": "workloads:cron_jobs",
    "horizontalpodautoscalers.autoscaling": "workloads:horizontal_pod_autoscalers",
    "poddisruptionbudgets.policy": "workloads:pod_disruption_budgets",
    "services": "network:services",
    "endpoints": "network:endpoints",
    "endpointslices.discovery.k8s.io": "network:endpoint_slices",
    "ingresses.networking.k8s.io": "network:ingresses",
    "ingressclasses.networking.k8s.io": "network:ingress_classes",
    "networkpolicies.networking.k8s.io": "network:network_policies",
    "servicecidrs.networking.k8s.io": "network:service_cidrs",
    "ipaddresses.networking.k8s.io": "network:ip_addresses",
    "persistentvolumes": "storage:persistent_volumes",
    "persistentvolumeclaims": "storage:persistent_volume_claims",
    "storageclasses.storage.k8s.io": "storage:storage_classes",
    "volumeattributesclasses.storage.k8s.io": "storage:volume_attributes_classes",
    "volumeattachments.storage.k8s.io": "storage:volume_attachments",
    "csinodes.storage.k8s.io": "storage:csi_nodes",
    "csidrivers.storage.k8s.io": "storage:csi_drivers",
    "namespaces": "cluster:namespaces",
    "nodes": "cluster:nodes",
    "configmaps": "cluster:config_maps",
    "secrets": "cluster:secrets",
    "serviceaccounts": "cluster:just_age",
    "events": "cluster:events",
    "componentstatuses": "cluster:component_statuses",
    "resourcequotas": "cluster:resource_quotas",
    "priorityclasses.scheduling.k8s.io": "cluster:priority_classes",
    "runtimeclasses.node.k8s.io": "cluster:runtime_classes",
    "leases.coordination.k8s.io": "cluster:leases",
    "leasecandidates.coordination.k8s.io": "cluster:lease_candidates",
    "rolebindings.rbac.authorization.k8s.io": "control:bindings",
    "clusterrolebindings.rbac.authorization.k8s.io": "control:bindings",
    "certificatesigningrequests.certificates.k8s.io": "control:certificate_signing_requests",
    "clustertrustbundles.certificates.k8s.io": "control:cluster_trust_bundles",
    "podcertificaterequests.certificates.k8s.io": "control:pod_certificate_requests",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "control:webhooks",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "control:webhooks",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "control:validating_policies",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "control:policy_bindings",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "control:mutating_policies",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": "control:policy_bindings",
    "flowschemas.flowcontrol.apiserver.k8s.io": "control:flow_schemas",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "control:priority_levels",
    "apiservices.apiregistration.k8s.io": "control:api_services",
    "storageversions.internal.apiserver.k8s.io": "control:storage_versions",
    "storageversionmigrations.storagemigration.k8s.io": "control:storage_version_migrations",
    "resourceclaims.resource.k8s.io": "devices:resource_claims",
    "resourceslices.resource.k8s.io": "devices:resource_slices",
    "devicetaintrules.resource.k8s.io": "devices:device_taint_rules",
    "resourcepoolstatusrequests.resource.k8s.io": "devices:resource_pool_status_requests",
    "podgroups.scheduling.k8s.io": "devices:pod_groups",
    "deviceclasses.resource.k8s.io": "cluster:just_age",
    "resourceclaimtemplates.resource.k8s.io": "cluster:just_age",
    "workloads.scheduling.k8s.io": "cluster:just_age",
    "scale": "workloads:scales",
}
"""group_resource → the function that makes its cells."""
_ALIASES = {"events.events.k8s.io": "events"}
_ROW_CONDITIONS = {"pods": "pods:pod_conditions"}


class Printer(Protocol):
    """Rows of one kind."""

    @property
    def columns(self) -> tuple[Object, ...]:
        """TableColumnDefinitions."""

    def row(self, obj: Object, now: datetime) -> list[Any]:
        """The cells of one object, in column order."""

    def conditions(self, obj: Object) -> list[Object]:
        """TableRowConditions, mostly none."""


@dataclass(frozen=True)
class TablePrinter:
    columns: tuple[Object, ...]
    cells: Cells
    row_conditions: Conditions | None = None

    def row(self, obj: Object, now: datetime) -> list[Any]:
        return self.cells(obj, now)

    def conditions(self, obj: Object) -> list[Object]:
        return self.row_conditions(obj) if self.row_conditions else []


def printer_for(resource: Resource) -> Printer:
    """The printer of a resource: the kind's own, the columns of its definition, or name and creation time."""
    if isinstance(resource, CustomResource):
        from ..customresources.columns import printer_of

        return printer_of(resource)
    return _printer(_ALIASES.get(resource.group_resource, resource.group_resource))


def scale_printer() -> Printer:
    """The printer of the scale subresource of built-in kinds."""
    return _printer("scale")


def shared_column(name: str) -> Object:
    """A column that many kinds have: `name`, `age`."""
    return _column_tables()[0][name]


@cache
def _printer(key: str) -> Printer:
    shared, tables = _column_tables()
    if key not in _MODULES:
        return TablePrinter((shared["name"], shared["created"]), _name_and_creation)
    conditions = _ROW_CONDITIONS.get(key)
    return TablePrinter(tables[key], _function(_MODULES[key]), _function(conditions) if conditions else None)


def _function(reference: str) -> Any:
    module, name = reference.split(":")
    return getattr(import_module(f".{module}", __name__), name)


def _name_and_creation(obj: Object, now: datetime) -> list[Any]:
    return [obj["metadata"].get("name", ""), format_time(parse_time(obj["metadata"]["creationTimestamp"]).astimezone(UTC))]


@cache
def _column_tables() -> tuple[dict[str, Object], dict[str, tuple[Object, ...]]]:
    """(columns that many kinds have, columns by group_resource), all fields of a TableColumnDefinition filled in."""
    data = orjson.loads((files(__package__) / "columns.json").read_bytes())
    shared = {name: _definition(column) for name, column in data["shared"].items()}
    tables = {
        key: tuple(shared[column] if isinstance(column, str) else _definition(column) for column in columns)
        for key, columns in data["tables"].items()
    }
    return shared, tables


def _definition(column: Object) -> Object:
    return {
        "name": column["name"], "type": column.get("type", "string"), "format": column.get("format", ""),
        "description": column.get("description", ""), "priority": column.get("priority", 0),
    }  # fmt: skip
