"""Running subscriptions to one store: each gets the changes of its prefix, past ones first.

Those of a single resource (`/registry/<group>/<plural>/`) are found by a look-up, so that a change costs the same however many there are.
They are told after those with wider prefixes: whoever follows a resource finds the caches up to date.
"""

from __future__ import annotations

from collections.abc import Sequence

from .contract import Change, Deliver

ROOT = "/registry/"


def resource_prefix(key: str) -> str:
    """`/registry/<group>/<plural>/` of a key; empty if it is not that deep."""
    group_end = key.find("/", len(ROOT))
    return key[: key.find("/", group_end + 1) + 1] if group_end > 0 else ""


class Subscribed:
    """Delivers changes of one prefix; holds them back while it catches up with history."""

    def __init__(self, among: list[Subscribed], prefix: str, deliver: Deliver) -> None:
        self._among = among
        self.prefix = prefix
        self._deliver = deliver
        self._held: list[Change] | None = []
        among.append(self)

    def publish(self, changes: Sequence[Change]) -> None:
        """Changes of the prefix, at least one."""
        if self._held is not None:
            self._held.extend(changes)
        else:
            self._deliver(changes)

    def catch_up(self, history: Sequence[Change]) -> None:
        """History first, then what was held back meanwhile."""
        changes, self._held = [*history, *(self._held or ())], None
        if changes:
            self._deliver(changes)

    def close(self) -> None:
        if self in self._among:
            self._among.remove(self)


class Subscriptions:
    """Those of one store."""

    def __init__(self) -> None:
        self._wide: list[Subscribed] = []
        self._narrow: dict[str, list[Subscribed]] = {}

    def add(self, prefix: str, deliver: Deliver) -> Subscribed:
        """A subscription that holds back everything until its `catch_up`."""
        is_narrow = prefix.startswith(ROOT) and resource_prefix(prefix) == prefix
        return Subscribed(self._narrow.setdefault(prefix, []) if is_narrow else self._wide, prefix, deliver)

    def publish(self, changes: Sequence[Change]) -> None:
        for subscription in tuple(self._wide):
            prefix = subscription.prefix
            found = [change for change in changes if change.key.startswith(prefix)] if prefix else changes
            if found:
                subscription.publish(found)
        by_prefix: dict[str, list[Change]] = {}
        for change in changes:
            prefix = resource_prefix(change.key)
            if prefix in self._narrow:
                by_prefix.setdefault(prefix, []).append(change)
        for prefix, found in by_prefix.items():
            for subscription in tuple(self._narrow[prefix]):
                subscription.publish(found)
