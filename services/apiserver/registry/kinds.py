"""Which strategy answers for which resource: one table. A kind's module is imported when its strategy is first asked for."""

from __future__ import annotations

from importlib import import_module

from kubecosm.api.resources import BUILTIN, Resource

from .strategy import Factory, Strategy, register, strategy_for

__all__ = ["STRATEGIES", "register_all", "strategy_for"]

STRATEGIES: dict[tuple[str, str], str] = {
    ("", "pods"): "core.pod:PodStrategy",
    ("", "pods/status"): "core.pod:PodStatusStrategy",
    ("", "pods/ephemeralcontainers"): "core.pod:PodEphemeralContainersStrategy",
    ("", "pods/resize"): "core.pod:PodResizeStrategy",
}
"""(group, plural or plural/subresource) → module:class below this package."""


def _lazy(where: str, subresource: str) -> Factory:
    module_name, _, class_name = where.partition(":")

    def make(resource: Resource) -> Strategy:
        cls = getattr(import_module(f".{module_name}", __package__), class_name)
        strategy: Strategy = cls(strategy_for(resource)) if subresource else cls(resource)
        return strategy

    return make


def register_all() -> None:
    """Fill the table of strategies for all built-in resources."""
    for resource in BUILTIN:
        for subresource in ("", *(s.name for s in resource.subresources)):
            plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
            where = STRATEGIES.get((resource.group, plural))
            if where is not None:
                register(resource, _lazy(where, subresource), subresource)


register_all()
