"""DefaultBinder: posts the Binding."""

from __future__ import annotations

from ..framework.handle import Handle
from ..framework.interface import CycleState
from ..state.podinfo import PodInfo


class DefaultBinder:
    name = "DefaultBinder"

    def __init__(self, handle: Handle) -> None:
        self._effects = handle.effects

    async def bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        await self._effects.bind(pod, node_name)
