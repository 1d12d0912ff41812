"""Which of the groups that could help grows: the expanders of cluster-autoscaler, asked one after the other until one option is left. Pure.

Left out: expanders behind gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .price import price_score
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
PRIORITY, PRICE = "priority", "price"
NAMES = (*FILTERS, PRIORITY, PRICE)
NOT_MATCHED, NONE_MATCHED = "PriorityConfigMapNotMatchedGroup", "PriorityConfigMapNoGroupMatched"


@dataclass
class Chooser:
    """The chain of expanders, and what they go by in one look."""

    chain: Sequence[str]
    rng: Random
    priorities: Priorities | None = None
    """None: there are none that can be used, so that the priority expander lets no group grow."""
    cluster_nodes: int = 0
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """(reason, message) of events on the ConfigMap of the priorities."""

    def __call__(self, options: Sequence[Option]) -> Option | None:
        """The option of at least one that all of the chain agree on; chance decides between equals."""
        left = list(options)
        for name in self.chain:
            left = self._filter(name, left)
            if len(left) <= 1:
                break
        return self.rng.choice(left) if len(left) > 1 else left[0] if left else None

    def _filter(self, name: str, options: list[Option]) -> list[Option]:
        if name == PRIORITY:
            return self._by_priority(options)
        if name == PRICE:
            return _fewest(options, lambda one: price_score(one.group.price, one.rooms, one.pods, self.cluster_nodes))
        return FILTERS[name](options)

    def _by_priority(self, options: list[Option]) -> list[Option]:
        """The options of the highest priority; all of them if none has any."""
        if self.priorities is None:
            return []
        ranks = {option.group.name: rank(option.group.name, self.priorities) for option in options}
        for name in (name for name, known in ranks.items() if known is None):
            message = f"Priority expander: node group {name} not found in priority expander configuration. The group won't be used."
            self.warnings.append((NOT_MATCHED, message))
        highest = max((known for known in ranks.values() if known is not None), default=None)
        if highest is None:
            message = "Priority expander: no priorities info found for any of the expansion options. No options filtered."
            self.warnings.append((NONE_MATCHED, message))
            return options
        return [option for option in options if ranks[option.group.name] == highest]


def rank(group: str, priorities: Priorities) -> int | None:
    """The highest priority that names the group; None if none does."""
    matching = (priority for priority, patterns in priorities.items() if any(pattern.search(group) for pattern in patterns))
    return max(matching, default=None)


def plan_priorities(data: Mapping[str, str] | None) -> Priorities:
    """What the ConfigMap's data says. Raises PrioritiesError."""
    text = (data or {}).get(PRIORITY_KEY)
    if text is None:
        raise PrioritiesError(f"Wrong configmap for priority expander, doesn't contain {PRIORITY_KEY} key. Ignoring update.")
    try:
        return _priorities(text)
    except ValueError as error:
        raise PrioritiesError(f"Wrong configuration for priority expander: {error}. Ignoring update.") from error


def _priorities(text: str) -> Priorities:
    import yaml  # rarely needed

    if not text.strip():
        raise ValueError(f"priority configuration in {PRIORITY_MAP} configmap is empty; please provide valid configuration")
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Can't parse YAML with priorities in the configmap: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, int) and isinstance(value, list) for key, value in raw.items()):
        raise ValueError("Can't parse YAML with priorities in the configmap: expected whole numbers with lists of patterns")
    return {priority: [_pattern(priority, str(one)) for one in patterns] for priority, patterns in raw.items()}


def _pattern(priority: int, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"Can't compile regexp rule for priority {priority} and rule {text}: {error}") from error
