"""The extension points after the decision for a node: Reserve, Permit, PreBind, Bind, PostBind (framework/runtime).

A plugin that fails, by an error status or by raising, makes the attempt an error, in kube-scheduler's words for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..state.podinfo import PodInfo
from .failures import API_FAILURES, BUGS, describe
from .interface import CycleState
from .pluginset import PluginSet
from .status import Code, Status, error
from .timed import TimedSet

PERMIT_SECONDS_MAX = 15 * 60.0
"""A Permit plugin may not hold a pod for longer."""


class PointObserver(Protocol):
    """Told how long each extension point took, for metrics."""

    def point(self, profile: str, extension_point: str, status: str, seconds: float) -> None: ...

    def plugin(self, plugin: str, extension_point: str, status: str, seconds: float) -> None: ...


class BindingPoints:
    """The part of a profile that runs them; `now` are monotonic seconds."""

    def __init__(self, name: str, plugins: PluginSet, now: Callable[[], float], observer: PointObserver) -> None:
        self.name = name
        self._set = plugins
        self._now = now
        self._observer = observer
        self._timed: TimedSet | None = None

    def run_reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        started = self._now()
        rejection = None
        for plugin in self._of(state).reserve:
            try:
                answer = plugin.reserve(state, pod, node)
            except BUGS as failed:
                answer = error(describe(failed))
            if answer is not None:
                rejection = _named("Reserve", plugin.name, answer)
                break
        self._observed("Reserve", started, rejection)
        return rejection

    def run_unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """In reverse order, as what comes later may lean on what came earlier."""
        started = self._now()
        for plugin in reversed(self._set.reserve):
            try:
                plugin.unreserve(state, pod, node)
            except BUGS as failed:
                describe(failed)  # the others are to give back what they have all the same
        self._observed("Unreserve", started)

    def run_permit(self, state: CycleState, pod: PodInfo, node: str) -> tuple[Status | None, dict[str, float]]:
        """A rejection, or the plugins that want the pod to wait and for how many seconds at most."""
        started = self._now()
        rejection, waits = None, {}
        for plugin in self._of(state).permit:
            seconds = 0.0
            answer: Status | None
            try:
                answer, seconds = plugin.permit(state, pod, node)
            except BUGS as failed:
                answer = error(describe(failed))
            if answer is None:
                continue
            if answer.code is not Code.WAIT:
                rejection = _named("Permit", plugin.name, answer)
                break
            waits[plugin.name] = min(seconds, PERMIT_SECONDS_MAX)
        told = rejection.code_name if rejection is not None else "Wait" if waits else "Success"
        self._observer.point(self.name, "Permit", told, self._now() - started)
        return rejection, waits

    def has_pre_bind_work(self, state: CycleState, pod: PodInfo) -> bool | Status:
        """Whether any PreBind plugin has something to do for this pod (PreBindPreFlight), or the error of one that cannot say."""
        needed = False
        for plugin in self._set.pre_bind:
            try:
                needed = bool(plugin.pre_bind_pre_flight(state, pod)) or needed
            except BUGS as failed:
                return _named("PreBindPreFlight", plugin.name, error(describe(failed)))
        return needed

    async def run_pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        started = self._now()
        answer = None
        for plugin in self._of(state).pre_bind:
            try:
                if plugin.pre_bind_pre_flight(state, pod):
                    answer = await plugin.pre_bind(state, pod, node)
            except (*API_FAILURES, *BUGS) as failed:
                answer = error(describe(failed))
            if answer is not None:
                answer = _named("PreBind", plugin.name, answer)
                break
        self._observed("PreBind", started, answer)
        return answer

    def without_pre_bind(self) -> None:
        """No plugin has anything to prepare, which is told as well."""
        self._observer.point(self.name, "PreBind", "Success", 0.0)

    async def run_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """The first Bind plugin that does not skip binds."""
        started = self._now()
        answer: Status | None = error("no Bind plugin took the pod")
        for plugin in self._of(state).bind:
            try:
                given = await plugin.bind(state, pod, node)
            except (*API_FAILURES, *BUGS) as failed:
                given = error(describe(failed))
            if given is None or given.code is not Code.SKIP:
                answer = given if given is None else _named("Bind", plugin.name, given)
                break
        self._observed("Bind", started, answer)
        return answer

    def run_post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """The pod is bound, whatever a plugin makes of it."""
        started = self._now()
        for plugin in self._of(state).post_bind:
            try:
                plugin.post_bind(state, pod, node)
            except BUGS as failed:
                describe(failed)
        self._observed("PostBind", started)

    def _of(self, state: CycleState) -> PluginSet | TimedSet:
        """The plugins, or for an attempt that is measured closely their timed stand-ins."""
        if not state.measured:
            return self._set
        if self._timed is None:
            self._timed = TimedSet(self._set, self._now, self._observer.plugin)
        return self._timed

    def _observed(self, point: str, started: float, status: Status | None = None) -> None:
        self._observer.point(self.name, point, status.code_name if status else "Success", self._now() - started)


def _named(point: str, plugin: str, status: Status) -> Status:
    """A rejection as the plugin gave it; anything else is an error of that plugin."""
    if status.is_rejected:
        return status.of(plugin)
    return error(f'running {point} plugin "{plugin}": {status.message}').of(plugin)
