"""The built-in plugins in the order in which kube-apiserver asks them."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.resources import (
    INGRESSCLASSES,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PRIORITYCLASSES,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    STORAGECLASSES,
    Resource,
)
from kubecosm.runtime.errors import StartupError

from ..cache.resource import ResourceCache
from ..state import State
from .chain import AdmissionChain, Plugin
from .claimresize import PersistentVolumeClaimResize
from .lifecycle import NamespaceLifecycle
from .limitranger import LimitRanger
from .priority import PriorityPlugin
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


def build_plugins(state: State, extra_config_maps: tuple[tuple[str, str], ...] = ()) -> tuple[Plugin, ...]:
    def cache(resource: Resource) -> ResourceCache:
        return state.store(resource.group, resource.version, resource.plural).cache

    return (
        NamespaceLifecycle(cache(NAMESPACES)),
        LimitRanger(cache(LIMITRANGES)),
        ServiceAccountPlugin(cache(SERVICEACCOUNTS), state.rng, extra_config_maps),
        TaintNodesByCondition(),
        PriorityPlugin(cache(PRIORITYCLASSES)),
        DefaultTolerationSeconds(),
        DefaultStorageClass(cache(STORAGECLASSES)),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(cache(STORAGECLASSES)),
        RuntimeClass(cache(RUNTIMECLASSES)),
        DefaultIngressClass(cache(INGRESSCLASSES)),
        PodTopologyLabels(cache(NODES)),
    )


def build_admission(plugins: Sequence[Plugin], disabled: Sequence[str]) -> AdmissionChain:
    """The chain without the disabled plugins. Raises StartupError for a name that is none."""
    known = [plugin.name for plugin in plugins]
    for name in disabled:
        if name not in known:
            raise StartupError(f"invalid --disable-admission-plugins {name!r}: the plugins are {', '.join(known)}")
    return AdmissionChain([plugin for plugin in plugins if plugin.name not in disabled])
