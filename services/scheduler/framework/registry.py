"""The in-tree plugins and how each is made; user plugins come as Python entry points of group `kubecosm.scheduler.plugins`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.flags import parse_duration

from ..plugins.balancedallocation import NodeResourcesBalancedAllocation
from ..plugins.defaultbinder import DefaultBinder
from ..plugins.defaultpreemption import DefaultPreemption, PreemptionArgs
from ..plugins.dynamicresources import BINDING_SECONDS_MAX, DynamicResources
from ..plugins.imagelocality import ImageLocality
from ..plugins.interpodaffinity import InterPodAffinity
from ..plugins.nodeaffinity import NodeAffinity
from ..plugins.nodedeclaredfeatures import NodeDeclaredFeatures
from ..plugins.nodename import NodeName
from ..plugins.nodeports import NodePorts
from ..plugins.noderesources import FitArgs, NodeResourcesFit
from ..plugins.nodeunschedulable import NodeUnschedulable
from ..plugins.nodevolumelimits import NodeVolumeLimits
from ..plugins.podtopologyspread import PodTopologySpread
from ..plugins.prioritysort import PrioritySort
from ..plugins.schedulinggates import SchedulingGates
from ..plugins.tainttoleration import TaintToleration
from ..plugins.volumebinding import BIND_TIMEOUT_SECONDS, VolumeBinding
from ..plugins.volumerestrictions import VolumeRestrictions
from ..plugins.volumezone import VolumeZone
from .handle import Handle
from .interface import Plugin

ENTRY_POINT_GROUP = "kubecosm.scheduler.plugins"

Args = Mapping[str, Any]
Factory = Callable[[Handle, Args], Plugin]
"""Makes a plugin from the handle and its pluginConfig args (empty if there are none)."""


def _fit(handle: Handle, args: Args) -> Plugin:
    return NodeResourcesFit(handle, FitArgs.from_config(args))


def _balanced(handle: Handle, args: Args) -> Plugin:
    resources = tuple(r["name"] for r in args.get("resources") or ())
    return NodeResourcesBalancedAllocation(handle, resources) if resources else NodeResourcesBalancedAllocation(handle)


def _volume_binding(handle: Handle, args: Args) -> Plugin:
    seconds = args.get("bindTimeoutSeconds")
    return VolumeBinding(handle, float(BIND_TIMEOUT_SECONDS if seconds is None else seconds))


def _dynamic_resources(handle: Handle, args: Args) -> Plugin:
    timeout = args.get("bindingTimeout")
    return DynamicResources(handle, float(parse_duration(timeout)) if timeout else BINDING_SECONDS_MAX)


IN_TREE: Mapping[str, Factory] = {
    "SchedulingGates": lambda handle, args: SchedulingGates(handle),
    "PrioritySort": lambda handle, args: PrioritySort(handle),
    "NodeUnschedulable": lambda handle, args: NodeUnschedulable(handle),
    "NodeName": lambda handle, args: NodeName(handle),
    "TaintToleration": lambda handle, args: TaintToleration(handle),
    "NodeAffinity": lambda handle, args: NodeAffinity(handle, args.get("addedAffinity")),
    "NodePorts": lambda handle, args: NodePorts(handle),
    "NodeResourcesFit": _fit,
    "VolumeRestrictions": lambda handle, args: VolumeRestrictions(handle),
    "NodeVolumeLimits": lambda handle, args: NodeVolumeLimits(handle),
    "VolumeBinding": _volume_binding,
    "VolumeZone": lambda handle, args: VolumeZone(handle),
    "PodTopologySpread": PodTopologySpread,
    "InterPodAffinity": InterPodAffinity,
    "DynamicResources": _dynamic_resources,
    "DefaultPreemption": lambda handle, args: DefaultPreemption(handle, PreemptionArgs.from_config(args)),
    "NodeResourcesBalancedAllocation": _balanced,
    "ImageLocality": lambda handle, args: ImageLocality(handle),
    "DefaultBinder": lambda handle, args: DefaultBinder(handle),
    "NodeDeclaredFeatures": lambda handle, args: NodeDeclaredFeatures(handle),
}

def factory_of(name: str) -> Factory:
    """The factory of an in-tree or a user's plugin; StartupError if nobody has it."""
    if name in IN_TREE:
        return IN_TREE[name]
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        loaded: Factory = entry.load()
        return loaded
    raise StartupError(f"no scheduler plugin is called {name!r}: install a package with such an entry point in group {ENTRY_POINT_GROUP}")
