"""Running subscriptions to one store: each gets the changes of its prefix, past ones first."""

from __future__ import annotations

from collections.abc import Sequence

from .contract import Change, Deliver


class Subscribed:
    """Delivers changes of one prefix; holds them back while it catches up with history."""

    def __init__(self, subscriptions: list[Subscribed], prefix: str, deliver: Deliver) -> None:
        self._subscriptions = subscriptions
        self._prefix = prefix
        self._deliver = deliver
        self._held: list[Change] | None = []
        subscriptions.append(self)

    def publish(self, changes: Sequence[Change]) -> None:
        if self._prefix:
            changes = [c for c in changes if c.key.startswith(self._prefix)]
        if self._held is not None:
            self._held.extend(changes)
        elif changes:
            self._deliver(changes)

    def catch_up(self, history: Sequence[Change]) -> None:
        """History first, then what was held back meanwhile."""
        changes, self._held = [*history, *(self._held or ())], None
        if changes:
            self._deliver(changes)

    def close(self) -> None:
        if self in self._subscriptions:
            self._subscriptions.remove(self)


class Subscriptions:
    """Those of one store."""

    def __init__(self) -> None:
        self._all: list[Subscribed] = []

    def add(self, prefix: str, deliver: Deliver) -> Subscribed:
        """A subscription that holds back everything until its `catch_up`."""
        return Subscribed(self._all, prefix, deliver)

    def publish(self, changes: Sequence[Change]) -> None:
        for subscription in tuple(self._all):
            subscription.publish(changes)
