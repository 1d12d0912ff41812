"""Which of the groups that could help grows: the expanders of cluster-autoscaler, asked one after the other until one option is left. Pure.

Left out: `price`, which needs the prices of a cloud.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

from .scale_up import Option

PRIORITY_MAP, PRIORITY_KEY = "cluster-autoscaler-priority-expander", "priorities"
Priorities = Mapping[int, Sequence[re.Pattern[str]]]
"""Priority → patterns of the names of groups."""


class PrioritiesError(ValueError):
    """The ConfigMap does not give priorities; the message says what to do."""


def least_waste(options: Sequence[Option]) -> list[Option]:
    """Those that leave the smallest shares of CPU and memory idle."""
    return _fewest(options, lambda option: option.waste)


def most_pods(options: Sequence[Option]) -> list[Option]:
    return _fewest(options, lambda option: -len(option.pods))


def least_nodes(options: Sequence[Option]) -> list[Option]:
    return _fewest(options, lambda option: len(option.rooms))


def _fewest(options: Sequence[Option], measure: Callable[[Option], float]) -> list[Option]:
    least = min(map(measure, options))
    return [option for option in options if measure(option) == least]


FILTERS: Mapping[str, Callable[[Sequence[Option]], list[Option]]] = {
    "least-waste": least_waste, "most-pods": most_pods, "least-nodes": least_nodes, "random": list,
}  # fmt: skip
PRIORITY = "priority"
NAMES = (*FILTERS, PRIORITY)


def choose(options: Sequence[Option], chain: Sequence[str], priorities: Priorities, rng: Random) -> Option:
    """The option of at least one that all of the chain agree on; chance decides between equals."""
    left = list(options)
    for name in chain:
        if len(left) > 1:
            left = by_priority(left, priorities) if name == PRIORITY else FILTERS[name](left)
    return left[0] if len(left) == 1 else rng.choice(left)


def by_priority(options: Sequence[Option], priorities: Priorities) -> list[Option]:
    """The options of the highest priority; all of them if none has any."""
    for _, patterns in sorted(priorities.items(), reverse=True):
        found = [option for option in options if any(pattern.search(option.group.name) for pattern in patterns)]
        if found:
            return found
    return list(options)


def plan_priorities(data: Mapping[str, str] | None) -> Priorities:
    """What the ConfigMap's data says. Raises PrioritiesError."""
    import yaml  # rarely needed

    try:
        raw = yaml.safe_load((data or {}).get(PRIORITY_KEY, ""))
    except yaml.YAMLError as error:
        raise PrioritiesError(f"Can't parse YAML with priorities in the configmap: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, int) and isinstance(value, list) for key, value in raw.items()):
        raise PrioritiesError(f"`{PRIORITY_KEY}` of the ConfigMap {PRIORITY_MAP} must map whole numbers to lists of patterns")
    try:
        return {priority: [re.compile(str(pattern)) for pattern in patterns] for priority, patterns in raw.items()}
    except re.error as error:
        raise PrioritiesError(f"`{PRIORITY_KEY}` of the ConfigMap {PRIORITY_MAP} has a bad pattern: {error}") from error
