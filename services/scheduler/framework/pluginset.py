"""The plugins of one profile, made and sorted by extension point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from kubecosm.runtime.errors import StartupError

from .defaults import ProfileConfig
from .handle import Handle
from .interface import (
    EXTENSION_POINTS,
    BindPlugin,
    FilterPlugin,
    NormalizeScorePlugin,
    PermitPlugin,
    Plugin,
    PostBindPlugin,
    PostFilterPlugin,
    PreBindPlugin,
    PreEnqueuePlugin,
    PreFilterPlugin,
    PreScorePlugin,
    QueueSortPlugin,
    ReservePlugin,
    ScorePlugin,
)
from .registry import factory_of

P = TypeVar("P")
PARTS = (("reserve", "unreserve"), ("pre_bind", "pre_bind_pre_flight"))
"""Methods that a plugin has both, or neither."""


class PluginSet:
    """One list per extension point, in the order of the configuration. StartupError if a plugin is unknown, misconfigured, or missing."""

    def __init__(self, config: ProfileConfig, handle: Handle) -> None:
        self._config = config
        names = {*config.plugins, *(name for enabled in config.points.values() for name in enabled)}
        order = [*config.plugins, *sorted(names - set(config.plugins))]
        self.all: dict[str, Plugin] = {name: _make(name, handle, config) for name in order}
        self.pre_enqueue = self._at("preEnqueue", PreEnqueuePlugin)
        self.queue_sort = self._only("queueSort", QueueSortPlugin)
        self.pre_filter = self._at("preFilter", PreFilterPlugin)
        self.filter = self._at("filter", FilterPlugin)
        self.post_filter = self._at("postFilter", PostFilterPlugin)
        self.pre_score = self._at("preScore", PreScorePlugin)
        self.score = self._at("score", ScorePlugin)
        self.reserve = self._at("reserve", ReservePlugin)
        self.permit = self._at("permit", PermitPlugin)
        self.pre_bind = self._at("preBind", PreBindPlugin)
        self.bind = self._at("bind", BindPlugin)
        self.post_bind = self._at("postBind", PostBindPlugin)
        self.normalizers = {plugin.name: plugin for plugin in self.score if isinstance(plugin, NormalizeScorePlugin)}
        weights = {**config.plugins, **config.points.get("score", {})}
        self.weights = {name: weight or 1 for name, weight in weights.items()}
        if not self.bind:
            raise StartupError(f"profile {config.scheduler_name}: at least one bind plugin is needed")

    def _at(self, point: str, protocol: Callable[..., P]) -> list[P]:
        """The plugins that are enabled at a point and extend it; `protocol` is what the point's plugins are typed as."""
        enabled = self._config.points.get(point, self._config.plugins)
        for name in self._config.explicit.get(point, ()):
            if not isinstance(self.all[name], EXTENSION_POINTS[point]):
                extended = f"{point[0].upper()}{point[1:]}Plugin"
                raise StartupError(f'profile {self._config.scheduler_name}: plugin "{name}" does not extend {extended} plugin')
        return [cast(P, self.all[name]) for name in enabled if isinstance(self.all[name], EXTENSION_POINTS[point])]

    def _only(self, point: str, protocol: Callable[..., P]) -> P:
        found = self._at(point, protocol)
        if len(found) != 1:
            names = ", ".join(getattr(plugin, "name", "") for plugin in found) or "none"
            raise StartupError(f"profile {self._config.scheduler_name}: exactly one {point} plugin is needed, not {names}")
        return found[0]


def _make(name: str, handle: Handle, config: ProfileConfig) -> Plugin:
    """A plugin with its arguments; StartupError if it does not like them."""
    factory = factory_of(name)
    try:
        plugin = factory(handle, config.args.get(name, {}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"{error.__class__.__name__} {error}" if isinstance(error, KeyError) else str(error)
        raise StartupError(f"profile {config.scheduler_name}: plugin {name} cannot be used as configured: {why}") from error
    for parts in PARTS:
        missing = [part for part in parts if not hasattr(plugin, part)]
        if len(missing) == 1:
            there = next(part for part in parts if part not in missing)
            raise StartupError(f"profile {config.scheduler_name}: plugin {name} has {there}, which needs {missing[0]} beside it")
    return plugin
