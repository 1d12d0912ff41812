"""/configz: the configuration in force, as a KubeSchedulerConfiguration with all defaults filled in (pkg/scheduler/apis/config/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Config
from ..framework.defaults import POINTS, ProfileConfig
from .load import API_VERSION, GROUP, KIND, Document
from .settings import SchedulerConfiguration

PARALLELISM = 16
NO_LIMIT = -1
"""`qps` of a client that is not limited."""

_CPU_AND_MEMORY = [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]
DEFAULT_ARGS: Mapping[str, Document] = {
    "DefaultPreemption": {"minCandidateNodesPercentage": 10, "minCandidateNodesAbsolute": 100},
    "DynamicResources": {"filterTimeout": "10s", "bindingTimeout": "10m0s"},
    "InterPodAffinity": {"hardPodAffinityWeight": 1, "ignorePreferredTermsOfExistingPods": False},
    "NodeAffinity": {},
    "NodeResourcesBalancedAllocation": {"resources": _CPU_AND_MEMORY},
    "NodeResourcesFit": {"scoringStrategy": {"type": "LeastAllocated", "resources": _CPU_AND_MEMORY}},
    "PodTopologySpread": {"defaultingType": "System"},
    "VolumeBinding": {"bindTimeoutSeconds": 600},
}


def effective(settings: SchedulerConfiguration, config: Config) -> dict[str, Any]:
    """What /configz answers; `config` are the flags."""
    document = settings.document
    told: dict[str, Any] = {
        "apiVersion": API_VERSION, "kind": KIND, "parallelism": document.get("parallelism") or PARALLELISM,
        "leaderElection": _leader_election(settings, config), "clientConnection": _client_connection(settings, config),
        "enableProfiling": _given(document, "enableProfiling", True),
        "enableContentionProfiling": _given(document, "enableContentionProfiling", True),
        "percentageOfNodesToScore": _given(document, "percentageOfNodesToScore", config.percentage_of_nodes_to_score),
        "podInitialBackoffSeconds": int(settings.pod_initial_backoff_seconds),
        "podMaxBackoffSeconds": int(settings.pod_max_backoff_seconds),
        "profiles": [
            _profile(profile, written)
            for profile, written in zip(settings.profiles, document.get("profiles") or [{}], strict=True)
        ],
    }  # fmt: skip
    if document.get("extenders"):
        told["extenders"] = [{"httpTimeout": "5s", **extender} for extender in document["extenders"]]
    return {GROUP: told}


def _given(document: Document, name: str, default: Any) -> Any:
    value = document.get(name)
    return default if value is None else value


def _leader_election(settings: SchedulerConfiguration, config: Config) -> dict[str, Any]:
    file, written = settings.leader_election, settings.document.get("leaderElection") or {}
    durations = (
        ("leaseDuration", config.leader_elect_lease_duration), ("renewDeadline", config.leader_elect_renew_deadline),
        ("retryPeriod", config.leader_elect_retry_period),
    )  # fmt: skip
    return {
        "leaderElect": config.leader_elect if file.leader_elect is None else file.leader_elect,
        **{name: written.get(name) or f"{float(flag):g}s" for name, flag in durations}, "resourceLock": "leases",
        "resourceName": file.resource_name or config.leader_elect_resource_name,
        "resourceNamespace": file.resource_namespace or config.leader_elect_resource_namespace,
    }  # fmt: skip


def _client_connection(settings: SchedulerConfiguration, config: Config) -> dict[str, Any]:
    return {
        "kubeconfig": config.kubeconfig or settings.kubeconfig, "acceptContentTypes": "", "contentType": "application/json",
        "qps": settings.requests_per_second or NO_LIMIT, "burst": settings.requests_burst,
    }  # fmt: skip


def _profile(profile: ProfileConfig, written: Document) -> dict[str, Any]:
    sets: Document = (written or {}).get("plugins") or {}
    plugins: dict[str, Any] = {point: sets.get(point) or {} for point in POINTS}
    everywhere = [{"name": name, **({"weight": weight} if weight else {})} for name, weight in profile.plugins.items()]
    plugins["multiPoint"] = {**(sets.get("multiPoint") or {}), "enabled": everywhere}
    own_share = (written or {}).get("percentageOfNodesToScore")
    return {
        "schedulerName": profile.scheduler_name, **({} if own_share is None else {"percentageOfNodesToScore": own_share}),
        "plugins": plugins, "pluginConfig": _plugin_config(profile, written or {}),
    }  # fmt: skip


def _plugin_config(profile: ProfileConfig, written: Document) -> list[dict[str, Any]]:
    """What was configured, in its order, then the defaults of the other plugins that take arguments."""
    own = {item.get("name") or "": item.get("args") or {} for item in written.get("pluginConfig") or ()}
    in_use = {*profile.plugins, *(name for enabled in profile.points.values() for name in enabled)}
    names = [*own, *(name for name in DEFAULT_ARGS if name not in own and name in in_use)]
    return [{"name": name, "args": {**_type_of(name), **DEFAULT_ARGS.get(name, {}), **own.get(name, {})}} for name in names]


def _type_of(plugin: str) -> dict[str, str]:
    return {"apiVersion": API_VERSION, "kind": f"{plugin}Args"} if plugin in DEFAULT_ARGS else {}
