"""Plugins that users configure with objects: webhooks and policies. What they have a say about changes with those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from kubecosm.api.resources import Resource

from .chain import Plugin


class Index(Protocol):
    """The objects that configure a plugin, compiled; `changed` is called when they are others."""

    changed: Callable[[], None]

    def start(self) -> None:
        """Read what is stored, and follow it from there on."""

    def may_concern(self, row: Resource, subresource: str) -> bool:
        """Whether any of them could be about a resource."""


Kept = TypeVar("Kept", bound=Index)


class ConfiguredPlugin(Plugin, Generic[Kept]):
    """Has a say about what its index says it may concern."""

    def __init__(self, index: Kept) -> None:
        self._index = index

    def handles(self, resource: Resource, subresource: str) -> bool:
        return self._index.may_concern(resource, subresource)

    def follow(self, interest_changed: Callable[[], None]) -> None:
        self._index.changed = interest_changed

    def start(self) -> None:
        self._index.start()
