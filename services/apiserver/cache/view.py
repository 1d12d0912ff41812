"""Forms in which stored objects are served: as they lie, in another API version, or as Table rows or bare metadata."""

from __future__ import annotations

from collections.abc import Callable


class View:
    """A named way from stored bytes to served bytes. Compared by identity: make each once and share it."""

    __slots__ = ("_render", "name", "packs")

    def __init__(self, name: str, render: Callable[[bytes], bytes] | None = None, *, packs: bool = False) -> None:
        """`packs`: watches get msgpack; `render` gives JSON all the same."""
        self.name = name
        self._render = render
        self.packs = packs

    @property
    def is_identity(self) -> bool:
        return self._render is None

    def render(self, data: bytes) -> bytes:
        return data if self._render is None else self._render(data)

    def __repr__(self) -> str:
        return f"View({self.name})"


AS_STORED = View("stored")
