"""NodeResourcesFit: refuses nodes without room, and scores them by how full they would be.

LeastAllocated (default) spreads, MostAllocated packs, RequestedToCapacityRatio follows a curve. Scores use the non-zero requests: a
container that asks for nothing still counts a little.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dra.extended import stands_for
from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState, Verdict
from ..framework.status import Code, Status
from ..state.columns import BoolArray, FloatArray, IntArray, Rows
from ..state.nodes import NodeTable
from ..state.podinfo import PodInfo
from ..state.requests import CPU, MEMORY, NATIVE, PODS, Requests, amounts
from .deviceclaims import extended_resources
from .helpers import distinct

RESOURCES_MAX = 31
"""Resources of one pod that can be told apart in a verdict."""
TOO_MANY_PODS = "Too many pods"

LEAST_ALLOCATED, MOST_ALLOCATED, RATIO = "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"


@dataclass(frozen=True, slots=True)
class FitArgs:
    """NodeResourcesFitArgs: `resources` are (name, weight), `shape` (utilization, score 0…10) points."""

    strategy: str = LEAST_ALLOCATED
    resources: tuple[tuple[str, int], ...] = ((CPU, 1), (MEMORY, 1))
    shape: tuple[tuple[int, int], ...] = ((0, 0), (100, 10))
    ignored_resources: frozenset[str] = frozenset()
    ignored_groups: frozenset[str] = frozenset()

    @staticmethod
    def from_config(args: Mapping[str, Any]) -> FitArgs:
        strategy = args.get("scoringStrategy") or {}
        resources = tuple((r["name"], int(r.get("weight") or 1)) for r in strategy.get("resources") or ())
        shape = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
        default = FitArgs()
        return FitArgs(
            strategy.get("type") or LEAST_ALLOCATED, resources or default.resources,
            tuple((int(p["utilization"]), int(p["score"])) for p in shape) or default.shape,
            frozenset(args.get("ignoredResources") or ()), frozenset(args.get("ignoredResourceGroups") or ()),
        )  # fmt: skip


class NodeResourcesFit:
    name = "NodeResourcesFit"

    def __init__(self, handle: Handle, args: FitArgs | None = None) -> None:
        self._nodes = handle.cluster.nodes
        self._devices = handle.devices
        self._args = args or FitArgs()
        self._strategy = strategy_of(self._args)

    def events_to_register(self) -> list[HintedEvent]:
        pod_event = ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE | Action.UPDATE_POD_SCALE_DOWN)
        node_event = ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_ALLOCATABLE)
        own_event = ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_SCALE_DOWN)
        class_event = ClusterEvent(EventResource.DEVICE_CLASS, Action.ADD | Action.UPDATE)
        return [
            HintedEvent(pod_event, self._pod_changed), HintedEvent(node_event, self._node_changed), HintedEvent(own_event),
            HintedEvent(class_event, self._class_changed),
        ]  # fmt: skip

    @staticmethod
    def _pod_changed(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when a placed pod went, or shrank in something this pod asks for."""
        if new is None:
            return True
        return any(value and old.requests.get(name, 0) > new.requests.get(name, 0) for name, value in pod.requests.items())

    def _node_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when an empty such node would hold the pod and it is new, or has grown in something the pod asks for."""
        available = amounts((new.get("status") or {}).get("allocatable"))
        devices = extended_resources(pod, self._devices)
        if any(value > available.get(name, 0) for name, value in pod.requests.items() if name not in devices or available.get(name)):
            return False
        if old is None:
            return True
        before = amounts((old.get("status") or {}).get("allocatable"))
        wanted = (PODS, *(name for name, value in pod.requests.items() if value))
        return any(available.get(name, 0) > before.get(name, 0) for name in wanted)

    @staticmethod
    def _class_changed(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when devices of the class stand for something this pod asks for, and did not before."""
        meant = stands_for(new) - (frozenset() if old is None else stands_for(old))
        return any(pod.requests.get(resource) for resource in meant)

    # ---- filter

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        nodes = self._nodes
        lacking: list[tuple[str, int, BoolArray]] = []
        full = (nodes.requested(PODS) >= nodes.allocatable(PODS))[rows]
        if full.any():
            lacking.append((PODS, 0, full))
        for resource, wanted in self.checked(pod).items():
            short = nodes.allocatable(resource)[rows] - nodes.requested(resource)[rows] < wanted
            if resource in self._devices.class_of:
                short &= nodes.allocatable(resource)[rows] > 0  # elsewhere DynamicResources finds devices
            if short.any():
                lacking.append((resource, wanted, short))
        return self._verdict(lacking, rows) if lacking else None

    def checked(self, pod: PodInfo) -> Requests:
        """What of the pod's requests a node must have room for."""
        return {resource: wanted for resource, wanted in pod.requests.items() if wanted and not self._is_ignored(resource)}

    def delegates(self, pod: PodInfo) -> bool:
        """Whether devices may stand in for a resource that a node does not have."""
        return bool(self._devices.class_of) and bool(extended_resources(pod, self._devices))

    def _is_ignored(self, resource: str) -> bool:
        """Extended resources that the configuration leaves to others."""
        args = self._args
        if resource in NATIVE or not (args.ignored_resources or args.ignored_groups):
            return False
        return resource in args.ignored_resources or resource.partition("/")[0] in args.ignored_groups

    def _verdict(self, lacking: Sequence[tuple[str, int, BoolArray]], rows: Rows) -> Verdict:
        """A status for each combination of lacking resources that occurs; one too large for the whole node cannot be helped."""
        bits = np.zeros(len(lacking[0][2]), np.int64)
        for index, (resource, wanted, short) in enumerate(lacking[:RESOURCES_MAX]):
            bits |= short.astype(np.int64) << (2 * index)
            if wanted:
                hopeless = short & (self._nodes.allocatable(resource)[rows] < wanted)
                bits |= hopeless.astype(np.int64) << (2 * index + 1)
        combinations, codes = distinct(bits)
        return Verdict(bits == 0, [_status(combination, lacking) for combination in combinations], codes)

    # ---- score

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        requested, allocatable, weights = [], [], []
        for resource, weight in self._args.resources:
            wanted, used = _scored(self._nodes, pod, resource)
            if not wanted and resource not in NATIVE:
                continue
            requested.append((used[rows] + wanted).astype(np.float64))
            allocatable.append(self._nodes.allocatable(resource)[rows].astype(np.float64))
            weights.append(weight)
        return self._strategy.combine(requested, allocatable, weights) if requested else 0


def lacking_status(resources: Sequence[str], hopeless: bool) -> Status:
    """What a node says that lacks these resources; `hopeless` if it would even when empty."""
    reasons = tuple(TOO_MANY_PODS if resource == PODS else f"Insufficient {resource}" for resource in resources)
    return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE if hopeless else Code.UNSCHEDULABLE, reasons)


def _status(combination: int, lacking: Sequence[tuple[str, int, BoolArray]]) -> Status:
    bits = [combination >> (2 * index) & 3 for index in range(min(len(lacking), RESOURCES_MAX))]
    resources = [lacking[index][0] for index, bit in enumerate(bits) if bit & 1]
    return lacking_status(resources, any(bit & 2 for bit in bits))


def _scored(nodes: NodeTable, pod: PodInfo, resource: str) -> tuple[int, IntArray]:
    """What the pod asks of a resource and what each node's pods ask, as scoring counts it."""
    if resource == CPU:
        return pod.nonzero_cpu, nodes.nonzero_cpu
    if resource == MEMORY:
        return pod.nonzero_memory, nodes.nonzero_memory
    return pod.requests.get(resource, 0), nodes.requested(resource)


Scorer = Callable[[FloatArray, FloatArray], FloatArray]
"""(requested, allocatable, the latter never 0) → score 0…SCORE_MAX of one resource, whole numbers."""


def least_allocated(requested: FloatArray, allocatable: FloatArray) -> FloatArray:
    return np.where(requested > allocatable, 0.0, np.floor((allocatable - requested) * SCORE_MAX / allocatable))


def most_allocated(requested: FloatArray, allocatable: FloatArray) -> FloatArray:
    """A node that is asked for more than it has counts as full."""
    return np.floor(np.minimum(requested, allocatable) * SCORE_MAX / allocatable)


def ratio_scorer(shape: Sequence[tuple[int, int]]) -> Scorer:
    """Straight lines between the points of `shape`, whose scores go to 10 (RequestedToCapacityRatio)."""
    points = [(utilization, score * (SCORE_MAX // 10)) for utilization, score in shape]

    def score(requested: FloatArray, allocatable: FloatArray) -> FloatArray:
        used = np.where(requested > allocatable, 100.0, np.floor(requested * 100 / allocatable))
        result: FloatArray = np.full(len(used), float(points[-1][1]))
        for (left, low), (right, high) in reversed(list(itertools.pairwise(points))):
            within = used <= right
            result[within] = low + np.trunc((high - low) * (used[within] - left) / (right - left))
        result[used <= points[0][0]] = points[0][1]
        return result

    return score


@dataclass(frozen=True, slots=True)
class Strategy:
    """How resources are scored and put together; `skip_zero` leaves resources that score 0 out of the mean, which is then rounded."""

    scorer: Scorer
    skip_zero: bool = False

    def combine(self, requested: Sequence[FloatArray], allocatable: Sequence[FloatArray], weights: Sequence[int]) -> IntArray:
        """The weighted mean of the resources' scores per node; a resource that a node does not have is left out there."""
        total: FloatArray = np.zeros(len(requested[0]))
        weight_sum: FloatArray = np.zeros(len(requested[0]))
        for used, available, weight in zip(requested, allocatable, weights, strict=True):
            scores = self.scorer(used, np.maximum(available, 1.0))
            counts = available > 0 if not self.skip_zero else (available > 0) & (scores > 0)
            total += scores * counts * weight
            weight_sum += counts * weight
        mean = total / np.maximum(weight_sum, 1.0)
        return np.floor(mean + 0.5 if self.skip_zero else mean).astype(np.int64)


def strategy_of(args: FitArgs) -> Strategy:
    """The strategy that a configuration names; ValueError for an unknown one."""
    if args.strategy == LEAST_ALLOCATED:
        return Strategy(least_allocated)
    if args.strategy == MOST_ALLOCATED:
        return Strategy(most_allocated)
    if args.strategy == RATIO:
        return Strategy(ratio_scorer(args.shape), skip_zero=True)
    raise ValueError(f"scoring strategy {args.strategy} is not supported")
