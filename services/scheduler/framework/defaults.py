"""The default profile as data: which plugins are on, in which order, with which weights. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_SCHEDULER_NAME = "default-scheduler"

DEFAULT_PLUGINS: Mapping[str, int] = {
    "SchedulingGates": 0, "PrioritySort": 0, "NodeUnschedulable": 0, "NodeName": 0, "TaintToleration": 3, "NodeAffinity": 2, "NodePorts": 0,
    "NodeResourcesFit": 1, "VolumeRestrictions": 0, "NodeVolumeLimits": 0, "VolumeBinding": 0, "VolumeZone": 0, "PodTopologySpread": 2,
    "InterPodAffinity": 2, "DynamicResources": 2, "DefaultPreemption": 0, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
    "DefaultBinder": 0, "NodeDeclaredFeatures": 0,
}  # fmt: skip
"""Enabled at every point they extend (multiPoint), in this order; name → weight of their scores."""

POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit", "preBind", "bind", "postBind",
)  # fmt: skip
"""Extension points as a KubeSchedulerConfiguration names them."""


@dataclass(frozen=True)
class ProfileConfig:
    """One profile. `points` names, for the extension points that differ from `plugins`, what is enabled there instead."""

    scheduler_name: str = DEFAULT_SCHEDULER_NAME
    plugins: Mapping[str, int] = field(default_factory=lambda: DEFAULT_PLUGINS)
    points: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    percentage_of_nodes_to_score: int = 0
    """0: fewer per cent the more nodes there are. 100: all."""
    explicit: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Extension point → plugins that the configuration enables right there, so that they must extend it."""
