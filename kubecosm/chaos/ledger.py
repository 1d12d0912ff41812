"""What the API has acknowledged, and the judgement over what it holds afterwards. Pure bookkeeping, no I/O.

A write whose answer never came may or may not have happened: both outcomes are right. An acknowledged one must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One object: its last acknowledged value (None: acknowledged as absent) and the values that may have been written since."""

    acknowledged: str | None = None
    in_doubt: set[str | None] = field(default_factory=set)


@dataclass
class Ledger:
    """Entries by object name, and counts for the report."""

    entries: dict[str, Entry] = field(default_factory=dict)
    acknowledged: int = 0
    failed: int = 0

    def begin(self, name: str, value: str | None) -> None:
        """A write is about to be sent; None is a delete."""
        self.entries.setdefault(name, Entry()).in_doubt.add(value)

    def confirm(self, name: str, value: str | None) -> None:
        """The server acknowledged the write; what was in doubt before it is decided."""
        self.entries[name] = Entry(acknowledged=value)
        self.acknowledged += 1

    def reject(self, name: str, value: str | None) -> None:
        """The server answered that it did not do the write."""
        self.entries[name].in_doubt.discard(value)
        self.failed += 1

    def lose(self) -> None:
        """No answer came: the write stays in doubt."""
        self.failed += 1

    def judge(self, held: Mapping[str, str]) -> list[str]:
        """Compare with what the server holds (name → value); the violations, empty when all is well."""
        wrong = []
        for name, entry in self.entries.items():
            value = held.get(name)
            if value != entry.acknowledged and value not in entry.in_doubt:
                wrong.append(f"{name}: acknowledged {entry.acknowledged!r}, in doubt {sorted(map(repr, entry.in_doubt))}, found {value!r}")
        wrong += [f"{name}: never written, found {held[name]!r}" for name in held if name not in self.entries]
        return wrong
