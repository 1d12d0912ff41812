"""Which plugins want to hear of which events: decides whether an event is worth another try for a rejected pod."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Any

from ..framework.events import Action, ClusterEvent, EventResource, Hint, HintedEvent
from ..framework.failures import BUGS, describe
from ..framework.interface import (
    EnqueueExtensions,
    FilterPlugin,
    PermitPlugin,
    Plugin,
    PreEnqueuePlugin,
    PreFilterPlugin,
    ReservePlugin,
)
from ..framework.status import EXTENDER
from .podqueue import QueuedPod

QUEUE, QUEUE_SKIP, ERROR = "Queue", "QueueSkip", "Error"
HintObserver = Callable[[str, str, str, float], None]
"""(plugin, label of the event, answer, seconds)"""


class Worth(Enum):
    """What an event makes of a rejected pod."""

    NOTHING = "nothing"
    AFTER_BACKOFF = "after back-off"
    AT_ONCE = "at once"


POD_RESOURCES = (EventResource.ASSIGNED_POD, EventResource.UNSCHEDULED_POD, EventResource.WILDCARD)
REJECTING = (PreEnqueuePlugin, PreFilterPlugin, FilterPlugin, ReservePlugin, PermitPlugin)
ALL_EVENTS = HintedEvent(ClusterEvent(EventResource.WILDCARD, Action.ALL))


class HintMap:
    """The registered events of one profile."""

    def __init__(self, plugins: Collection[Plugin]) -> None:
        self._events: dict[str, tuple[HintedEvent, ...]] = {}
        for plugin in plugins:
            registered = plugin.events_to_register() if isinstance(plugin, EnqueueExtensions) else (ALL_EVENTS,)
            self._events[plugin.name] = tuple(registered)
        self.any_update_matters = any(_hears_of_updates(self._events[plugin.name]) for plugin in plugins if isinstance(plugin, REJECTING))
        """Whether a plugin that may reject pods wants to hear of updates of pods that change nothing in particular."""
        self._events[EXTENDER] = (ALL_EVENTS,)
        self._interested: dict[tuple[EventResource, int], Mapping[str, list[Hint | None]]] = {}
        self._now: Callable[[], float] = lambda: 0.0
        self._observe: HintObserver = lambda plugin, event, answer, seconds: None

    def observe_with(self, now: Callable[[], float], observe: HintObserver) -> None:
        """Tell how long each hint takes, for metrics."""
        self._now, self._observe = now, observe

    def hints_for(self, event: ClusterEvent) -> Mapping[str, list[Hint | None]]:
        """Plugin → its hints for this event."""
        key = (event.resource, int(event.action))
        found = self._interested.get(key)
        if found is None:
            collected: dict[str, list[Hint | None]] = defaultdict(list)
            for plugin, registered in self._events.items():
                for hinted in registered:
                    if hinted.event.concerns(event):
                        collected[plugin].append(hinted.hint)
            found = self._interested[key] = dict(collected)
        return found

    def registered(self, plugin: str) -> list[ClusterEvent]:
        """The events that a plugin wants to hear of."""
        return [hinted.event for hinted in self._events.get(plugin, ())]

    def may_help(self, rejectors: frozenset[str], event: ClusterEvent) -> bool:
        """Whether any of these plugins registered for the event at all."""
        return not rejectors or event.resource is EventResource.WILDCARD or not rejectors.isdisjoint(self.hints_for(event))

    def worth(self, pod: QueuedPod, event: ClusterEvent, old: Any, new: Any) -> Worth:
        """Whether the event may make the pod schedulable (isPodWorthRequeuing). Plugins not known here are asked nothing."""
        if not pod.rejectors or event.resource is EventResource.WILDCARD:
            return Worth.AFTER_BACKOFF
        hints = self.hints_for(event)
        best = Worth.NOTHING
        for plugin in pod.rejectors:
            for hint in hints.get(plugin, ()):
                if hint is None or self._ask(plugin, hint, pod, event, old, new):
                    if plugin in pod.pending_plugins:
                        return Worth.AT_ONCE
                    best = Worth.AFTER_BACKOFF
                    break
        return best

    def _ask(self, plugin: str, hint: Hint, pod: QueuedPod, event: ClusterEvent, old: Any, new: Any) -> bool:
        """What the hint says; one that fails is taken for a yes, so that no pod is forgotten."""
        started = self._now()
        try:
            answer = hint(pod.info, old, new)
            told = QUEUE if answer else QUEUE_SKIP
        except BUGS as failed:
            describe(failed)
            answer, told = True, ERROR
        self._observe(plugin, event.label, told, self._now() - started)
        return answer


def _hears_of_updates(events: Iterable[HintedEvent]) -> bool:
    """Of a pod, and of updates as such."""
    return any(one.event.resource in POD_RESOURCES and one.event.action & Action.UPDATE_OTHER for one in events)
