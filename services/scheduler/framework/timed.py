"""Stand-ins for plugins that tell how long each call took. Used in some attempts only, so that the others pay nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from .interface import Plugin
from .pluginset import PluginSet
from .status import Status

P = TypeVar("P", bound=Plugin)
Clock = Callable[[], float]
Observe = Callable[[str, str, str, float], None]
"""(plugin, extension point, status, seconds)"""


class Timed:
    """Has the plugin's name and one method of it; other attributes are the plugin's own."""

    def __init__(self, plugin: Plugin, method: str, point: str, now: Clock, observe: Observe) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._point, self._now, self._observe = point, now, observe
        original = getattr(plugin, method)
        setattr(self, method, self._waiting(original) if method in ("pre_bind", "bind") else self._calling(original))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plugin, name)

    def _calling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = self._now()
            answer = original(*arguments)
            self._done(answer, started)
            return answer

        return call

    def _waiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            started = self._now()
            answer = await original(*arguments)
            self._done(answer, started)
            return answer

        return call

    def _done(self, answer: Any, started: float) -> None:
        status = answer.code_name if isinstance(answer, Status) else "Success"
        self._observe(self.name, self._point, status, self._now() - started)


class TimedSet:
    """The lists of a PluginSet, timed."""

    def __init__(self, plugins: PluginSet, now: Clock, observe: Observe) -> None:
        def timed(chosen: Sequence[P], method: str, point: str) -> list[P]:
            return [cast(P, Timed(plugin, method, point, now, observe)) for plugin in chosen]

        self.pre_filter = timed(plugins.pre_filter, "pre_filter", "PreFilter")
        self.filter = timed(plugins.filter, "filter", "Filter")
        self.post_filter = timed(plugins.post_filter, "post_filter", "PostFilter")
        self.pre_score = timed(plugins.pre_score, "pre_score", "PreScore")
        self.score = timed(plugins.score, "score", "Score")
        self.reserve = timed(plugins.reserve, "reserve", "Reserve")
        self.permit = timed(plugins.permit, "permit", "Permit")
        self.pre_bind = timed(plugins.pre_bind, "pre_bind", "PreBind")
        self.bind = timed(plugins.bind, "bind", "Bind")
        self.post_bind = timed(plugins.post_bind, "post_bind", "PostBind")
