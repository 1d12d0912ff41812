"""One scheduling cycle as a function of the cluster state: which node a pod gets, or why none (schedule_one.go's schedulePod).

Everything here is synchronous and touches no API, so benchmarks and tests run it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .framework.diagnosis import Diagnosis
from .framework.failures import PluginError
from .framework.handle import Handle
from .framework.interface import CycleState
from .framework.profile import PluginScores, Profile, not_considered
from .framework.status import Status
from .state.columns import ALL, BoolArray, IntArray, Rows
from .state.nodeorder import NodeOrder
from .state.podinfo import PodInfo

FEASIBLE_NODES_MIN = 100
"""With a percentage of nodes to score, at least so many are looked for (minFeasibleNodesToFind)."""
FEASIBLE_PERCENT_MIN = 5


@dataclass(slots=True)
class Outcome:
    """What a cycle found. `node` is empty if no node fits; then `diagnosis` says why."""

    diagnosis: Diagnosis
    node: str = ""
    feasible: IntArray | None = None
    """Rows of the nodes that fit."""
    scores: tuple[PluginScores, ...] = ()
    total: IntArray | None = None


class Algorithm:
    """Finds nodes for pods of any profile."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._cluster = handle.cluster
        self._order = NodeOrder(self._cluster.nodes)
        self._start = 0
        """Where in that order the next search begins (nextStartNodeIndex)."""
        self.extenders_filter = False
        """An extender may refuse nodes, so more than one is needed even where nothing scores them."""

    def schedule(self, profile: Profile, state: CycleState, pod: PodInfo) -> Outcome:
        """Filter, score, choose. The cluster must have a node. PluginError if a plugin fails."""
        diagnosis, feasible = self.find_feasible(profile, state, pod)
        return self.choose(profile, state, pod, diagnosis, feasible)

    def find_feasible(
        self, profile: Profile, state: CycleState, pod: PodInfo, *, nominated_first: bool = True
    ) -> tuple[Diagnosis, IntArray]:  # fmt: skip
        """The rows of nodes that fit, and why the others do not. PluginError if a plugin fails.

        A node that the pod is nominated for is the only one if it fits, unless not `nominated_first`.
        """
        nodes = self._cluster.nodes
        diagnosis = Diagnosis(nodes.exists.copy(), nodes.names_now)
        return diagnosis, self._find_feasible(profile, state, pod, diagnosis, nominated_first)

    def choose(self, profile: Profile, state: CycleState, pod: PodInfo, diagnosis: Diagnosis, feasible: IntArray) -> Outcome:
        """Score the feasible nodes and take the best."""
        nodes = self._cluster.nodes
        if not len(feasible):
            return Outcome(diagnosis)
        if len(feasible) == 1:
            return Outcome(diagnosis, nodes.names[int(feasible[0])], feasible)
        rows: Rows = ALL if len(feasible) == nodes.size else feasible
        total, scores = profile.run_score(state, pod, rows, len(feasible))
        chosen = self.select(total)
        return Outcome(diagnosis, nodes.names[int(feasible[chosen])], feasible, tuple(scores), total)

    def select(self, total: IntArray) -> int:
        """Index of a node with the highest total; chance decides between equals (selectHost)."""
        best = np.flatnonzero(total == total.max())
        return int(best[0]) if len(best) == 1 else int(best[self._handle.random.randrange(len(best))])

    def _find_feasible(
        self, profile: Profile, state: CycleState, pod: PodInfo, diagnosis: Diagnosis, nominated_first: bool
    ) -> IntArray:  # fmt: skip
        """Rows that pass all filters (findNodesThatFitPod)."""
        rejection, names, narrowing = profile.run_pre_filter(state, pod)
        if rejection is not None:
            if not rejection.is_rejected:
                raise PluginError(rejection.message)
            diagnosis.refuse_all(rejection)
            return np.empty(0, np.int64)
        nominated = self._nominated_row(pod) if nominated_first else None
        if nominated is not None and self._fits_with_nominated(profile, pod, nominated) is None:
            return np.array([nominated])
        alive, considered = diagnosis.exists, self._cluster.nodes.count
        if names is not None:
            alive = self._rows_named(names)
            considered = int(np.count_nonzero(alive))
            diagnosis.refuse_rest(diagnosis.exists & ~alive, not_considered(narrowing))
            for plugin in narrowing:
                diagnosis.unschedulable_plugins.add(plugin)
        alive = profile.run_filter(state, pod, diagnosis, alive)
        if len(self._handle.nominator) and alive.any():
            alive = self._leave_room_for_nominated(profile, pod, diagnosis, alive)
        return self._sample(profile, alive, considered)

    def _rows_named(self, names: frozenset[str]) -> BoolArray:
        mask = np.zeros(self._cluster.nodes.size, np.bool_)
        mask[[row for name in names if (row := self._cluster.nodes.row_of.get(name)) is not None]] = True
        return mask

    # ---- nominated pods

    def _nominated_row(self, pod: PodInfo) -> int | None:
        """The node that victims were removed from for this very pod: it is tried first."""
        name = self._handle.nominator.node_of(pod.uid) or pod.nominated_node
        return self._cluster.nodes.row_of.get(name) if name else None

    def _fits_with_nominated(self, profile: Profile, pod: PodInfo, row: int) -> Status | None:
        """`fits` with and without the pods nominated there that go first (RunFilterPluginsWithNominatedPods)."""
        node = self._cluster.nodes.names[row]
        earlier = self._handle.nominator.before(pod, node)
        if earlier:
            with self._cluster.with_extra(row, earlier):
                refusal = profile.fits(pod, row)
            if refusal is not None:
                return refusal
        return profile.fits(pod, row)

    def _leave_room_for_nominated(self, profile: Profile, pod: PodInfo, diagnosis: Diagnosis, alive: BoolArray) -> BoolArray:
        """Refuse nodes that would not fit the pod beside those nominated there before it."""
        nominator, row_of = self._handle.nominator, self._cluster.nodes.row_of
        for node in nominator.nodes():
            row = row_of.get(node)
            if row is None or not alive[row]:
                continue
            earlier = nominator.before(pod, node)
            if not earlier:
                continue
            with self._cluster.with_extra(row, earlier):
                refusal = profile.fits(pod, row)
            if refusal is not None:
                alive = alive.copy()
                alive[row] = False
                diagnosis.refuse_row(row, refusal)
        return alive

    # ---- sampling

    def _sample(self, profile: Profile, alive: BoolArray, considered: int) -> IntArray:
        """A share of the nodes that fit, going round so that all get their turn (percentageOfNodesToScore).

        `considered`: how many nodes PreFilter plugins left to look at.
        """
        wanted = nodes_to_find(profile.config.percentage_of_nodes_to_score, considered)
        if not profile.has_scores and not self.extenders_filter:
            wanted = 1
        order = self._order.rows() if wanted < np.count_nonzero(alive) else None
        turns = np.flatnonzero(alive if order is None else alive[order])
        if wanted >= len(turns):
            return turns
        first = int(np.searchsorted(turns, self._start))
        chosen: IntArray = np.take(turns, np.arange(first, first + wanted), mode="wrap")
        self._start = int(turns[(first + wanted) % len(turns)])
        return np.sort(chosen if order is None else order[chosen])


def nodes_to_find(percentage: int, node_count: int) -> int:
    """How many feasible nodes are enough; percentage 0 means fewer per cent the more nodes there are (numFeasibleNodesToFind)."""
    if node_count < FEASIBLE_NODES_MIN or percentage >= 100:
        return node_count
    if percentage == 0:
        percentage = max(50 - node_count // 125, FEASIBLE_PERCENT_MIN)
    return max(node_count * percentage // 100, FEASIBLE_NODES_MIN)
