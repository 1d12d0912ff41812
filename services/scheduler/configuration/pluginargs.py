"""What kube-scheduler objects to in the args of its plugins (validation_pluginargs.go)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.validation import qualified_name
from kubecosm.runtime.flags import parse_duration

from .nodeterms import term_errors

Args = Mapping[str, Any]
RATIO = "RequestedToCapacityRatio"
STRATEGIES = ("LeastAllocated", "MostAllocated", RATIO)
"""Of NodeResourcesFit; the first is the default."""
Validator = Callable[[Args, str], Iterator[FieldError]]


def validate_args(plugin: str, args: Args, path: str) -> list[FieldError]:
    """All complaints about the args of a plugin; args of plugins that are not in-tree are their own business."""
    validator = VALIDATORS.get(plugin)
    return list(validator(args, path)) if validator is not None else []


def _range(path: str, value: int | None, low: int, high: int) -> Iterator[FieldError]:
    if value is not None and not low <= value <= high:
        yield invalid_value(path, value, f"not in valid range [{low}, {high}]")


def _default_preemption(args: Args, path: str) -> Iterator[FieldError]:
    percentage, absolute = args.get("minCandidateNodesPercentage"), args.get("minCandidateNodesAbsolute")
    yield from _range(f"{path}.minCandidateNodesPercentage", percentage, 0, 100)
    if absolute is not None and absolute < 0:
        yield invalid_value(f"{path}.minCandidateNodesAbsolute", absolute, "not in valid range [0, inf)")
    if percentage == 0 and absolute == 0:
        yield invalid_value(f"{path}.minCandidateNodesPercentage", 0, "cannot be zero at the same time as minCandidateNodesAbsolute")
        yield invalid_value(f"{path}.minCandidateNodesAbsolute", 0, "cannot be zero at the same time as minCandidateNodesPercentage")


def _inter_pod_affinity(args: Args, path: str) -> Iterator[FieldError]:
    yield from _range(f"{path}.hardPodAffinityWeight", args.get("hardPodAffinityWeight"), 0, 100)


def _node_affinity(args: Args, path: str) -> Iterator[FieldError]:
    affinity = args.get("addedAffinity")
    if affinity is None:
        return
    here = f"{path}.addedAffinity"
    needed = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if needed is not None and not needed.get("nodeSelectorTerms"):
        field = f"{here}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        yield required(field, "must have at least one node selector term")
    for index, term in enumerate((needed or {}).get("nodeSelectorTerms") or ()):
        yield from term_errors(term, f"{here}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]")
    for index, term in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        weight, path = term.get("weight") or 0, f"{here}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        if not 1 <= weight <= 100:
            yield invalid_value(f"{path}.weight", weight, "must be in the range 1-100")
        if weight:
            yield from term_errors(term.get("preference") or {}, path)


def _balanced_allocation(args: Args, path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, resource in enumerate(args.get("resources") or ()):
        here, name, weight = f"{path}.resources[{index}]", resource.get("name") or "", resource.get("weight", 1)
        if weight != 1:
            yield invalid_value(f"{here}.weight", weight, "must be 1")
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.add(name)


def _resources_fit(args: Args, path: str) -> Iterator[FieldError]:
    for index, name in enumerate(args.get("ignoredResources") or ()):
        for problem in qualified_name(name):
            yield invalid_value(f"{path}.ignoredResources[{index}]", name, problem)
    for index, group in enumerate(args.get("ignoredResourceGroups") or ()):
        if "/" in group:
            yield invalid_value(f"{path}.ignoredResourceGroups[{index}]", group, "resource group name can't contain '/'")
        elif problems := qualified_name(group):
            yield invalid_value(f"{path}.ignoredResourceGroups[{index}]", group, problems[0])
    yield from _scoring_strategy(args.get("scoringStrategy") or {}, f"{path}.scoringStrategy")


def _scoring_strategy(strategy: Args, path: str) -> Iterator[FieldError]:
    kind = strategy.get("type") or STRATEGIES[0]
    if kind not in STRATEGIES:
        yield not_supported(f"{path}.type", kind, STRATEGIES)
    for index, resource in enumerate(strategy.get("resources") or ()):
        name, weight = resource.get("name") or "", resource.get("weight", 1) or 1
        if not 1 <= weight <= 100:
            yield invalid_value(f"{path}.resources[{index}].weight", weight, f"resource weight of {name} not in valid range (0, 100]")
    ratio, here = strategy.get("requestedToCapacityRatio"), f"{path}.requestedToCapacityRatio"
    if kind != RATIO:
        if ratio is not None:
            yield forbidden_field(here, f"must be nil when type is not {RATIO}")
    elif ratio is None:
        yield required(here, f"must be specified when type is {RATIO}")
    else:
        yield from _shape(ratio.get("shape") or (), f"{here}.shape")


def _shape(shape: Sequence[Mapping[str, int]], path: str) -> Iterator[FieldError]:
    if not shape:
        yield required(path, "at least one point must be specified")
    used = [point.get("utilization") or 0 for point in shape]
    falls = next((index for index in range(1, len(used)) if used[index - 1] >= used[index]), 0)
    if falls:
        yield invalid_value(f"{path}[{falls}].utilization", used[falls], "values must be sorted in increasing order")
    for index, point in enumerate(shape):
        yield from _range(f"{path}[{index}].utilization", used[index], 0, 100)
        yield from _range(f"{path}[{index}].score", point.get("score") or 0, 0, 10)


SYSTEM, LIST = "System", "List"
ACTIONS = ("DoNotSchedule", "ScheduleAnyway")


def _topology_spread(args: Args, path: str) -> Iterator[FieldError]:
    defaulting, constraints = args.get("defaultingType") or SYSTEM, args.get("defaultConstraints") or ()
    if defaulting not in (SYSTEM, LIST):
        yield not_supported(f"{path}.defaultingType", defaulting, (LIST, SYSTEM))
    elif defaulting == SYSTEM and constraints:
        yield invalid_value(f"{path}.defaultingType", defaulting, "when .defaultConstraints are not empty")
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        here = f"{path}.defaultConstraints[{index}]"
        yield from _constraint(constraint, here)
        pair = constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
        if pair in seen:
            yield duplicate(here, f"{{{pair[0]}, {pair[1]}}}")
        seen.add(pair)


def _constraint(constraint: Args, path: str) -> Iterator[FieldError]:
    skew, key, action = constraint.get("maxSkew") or 0, constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
    if skew <= 0:
        yield invalid_value(f"{path}.maxSkew", skew, "not in valid range (0, inf)")
    if not key:
        yield required(f"{path}.topologyKey", "can not be empty")
    else:
        for problem in qualified_name(key):
            yield invalid_value(f"{path}.topologyKey", key, problem)
    if not action:
        yield required(f"{path}.whenUnsatisfiable", "can not be empty")
    elif action not in ACTIONS:
        yield not_supported(f"{path}.whenUnsatisfiable", action, ACTIONS)
    if constraint.get("labelSelector") is not None:
        yield forbidden_field(f"{path}.labelSelector", "constraint must not define a selector, as they deduced for each pod")


def _volume_binding(args: Args, path: str) -> Iterator[FieldError]:
    seconds = args.get("bindTimeoutSeconds")
    if seconds is not None and seconds < 0:
        yield invalid_value(f"{path}.bindTimeoutSeconds", seconds, "invalid BindTimeoutSeconds, should not be a negative value")
    if args.get("shape"):
        why = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        yield invalid_value(f"{path}.shape", args["shape"], why)


def _dynamic_resources(args: Args, path: str) -> Iterator[FieldError]:
    binding = args.get("bindingTimeout")
    if binding and float(parse_duration(binding)) < 1:
        yield invalid_value(f"{path}.bindingTimeout", binding, "must be at least 1 second")


VALIDATORS: Mapping[str, Validator] = {
    "DefaultPreemption": _default_preemption, "DynamicResources": _dynamic_resources, "InterPodAffinity": _inter_pod_affinity,
    "NodeAffinity": _node_affinity,
    "NodeResourcesBalancedAllocation": _balanced_allocation, "NodeResourcesFit": _resources_fit,
    "PodTopologySpread": _topology_spread, "VolumeBinding": _volume_binding,
}  # fmt: skip
