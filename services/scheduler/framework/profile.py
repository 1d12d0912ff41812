"""A profile: the configured plugins of one scheduler name, and the runs of each extension point (framework/runtime)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from ..plugins.noderesources import NodeResourcesFit
from ..queue.hints import HintMap
from ..state.columns import ALL, BoolArray, IntArray, Rows
from ..state.podinfo import PodInfo
from ..state.requests import Requests
from .defaults import ProfileConfig
from .diagnosis import Diagnosis
from .failures import API_FAILURES, BUGS, describe
from .handle import Handle, ResourceFit
from .interface import CycleState, PostFilterResult, QueueSortPlugin
from .pluginset import PluginSet
from .status import Code, Status, error, merge, unresolvable
from .timed import TimedSet


class PointObserver(Protocol):
    """Told how long each extension point took, for metrics."""

    def point(self, profile: str, extension_point: str, status: str, seconds: float) -> None: ...

    def plugin(self, plugin: str, extension_point: str, status: str, seconds: float) -> None: ...


class PluginScores(NamedTuple):
    """What one Score plugin gave, weighted; a single number when all nodes got the same."""

    plugin: str
    scores: IntArray | int


class PreFiltered(NamedTuple):
    """`names`: the only nodes worth a look (None: all), as `narrowing` plugins said."""

    rejection: Status | None
    names: frozenset[str] | None
    narrowing: Sequence[str]


class Profile:
    """Built once from its configuration; StartupError if the configuration will not do."""

    def __init__(self, config: ProfileConfig, handle: Handle, observer: PointObserver) -> None:
        self.name = config.scheduler_name
        self.config = config
        handle = self._handle = replace(handle, framework=self)
        self._observer = observer
        self._set = PluginSet(config, handle)
        self._timed: TimedSet | None = None
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
        """The PreEnqueue plugin that holds the pod back, or empty."""
        return next((plugin.name for plugin in self._set.pre_enqueue if plugin.pre_enqueue(pod) is not None), "")

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
        for plugin in self._of(state).pre_filter:
            self.evaluations[plugin.name, "PreFilter"] += 1
            answer = plugin.pre_filter(state, pod)
            if answer is None:
                continue
            if isinstance(answer, frozenset):
                narrowing.append(plugin.name)
                names = answer if names is None else names & answer
                if not names:
                    return PreFiltered(_none_left(narrowing), names, narrowing)
            elif answer.code is Code.SKIP:
                state.skip_filter.add(plugin.name)
            else:
                return PreFiltered(answer.of(plugin.name), None, narrowing)
        return PreFiltered(None, names, narrowing)

    def run_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis, alive: BoolArray) -> BoolArray:
        """The rows of `alive` that pass every Filter; the first plugin to refuse a node gives the reason."""
        started = self._now()
        for plugin in self._of(state).filter:
            if plugin.name in state.skip_filter:
                continue
            self.evaluations[plugin.name, "Filter"] += 1
            verdict = plugin.filter(state, pod, ALL)
            if verdict is None:
                continue
            refused = np.flatnonzero(alive & ~verdict.ok)
            if len(refused):
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
            result = plugin.post_filter(state, pod, diagnosis)
            if result.status is None or result.status.code is Code.ERROR:
                return result
            statuses.append(result.status.of(plugin.name))
            nominated = result.nominated_node if result.nominated_node is not None else nominated
        return PostFilterResult(nominated, merge(statuses))

    def run_score(self, state: CycleState, pod: PodInfo, rows: Rows, count: int) -> tuple[IntArray, list[PluginScores]]:
        """The total per row, and what each plugin gave (already weighted)."""
        started = self._now()
        for pre in self._of(state).pre_score:
            self.evaluations[pre.name, "PreScore"] += 1
            answer = pre.pre_score(state, pod, rows)
            if answer is not None and answer.code is Code.SKIP:
                state.skip_score.add(pre.name)
        self._observed("PreScore", started)
        started = self._now()
        total: IntArray = np.zeros(count, np.int64)
        parts: list[PluginScores] = []
        for plugin in self._of(state).score:
            if plugin.name in state.skip_score:
                continue
            self.evaluations[plugin.name, "Score"] += 1
            scores = plugin.score(state, pod, rows)
            if isinstance(scores, np.ndarray) and plugin.name in self._set.normalizers:
                scores = self._set.normalizers[plugin.name].normalize_score(state, pod, scores)
            weighted = scores * self._set.weights[plugin.name]
            total += weighted
            parts.append(PluginScores(plugin.name, weighted))
        self._observed("Score", started)
        return total, parts

    def run_reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        started = self._now()
        rejection = None
        for plugin in self._of(state).reserve:
            rejection = plugin.reserve(state, pod, node)
            if rejection is not None:
                rejection = rejection.of(plugin.name)
                break
        self._observed("Reserve", started, rejection)
        return rejection

    def run_unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """In reverse order, as what comes later may lean on what came earlier."""
        for plugin in reversed(self._set.reserve):
            try:
                plugin.unreserve(state, pod, node)
            except BUGS as failed:
                describe(failed)  # the others are to give back what they have all the same

    def run_permit(self, state: CycleState, pod: PodInfo, node: str) -> tuple[Status | None, dict[str, float]]:
        """A rejection, or the plugins that want the pod to wait and for how many seconds at most."""
        started = self._now()
        rejection, waits = None, {}
        for plugin in self._of(state).permit:
            answer, seconds = plugin.permit(state, pod, node)
            if answer is None:
                continue
            if answer.code is not Code.WAIT:
                rejection = answer.of(plugin.name)
                break
            waits[plugin.name] = seconds
        self._observed("Permit", started, rejection)
        return rejection, waits

    # ---- binding cycle

    def has_pre_bind_work(self, state: CycleState, pod: PodInfo) -> bool:
        """Whether any PreBind plugin has something to do for this pod (PreBindPreFlight)."""
        return any(plugin.pre_bind_pre_flight(state, pod) for plugin in self._set.pre_bind)

    async def run_pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        started = self._now()
        answer = None
        for plugin in self._of(state).pre_bind:
            if not plugin.pre_bind_pre_flight(state, pod):
                continue
            try:
                answer = await plugin.pre_bind(state, pod, node)
            except (*API_FAILURES, *BUGS) as failed:
                answer = error(describe(failed))
            if answer is not None:
                answer = error(f'running PreBind plugin "{plugin.name}": {answer.message}').of(plugin.name)
                break
        self._observed("PreBind", started, answer)
        return answer

    async def run_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """The first Bind plugin that does not skip binds."""
        started = self._now()
        answer: Status | None = error("no Bind plugin took the pod")
        for plugin in self._of(state).bind:
            try:
                given = await plugin.bind(state, pod, node)
            except (*API_FAILURES, *BUGS) as failed:
                given = error(f'running Bind plugin "{plugin.name}": {describe(failed)}')
            if given is None or given.code is not Code.SKIP:
                answer = given
                break
        self._observed("Bind", started, answer)
        return answer

    def run_post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        for plugin in self._of(state).post_bind:
            plugin.post_bind(state, pod, node)

    def _of(self, state: CycleState) -> PluginSet | TimedSet:
        """The plugins, or for an attempt that is measured closely their timed stand-ins."""
        if not state.measured:
            return self._set
        if self._timed is None:
            self._timed = TimedSet(self._set, self._now, self._observer.plugin)
        return self._timed

    def _now(self) -> float:
        return self._handle.clock.monotonic()

    def _observed(self, point: str, started: float, status: Status | None = None) -> None:
        self._observer.point(self.name, point, status.code_name if status else "Success", self._now() - started)


def not_considered(narrowing: Iterable[str]) -> Status:
    """For nodes that PreFilter plugins left out."""
    return unresolvable(f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowing))}]")


def _none_left(narrowing: list[str]) -> Status:
    if len(narrowing) == 1:
        return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (f"node(s) didn't satisfy plugin {narrowing[0]}",), narrowing[0])
    text = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowing))}] simultaneously"
    return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, (text,), narrowing[-1])
