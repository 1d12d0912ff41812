"""Victims by plain arithmetic, for preemptors whom nothing but the requests of others keeps from a node.

What was found on a node is remembered for all preemptors of the same priority and requests until something changes on the node: the pods
of one workload, which mostly preempt together, look at hundreds of nodes each and find nearly all of them as they were.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from kubecosm.api.resources import Object

from ..framework.handle import ResourceFit
from ..framework.status import unresolvable
from ..queue.nominator import Nominator
from ..state.columns import BoolArray, IntArray
from ..state.nodes import NodeTable
from ..state.podinfo import PodInfo
from ..state.requests import PODS
from .preemption_choice import Candidate, choose_victims, hopeless_status, importance
from .preemption_memory import UNKNOWN, Found, Judged, Memory

NO_VICTIMS = "No preemption victims found for incoming pod"
KINDS_MAX = 16
"""Kinds of preemptors remembered at once; the least recently seen is forgotten."""



class Kind(NamedTuple):
    """Preemptors that find the same victims everywhere. Budgets come with their versions."""

    priority: int
    requests: tuple[tuple[str, int], ...]
    budgets: tuple[tuple[str, str], ...]


class QuickVictims:
    """The memory of one scheduler."""

    def __init__(self, nodes: NodeTable, nominator: Nominator) -> None:
        self.nodes, self.nominator = nodes, nominator
        self._memories: OrderedDict[Kind, Memory] = OrderedDict()
        self._ranked: dict[int, tuple[int, list[PodInfo]]] = {}

    def for_pod(self, pod: PodInfo, fit: ResourceFit, budgets: Sequence[Object]) -> QuickFit:
        """Ready to judge nodes for this pod."""
        versions = tuple((budget["metadata"].get("uid", ""), budget["metadata"].get("resourceVersion", "")) for budget in budgets)
        kind = Kind(pod.priority, tuple(fit.wanted.items()), versions)
        memory, size = self._memories.get(kind), len(self.nodes.generations)
        if memory is None or len(memory.found) != size:
            memory = self._memories[kind] = Memory(size)
        self._memories.move_to_end(kind)
        if len(self._memories) > KINDS_MAX:
            self._memories.popitem(last=False)
        return QuickFit(self, pod, fit, budgets, memory)

    def lower_on(self, row: int, priority: int) -> list[PodInfo]:
        """The pods of a node with less than `priority`, the most important first."""
        generation = int(self.nodes.generations[row])
        known = self._ranked.get(row)
        if known is None or known[0] != generation:
            known = self._ranked[row] = generation, sorted(self.nodes.pods[row].values(), key=importance)
        ranked = known[1]
        above = sum(pod.priority >= priority for pod in ranked)
        return ranked[above:] if above else ranked


class QuickFit:
    """Judges nodes for one preemptor."""

    def __init__(self, quick: QuickVictims, pod: PodInfo, fit: ResourceFit, budgets: Sequence[Object], memory: Memory) -> None:
        self._quick, self._pod, self._budgets, self.memory = quick, pod, budgets, memory
        nodes = quick.nodes
        self._ok = fit.ok
        self._names = (PODS, *fit.wanted)
        self._wanted = [1, *fit.wanted.values()]
        self._allocatable: list[IntArray] = [nodes.allocatable(name) for name in self._names]
        self._requested: list[IntArray] = [nodes.requested(name) for name in self._names]

    def remembered(self) -> BoolArray:
        """Per row whether what was found there for another such pod holds for this one, too."""
        nodes = self._quick.nodes
        holds: BoolArray = (self.memory.generations == nodes.generations)[: nodes.size] & self._ok
        nominated = [row for node in self._quick.nominator.nodes() if (row := nodes.row_of.get(node)) is not None]
        holds[nominated] = False
        return holds

    def try_node(self, row: int) -> Judged | None:
        """The victims on a node, or why there is no use; None if arithmetic cannot tell."""
        if not self._ok[row]:
            return None
        quick = self._quick
        node = quick.nodes.names[row]
        if not quick.nominator.any_on(node):
            return self._judge(row, ()), int(quick.nodes.generations[row])
        earlier = quick.nominator.before(self._pod, node)
        if any(other.affinity.anti_required for other in earlier):
            return None
        return self._judge(row, earlier), UNKNOWN

    def _judge(self, row: int, earlier: Sequence[PodInfo]) -> Found:
        """`earlier`: pods that are nominated to run there before this one."""
        lower = self._quick.lower_on(row, self._pod.priority)
        if not lower:
            return unresolvable(NO_VICTIMS)
        columns = zip(self._allocatable, self._requested, self._wanted, strict=True)
        room = [allocatable.item(row) - requested.item(row) - wanted for allocatable, requested, wanted in columns]
        for other in earlier:
            room[0] -= 1
            for index, name in enumerate(self._names[1:], 1):
                room[index] -= other.requests.get(name, 0)
        found = choose_victims(row, lower, self._names, room, self._budgets)
        if isinstance(found, Candidate):
            return found
        return hopeless_status(found, self._names, self._wanted, [column.item(row) for column in self._allocatable])
