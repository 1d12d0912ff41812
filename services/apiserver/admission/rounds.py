"""The two rounds of mutating admission: what is remembered of the first, to know who must be asked again in the second.

Imitates apiserver/pkg/admission/plugin/webhook/mutating/reinvocationcontext.go, which policies share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from kubecosm.api.resources import Object


@dataclass
class Memory:
    """What one plugin remembers between the rounds of one request."""

    output: bytes = b""
    """The object as the plugin left it."""
    invoked: set[str] = field(default_factory=set)
    """Who has been asked, and may be again."""
    again: set[str] = field(default_factory=set)
    """Those that must be asked again, since somebody has changed the object after them."""

    def object_changed(self) -> None:
        self.again |= self.invoked
        self.invoked.clear()


def snapshot(obj: Object | None) -> bytes:
    """Equal for equal objects, whatever the order of their fields."""
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)
