"""Shutting a node down and switching it on again. A simulated node has no init system to tell its kubelet: the kubelet's API does.

Imitates pkg/kubelet/nodeshutdown: the node says that it is not ready, refuses new pods, ends those it has in groups by priority, the least
important first, each within its period; then it is off. Without any period it goes off at once, as by a loss of power: its pods are told
nothing, and the API server hears no more of it. Switching a node on while it shuts down calls that off: pods that were told to end do,
those whose turn had not come live on (a real kubelet would hear of it only after it had ended them all).
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import NamedTuple, Protocol

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .events import NORMAL, Told
from .objects import boot_id
from .power import Power, Powers

SYSTEM_CRITICAL_PRIORITY = 2 * 10**9
REASON, MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."

log = get_logger("kubelet")


class Period(NamedTuple):
    """The time that pods of this priority and above (up to the next period's) get."""

    priority: int
    seconds: int


class Pods(Protocol):
    """What happens to the pods of a node; the kubelet's PodManager."""

    def active(self, node: str) -> list[Object]:
        """The pods that run or are to run."""

    async def end(self, pods: Sequence[Object], seconds: int, reason: str, message: str) -> None:
        """End these pods within so many seconds, or less if they ask for less; return when all have ended."""

    def switch_off(self, node: str) -> None:
        """Nothing of this node's pods runs any more, and nobody is told."""

    def switch_on(self, node: str) -> None:
        """Run what is bound to the node."""


def plan_periods(grace_seconds: float, critical_seconds: float, by_priority: Iterable[str]) -> list[Period]:
    """The periods that the flags ask for, least priority first; none: nodes go off at once. StartupError for flags that make no sense."""
    periods = sorted(_parse_period(text) for text in by_priority)
    if critical_seconds > grace_seconds:
        raise StartupError("--shutdown-grace-period must be >= --shutdown-grace-period-critical-pods, of which it is the whole")
    if periods or not grace_seconds:
        return periods
    return [Period(0, int(grace_seconds - critical_seconds)), Period(SYSTEM_CRITICAL_PRIORITY, int(critical_seconds))]


def _parse_period(text: str) -> Period:
    priority, equals, seconds = text.partition("=")
    try:
        found = Period(int(priority), int(seconds))
    except ValueError:
        equals = ""
    if not equals or found.seconds < 0:
        raise StartupError(f"--shutdown-grace-period-by-pod-priority {text!r}: expected PRIORITY=SECONDS")
    return found


def plan_groups(periods: Sequence[Period], pods: Iterable[Object]) -> list[tuple[Period, list[Object]]]:
    """The pods of each period, in the order in which they are ended; periods without pods are left out."""
    starts = [period.priority for period in periods]
    groups: list[list[Object]] = [[] for _ in periods]
    for pod in pods:
        groups[max(0, bisect.bisect_right(starts, pod["spec"].get("priority") or 0) - 1)].append(pod)
    return [(period, members) for period, members in zip(periods, groups, strict=True) if members]


class _Going(NamedTuple):
    """A node on its way down."""

    ending: asyncio.Task[None]
    telling: asyncio.Task[None]


class NodeShutdown:
    """Does it, for all nodes of the process; `begin` and `switch_on` return at once with what is to be told to who asked."""

    def __init__(
        self, powers: Powers, pods: Pods, clock: Clock, tasks: asyncio.TaskGroup, periods: Sequence[Period], *,
        tell: Callable[[str, Told], None], start: Callable[[str, str], Awaitable[None]], post: Callable[[str], Coroutine[None, None, None]],
    ) -> None:  # fmt: skip
        """`tell` takes events of nodes; `start` registers a node (by name) that runs anew, with a boot id; `post` writes its conditions."""
        self._powers, self._pods, self._clock, self._post = powers, pods, clock, post
        self._tasks, self._periods = tasks, periods
        self._tell, self._start = tell, start
        self._going: dict[str, _Going] = {}

    def begin(self, node: str, *, at_once: bool) -> str:
        """Shut the node down: gracefully, or `at_once` as if the power had gone."""
        power = self._powers.of(node)
        if power is Power.OFF or (power is Power.SHUTTING_DOWN and not at_once):
            return f"node {node} is {power.value} already"
        if at_once or not self._periods:
            self._switch_off(node)
            return f"node {node} is off"
        self._powers.put(node, Power.SHUTTING_DOWN)
        self._tell(node, Told(NORMAL, "NodeShutdown", "Shutdown manager detected shutdown event"))
        telling = self._tasks.create_task(self._post(node), name="node-status")
        self._going[node] = _Going(self._tasks.create_task(self._shut_down(node, telling), name="node-shutdown"), telling)
        return f"node {node} is shutting down; its pods have up to {sum(period.seconds for period in self._periods)} s"

    def switch_on(self, node: str) -> str:
        """Start the node, or call its shutdown off."""
        if self._powers.of(node) is Power.ON:
            return f"node {node} is on already"
        if self._powers.of(node) is Power.SHUTTING_DOWN:
            going = self._going.pop(node)
            going.ending.cancel()
            self._powers.put(node, Power.ON)
            self._tell(node, Told(NORMAL, "NodeShutdown", "Shutdown manager detected shutdown cancellation"))
            self._tasks.create_task(self._tell_ready(node, going.telling), name="node-status")
            return f"the shutdown of node {node} is called off; pods that were told to end do"
        self._powers.put(node, Power.ON)
        self._pods.switch_on(node)
        self._tasks.create_task(self._start_anew(node), name="node-start")
        return f"node {node} starts"

    def _switch_off(self, node: str) -> None:
        going = self._going.pop(node, None)
        if going is not None and going.ending is not asyncio.current_task():
            going.ending.cancel()
        self._powers.put(node, Power.OFF)
        self._pods.switch_off(node)
        log.info("node is off", node=node)

    async def _shut_down(self, node: str, telling: asyncio.Task[None]) -> None:
        for period, pods in plan_groups(self._periods, self._pods.active(node)):
            try:
                async with asyncio.timeout(period.seconds):
                    await self._pods.end(pods, period.seconds, REASON, MESSAGE)
            except TimeoutError:
                log.info("pods have not ended in time", node=node, priority=period.priority, seconds=period.seconds)
        await asyncio.wait((telling,))
        self._switch_off(node)

    async def _tell_ready(self, node: str, telling: asyncio.Task[None]) -> None:
        await asyncio.wait((telling,))  # or the older news might be written last
        await self._post(node)

    async def _start_anew(self, node: str) -> None:
        await self._start(node, boot_id(node, self._clock.now()))
