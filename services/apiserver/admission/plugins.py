"""The table of admission plugins, in the order in which kube-apiserver asks them, and which of them are on.

Imitates pkg/kubeapiserver/options/plugins.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from kubecosm.api.resources import (
    INGRESSCLASSES,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PRIORITYCLASSES,
    RESOURCEQUOTAS,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    STORAGECLASSES,
    Object,
    Resource,
    builtin,
)
from kubecosm.runtime.errors import StartupError

from ..cache.resource import ResourceCache
from ..state import State
from .certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest
from .chain import AdmissionChain, Plugin
from .claimresize import PersistentVolumeClaimResize
from .lifecycle import NamespaceLifecycle
from .limitranger import LimitRanger
from .matching import GROUP, Surroundings
from .metrics import AdmissionMetrics
from .podsecurity import build as build_podsecurity
from .priority import PriorityPlugin
from .resourcequota import ResourceQuota, limited_resources
from .runtimeclass import RuntimeClass
from .serviceaccount import ServiceAccountPlugin
from .small import (
    DefaultIngressClass,
    DefaultStorageClass,
    DefaultTolerationSeconds,
    StorageObjectInUseProtection,
    TaintNodesByCondition,
)
from .topology import PodTopologyLabels
from .webhooks.hooks import HookIndex


@dataclass(frozen=True)
class Parts:
    """What plugins are made of."""

    state: State
    configuration: Mapping[str, Object] = field(default_factory=dict)
    """By plugin, from --admission-control-config-file."""
    extra_config_maps: tuple[tuple[str, str], ...] = ()
    toleration_seconds: tuple[int, int] = (300, 300)
    """Of nodes that are not ready, and of unreachable ones."""
    metrics: AdmissionMetrics = field(default_factory=AdmissionMetrics)

    @cached_property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.state)

    def hooks(self, plural: str) -> HookIndex:
        return HookIndex(self.cache(builtin(GROUP, "v1", plural)), self.surroundings)

    def policies(self, plural: str) -> ResourceCache:
        return self.cache(builtin(GROUP, "v1", plural))

    def cache(self, resource: Resource) -> ResourceCache:
        return self.state.store(resource.group, resource.version, resource.plural).cache


@dataclass(frozen=True)
class Row:
    """One plugin."""

    name: str
    build: Callable[[Parts], Plugin]
    on_by_default: bool = True


def _import(module: str) -> Any:
    """A module of this folder that only its plugins need."""
    return import_module(f".{module}", __package__)


def _lazy(module: str) -> Callable[[Parts], Plugin]:
    """`build(parts)` of a module that is imported only if the plugin is on."""

    def build(parts: Parts) -> Plugin:
        plugin: Plugin = _import(module).build(parts)
        return plugin

    return build


TABLE: tuple[Row, ...] = (
    Row("AlwaysAdmit", lambda parts: _import("always").AlwaysAdmit(), on_by_default=False),
    Row("NamespaceAutoProvision", lambda parts: _import("namespaces").build_auto_provision(parts), on_by_default=False),
    Row("NamespaceLifecycle", lambda parts: NamespaceLifecycle(parts.cache(NAMESPACES))),
    Row("NamespaceExists", lambda parts: _import("namespaces").build_exists(parts), on_by_default=False),
    Row("LimitPodHardAntiAffinityTopology", lambda parts: _import("placement").LimitPodHardAntiAffinityTopology(), on_by_default=False),
    Row("LimitRanger", lambda parts: LimitRanger(parts.cache(LIMITRANGES))),
    Row("ServiceAccount", lambda parts: ServiceAccountPlugin(parts.cache(SERVICEACCOUNTS), parts.state.rng, parts.extra_config_maps)),
    Row("NodeRestriction", _lazy("noderestriction"), on_by_default=False),
    Row("TaintNodesByCondition", lambda parts: TaintNodesByCondition()),
    Row("AlwaysPullImages", lambda parts: _import("always").AlwaysPullImages(), on_by_default=False),
    Row("ImagePolicyWebhook", _lazy("imagepolicy"), on_by_default=False),
    Row("PodSecurity", build_podsecurity),
    Row("PodNodeSelector", lambda parts: _import("placement").build_node_selector(parts), on_by_default=False),
    Row("Priority", lambda parts: PriorityPlugin(parts.cache(PRIORITYCLASSES))),
    Row("DefaultTolerationSeconds", lambda parts: DefaultTolerationSeconds(*parts.toleration_seconds)),
    Row("PodTolerationRestriction", lambda parts: _import("placement").build_toleration_restriction(parts), on_by_default=False),
    Row("EventRateLimit", _lazy("eventratelimit"), on_by_default=False),
    Row("ExtendedResourceToleration", lambda parts: _import("placement").ExtendedResourceToleration(), on_by_default=False),
    Row("DefaultStorageClass", lambda parts: DefaultStorageClass(parts.cache(STORAGECLASSES))),
    Row("StorageObjectInUseProtection", lambda parts: StorageObjectInUseProtection()),
    Row("OwnerReferencesPermissionEnforcement", _lazy("ownerreferences"), on_by_default=False),
    Row("PersistentVolumeClaimResize", lambda parts: PersistentVolumeClaimResize(parts.cache(STORAGECLASSES))),
    Row("RuntimeClass", lambda parts: RuntimeClass(parts.cache(RUNTIMECLASSES))),
    Row("CertificateApproval", lambda parts: CertificateApproval(parts.state)),
    Row("CertificateSigning", lambda parts: CertificateSigning(parts.state)),
    Row("ClusterTrustBundleAttest", lambda parts: ClusterTrustBundleAttest(parts.state)),
    Row("CertificateSubjectRestriction", lambda parts: CertificateSubjectRestriction()),
    Row("DefaultIngressClass", lambda parts: DefaultIngressClass(parts.cache(INGRESSCLASSES))),
    Row("DenyServiceExternalIPs", _lazy("externalips"), on_by_default=False),
    Row("PodTopologyLabels", lambda parts: PodTopologyLabels(parts.cache(NODES))),
    Row("NodeDeclaredFeatureValidator", _lazy("nodefeatures")),
    Row("PodResizeValidator", _lazy("podresize")),
    # new plugins go above this line; policies, webhooks, ResourceQuota and AlwaysDeny are last, in this order
    Row("MutatingAdmissionPolicy", _lazy("policies.mutating")),
    Row("MutatingAdmissionWebhook", _lazy("webhooks.mutating")),
    Row("ValidatingAdmissionPolicy", _lazy("policies.validating")),
    Row("ValidatingAdmissionWebhook", _lazy("webhooks.validating")),
    Row(
        "ResourceQuota",
        lambda parts: ResourceQuota(parts.cache(RESOURCEQUOTAS), parts.state, limited_resources(parts.configuration.get("ResourceQuota"))),
    ),
    Row("AlwaysDeny", lambda parts: _import("always").AlwaysDeny(), on_by_default=False),
)


def chosen_plugins(enabled: Sequence[str], disabled: Sequence[str]) -> tuple[Row, ...]:
    """The rows that are on, in order. Raises StartupError for a name that is none, or is in both lists."""
    known = [row.name for row in TABLE]
    for flag, given in (("enable", enabled), ("disable", disabled)):
        for name in given:
            if name not in known:
                raise StartupError(f"invalid --{flag}-admission-plugins {name!r}: the plugins are {', '.join(known)}")
    both = sorted(set(enabled) & set(disabled))
    if both:
        raise StartupError(f"{', '.join(both)} in both --enable-admission-plugins and --disable-admission-plugins")
    return tuple(row for row in TABLE if (row.on_by_default or row.name in enabled) and row.name not in disabled)


def build_admission(parts: Parts, enabled: Sequence[str], disabled: Sequence[str]) -> AdmissionChain:
    """The chain of the plugins that are on. Raises StartupError."""
    plugins = [row.build(parts) for row in chosen_plugins(enabled, disabled)]
    return AdmissionChain(plugins, parts.metrics, parts.state.clock.monotonic)
