"""A profile: the configured plugins of one scheduler name, and the runs of each extension point (framework/runtime)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..plugins.noderesources import NodeResourcesFit
from ..queue.hints import HintMap
from ..state.columns import ALL, BoolArray, IntArray, Rows
from ..state.podinfo import PodInfo
from ..state.requests import Requests
from .bindingpoints import BindingPoints, PointObserver
from .defaults import ProfileConfig
from .diagnosis import Diagnosis
from .failures import BUGS, PluginError, describe
from .handle import Handle, ResourceFit
from .interface import SCORE_MAX, CycleState, PostFilterResult, QueueSortPlugin
from .pluginset import PluginSet
from .registry import IN_TREE
from .status import Code, Status, error, merge, unresolvable


class PluginScores(NamedTuple):
    """What one Score plugin gave, weighted; a single number when all nodes got the same."""

    plugin: str
    scores: IntArray | int


class PreFiltered(NamedTuple):
    """`names`: the only nodes worth a look (None: all), as `narrowing` plugins said."""

    rejection: Status | None
    names: frozenset[str] | None
    narrowing: Sequence[str]


class Profile(BindingPoints):
    """Built once from its configuration; StartupError if the configuration will not do."""

    def __init__(self, config: ProfileConfig, handle: Handle, observer: PointObserver) -> None:
        self.name = config.scheduler_name
        self.config = config
        handle = self._handle = replace(handle, framework=self)
        super().__init__(config.scheduler_name, PluginSet(config, handle), handle.clock.monotonic, observer)
        self.plugins = self._set.all
        self.evaluations: defaultdict[tuple[str, str], int] = defaultdict(int)
        """(plugin, extension point) → how often it was asked."""
        self.hints = HintMap(self.plugins.values())

    @property
    def queue_sort(self) -> QueueSortPlugin:
        return self._set.queue_sort

    @property
    def has_post_filter(self) -> bool:
        return bool(self._set.post_filter)

    @property
    def has_scores(self) -> bool:
        return bool(self._set.score)

    # ---- before the cycle

    def gate(self, pod: PodInfo) -> str:
        """The PreEnqueue plugin that holds the pod back, or empty. One that raises holds it, too."""
        for plugin in self._set.pre_enqueue:
            try:
                status = plugin.pre_enqueue(pod)
            except BUGS as failed:
                describe(failed)
                return plugin.name
            if status is not None:
                return plugin.name
        return ""

    def ask_gate(self, plugin: str, pod: PodInfo) -> Status | None:
        """Why this PreEnqueue plugin holds the pod back; None if it does not (any more)."""
        return next((one.pre_enqueue(pod) for one in self._set.pre_enqueue if one.name == plugin), None)

    # ---- scheduling cycle

    def run_pre_filter(self, state: CycleState, pod: PodInfo) -> PreFiltered:
        started = self._now()
        result = self._ask_pre_filter(state, pod)
        self._observed("PreFilter", started, result.rejection)
        return result

    def _ask_pre_filter(self, state: CycleState, pod: PodInfo) -> PreFiltered:
        names: frozenset[str] | None = None
        narrowing: list[str] = []
        rejection: Status | None = None
        for plugin in self._of(state).pre_filter:
            self.evaluations[plugin.name, "PreFilter"] += 1
            try:
                answer = plugin.pre_filter(state, pod)
            except BUGS as failed:
                answer = error(describe(failed))
            if answer is None:
                continue
            if isinstance(answer, frozenset):
                narrowing.append(plugin.name)
                names = answer if names is None else names & answer
                if not names:
                    return PreFiltered(_none_left(narrowing), names, narrowing)
            elif answer.code is Code.SKIP:
                state.skip_filter.add(plugin.name)
            elif answer.code is Code.UNSCHEDULABLE:
                rejection = answer.of(plugin.name)  # preemption may help, and needs what the others prepare
            elif answer.is_rejected:
                return PreFiltered(answer.of(plugin.name), None, narrowing)
            else:
                failure = error(f'running PreFilter plugin "{plugin.name}": {answer.message}')
                return PreFiltered(failure.of(plugin.name), None, narrowing)
        return PreFiltered(rejection, names, narrowing)

    def run_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis, alive: BoolArray) -> BoolArray:
        """The rows of `alive` that pass every Filter; the first plugin to refuse a node gives the reason. PluginError if one fails."""
        started = self._now()
        for plugin in self._of(state).filter:
            if plugin.name in state.skip_filter:
                continue
            self.evaluations[plugin.name, "Filter"] += 1
            try:
                verdict = plugin.filter(state, pod, ALL)
            except BUGS as failed:
                raise self._broken("Filter", started, f'running "{plugin.name}" filter plugin: {describe(failed)}') from failed
            if verdict is None:
                continue
            refused = np.flatnonzero(alive & ~verdict.ok)
            if len(refused):
                if failure := verdict.failure(refused):
                    raise self._broken("Filter", started, f'running "{plugin.name}" filter plugin: {failure.message}')
                diagnosis.refuse(refused, plugin.name, verdict)
                alive = alive & verdict.ok
                if not alive.any():
                    break
        self._observed("Filter", started)
        return alive

    def fits(self, pod: PodInfo, row: int) -> Status | None:
        """Whether the node of `row` would take the pod as things are: the first refusal, None if it would. Not counted in metrics."""
        state = CycleState()
        rejection, names, narrowing = self._ask_pre_filter(state, pod)
        if rejection is not None:
            return rejection
        if names is not None and self._handle.cluster.nodes.names[row] not in names:
            return not_considered(narrowing)
        for plugin in self._set.filter:
            if plugin.name not in state.skip_filter:
                verdict = plugin.filter(state, pod, slice(row, row + 1))
                if verdict is not None and not verdict.ok[0]:
                    return verdict.statuses[0 if verdict.codes is None else int(verdict.codes[0])].of(plugin.name)
        return None

    def fit_by_resources(self, pod: PodInfo) -> ResourceFit | None:
        """The short answer to "what if these pods were gone?" if only their requests make a difference; None if other things may."""
        state = CycleState()
        rejection, names, _ = self._ask_pre_filter(state, pod)
        if rejection is not None or names is not None:
            return None
        ok: BoolArray = self._handle.cluster.nodes.exists
        wanted: Requests | None = None
        for plugin in self._set.filter:
            if plugin.name in state.skip_filter:
                continue
            if isinstance(plugin, NodeResourcesFit):
                if plugin.delegates(pod):
                    return None
                wanted = plugin.checked(pod)
            elif getattr(plugin, "looks_at_pods", True):
                return None
            elif (verdict := plugin.filter(state, pod, ALL)) is not None:
                ok = ok & verdict.ok
        return None if wanted is None else ResourceFit(ok, wanted)

    def run_post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        """The first plugin that can help decides; else all their reasons together."""
        started = self._now()
        result = self._ask_post_filter(state, pod, diagnosis)
        self._observed("PostFilter", started, result.status)
        return result

    def _ask_post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        statuses: list[Status] = []
        nominated: str | None = None
        for plugin in self._of(state).post_filter:
            try:
                result = plugin.post_filter(state, pod, diagnosis)
            except BUGS as failed:
                result = PostFilterResult(None, error(describe(failed)))
            if result.status is None:
                return result
            if result.status.code is Code.UNSCHEDULABLE_AND_UNRESOLVABLE:
                return replace(result, status=result.status.of(plugin.name))
            if not result.status.is_rejected:
                return PostFilterResult(None, error(result.status.message).of(plugin.name))
            statuses.append(result.status.of(plugin.name))
            nominated = result.nominated_node if result.nominated_node is not None else nominated
        return PostFilterResult(nominated, merge(statuses))

    def run_score(self, state: CycleState, pod: PodInfo, rows: Rows, count: int) -> tuple[IntArray, list[PluginScores]]:
        """The total per row, and what each plugin gave (already weighted). PluginError if one fails."""
        self._run_pre_score(state, pod, rows)
        started = self._now()
        total: IntArray = np.zeros(count, np.int64)
        parts: list[PluginScores] = []
        for plugin in self._of(state).score:
            if plugin.name in state.skip_score:
                continue
            self.evaluations[plugin.name, "Score"] += 1
            try:
                scores = plugin.score(state, pod, rows)
                if isinstance(scores, np.ndarray) and plugin.name in self._set.normalizers:
                    scores = self._set.normalizers[plugin.name].normalize_score(state, pod, scores)
            except BUGS as failed:
                why = f'running Score plugins: plugin "{plugin.name}" failed with: {describe(failed)}'
                raise self._broken("Score", started, why) from failed
            if plugin.name not in IN_TREE and (wrong := out_of_range(scores)) is not None:
                why = f'plugin "{plugin.name}" returns an invalid score {wrong}, it should in the range of [0, {SCORE_MAX}]'
                raise self._broken("Score", started, f"applying score defaultWeights on Score plugins: {why} after normalizing")
            weighted = scores * self._set.weights[plugin.name]
            total += weighted
            parts.append(PluginScores(plugin.name, weighted))
        self._observed("Score", started)
        return total, parts


    def _run_pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> None:
        started = self._now()
        for plugin in self._of(state).pre_score:
            self.evaluations[plugin.name, "PreScore"] += 1
            try:
                answer = plugin.pre_score(state, pod, rows)
            except BUGS as failed:
                answer = error(describe(failed))
            if answer is None:
                continue
            if answer.code is not Code.SKIP:
                raise self._broken("PreScore", started, f'running PreScore plugin "{plugin.name}": {answer.message}')
            state.skip_score.add(plugin.name)
        self._observed("PreScore", started)

    def _broken(self, point: str, started: float, why: str) -> PluginError:
        self._observed(point, started, error(why))
        return PluginError(why)


def out_of_range(scores: IntArray | int) -> int | None:
    """A score outside of 0 … SCORE_MAX, None if there is none."""
    array = np.atleast_1d(scores)
    wrong = array[(array < 0) | (array > SCORE_MAX)]
    return int(wrong[0]) if len(wrong) else None


def not_considered(narrowing: Iterable[str]) -> Status:
    """For nodes that PreFilter plugins left out."""
    return unresolvable(f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowing))}]")


def _none_left(narrowing: list[str]) -> Status:
    if len(narrowing) == 1:
        return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (f"node(s) didn't satisfy plugin {narrowing[0]}",), narrowing[0])
    text = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowing))}] simultaneously"
    return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (text,), narrowing[-1])
