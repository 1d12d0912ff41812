"""The table of admission plugins, in the order in which kube-apiserver asks them, and which of them are on.

Imitates pkg/kubeapiserver/options/plugins.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

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
)
from kubecosm.runtime.errors import StartupError

from .chain import AdmissionChain, Plugin
from .claimresize import PersistentVolumeClaimResize
from .lifecycle import NamespaceLifecycle
from .limitranger import LimitRanger
from .parts import Parts
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


@dataclass(frozen=True)
class Row:
    """One plugin."""

    name: str
    build: Callable[[Parts], Plugin]
    on_by_default: bool = True


def _lazy(module: str) -> Callable[[Parts], Plugin]:
    """`build(parts)` of a module that is imported only if the plugin is on."""

    def build(parts: Parts) -> Plugin:
        plugin: Plugin = import_module(f".{module}", __package__).build(parts)
        return plugin

    return build


TABLE: tuple[Row, ...] = (
    Row("NamespaceLifecycle", lambda parts: NamespaceLifecycle(parts.cache(NAMESPACES))),
    Row("LimitRanger", lambda parts: LimitRanger(parts.cache(LIMITRANGES))),
    Row("ServiceAccount", lambda parts: ServiceAccountPlugin(parts.cache(SERVICEACCOUNTS), parts.state.rng, parts.extra_config_maps)),
    Row("TaintNodesByCondition", lambda parts: TaintNodesByCondition()),
    Row("PodSecurity", build_podsecurity),
    Row("Priority", lambda parts: PriorityPlugin(parts.cache(PRIORITYCLASSES))),
    Row("DefaultTolerationSeconds", lambda parts: DefaultTolerationSeconds()),
    Row("DefaultStorageClass", lambda parts: DefaultStorageClass(parts.cache(STORAGECLASSES))),
    Row("StorageObjectInUseProtection", lambda parts: StorageObjectInUseProtection()),
    Row("PersistentVolumeClaimResize", lambda parts: PersistentVolumeClaimResize(parts.cache(STORAGECLASSES))),
    Row("RuntimeClass", lambda parts: RuntimeClass(parts.cache(RUNTIMECLASSES))),
    Row("DefaultIngressClass", lambda parts: DefaultIngressClass(parts.cache(INGRESSCLASSES))),
    Row("PodTopologyLabels", lambda parts: PodTopologyLabels(parts.cache(NODES))),
    # new plugins go above this line; policies, webhooks, ResourceQuota and AlwaysDeny are last, in this order
    Row(
        "ResourceQuota",
        lambda parts: ResourceQuota(parts.cache(RESOURCEQUOTAS), parts.state, limited_resources(parts.configuration.get("ResourceQuota"))),
    ),
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
    return AdmissionChain([row.build(parts) for row in chosen_plugins(enabled, disabled)])
