"""The extension points as protocols. A plugin is any object with a `name` and the methods of the points it extends.

Filter and Score judge many nodes at once: they are handed `rows`, a selection of node rows (all, one, or an array of row numbers), and
answer with arrays of that length. What a plugin works out in PreFilter or PreScore it keeps in the CycleState of the attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .events import HintedEvent
from .status import Status

if TYPE_CHECKING:
    from ..queue.podqueue import QueuedPod
    from ..state.columns import BoolArray, IntArray, Rows
    from ..state.podinfo import PodInfo
    from .diagnosis import Diagnosis

SCORE_MAX = 100
"""Normalised scores lie between 0 and this (MaxNodeScore)."""


class CycleState:
    """Scratch space of one attempt to schedule one pod."""

    __slots__ = ("data", "measured", "skip_filter", "skip_score")

    def __init__(self, measured: bool = False) -> None:
        self.measured = measured
        """Whether the time of each plugin is taken (recordPluginMetrics)."""
        self.data: dict[str, Any] = {}
        self.skip_filter: set[str] = set()
        self.skip_score: set[str] = set()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A Filter's answer for the asked rows: `ok` where a node passes; a refused node has `statuses[codes[i]]` (codes None: the first)."""

    ok: BoolArray
    statuses: Sequence[Status]
    codes: IntArray | None = None

    def failure(self, refused: IntArray) -> Status | None:
        """The first status of the refused rows that is no refusal but an error."""
        if all(status.is_rejected for status in self.statuses):
            return None
        given = self.statuses[:1] if self.codes is None else [self.statuses[code] for code in self.codes[refused].tolist()]
        return next((status for status in given if not status.is_rejected), None)


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """`nominated_node`: where the pod may fit once victims are gone; empty clears a former nomination; None leaves it."""

    nominated_node: str | None = None
    status: Status | None = None
    victims: tuple[str, ...] = ()
    """namespace/name of the pods that have to go for it."""


class Plugin(Protocol):
    @property
    def name(self) -> str: ...


@runtime_checkable
class PreEnqueuePlugin(Protocol):
    """Keeps pods out of the active queue."""

    @property
    def name(self) -> str: ...

    def pre_enqueue(self, pod: PodInfo) -> Status | None: ...


@runtime_checkable
class QueueSortPlugin(Protocol):
    """Orders the active queue. One per process."""

    @property
    def name(self) -> str: ...

    def queue_key(self, pod: QueuedPod) -> Any:
        """A sort key; the smallest is scheduled first."""


@runtime_checkable
class EnqueueExtensions(Protocol):
    """Tells which events may make a pod that this plugin rejected schedulable. Without it, every event may."""

    @property
    def name(self) -> str: ...

    def events_to_register(self) -> Sequence[HintedEvent]: ...


@runtime_checkable
class PreFilterPlugin(Protocol):
    @property
    def name(self) -> str: ...

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | frozenset[str] | None:
        """A rejection of the pod, SKIP (Filter is not called), the only node names worth a look, or None."""


@runtime_checkable
class FilterPlugin(Protocol):
    """A class attribute `looks_at_pods = False` promises that the pods of a node make no difference; preemption is faster for it."""

    @property
    def name(self) -> str: ...

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        """None: all nodes pass."""


@runtime_checkable
class PostFilterPlugin(Protocol):
    """Called when no node passed."""

    @property
    def name(self) -> str: ...

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult: ...


@runtime_checkable
class PreScorePlugin(Protocol):
    @property
    def name(self) -> str: ...

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        """SKIP: Score is not called."""


@runtime_checkable
class ScorePlugin(Protocol):
    @property
    def name(self) -> str: ...

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        """One score per asked row, or one for all of them."""


@runtime_checkable
class NormalizeScorePlugin(Protocol):
    """ScoreExtensions: brings raw scores into 0…SCORE_MAX."""

    @property
    def name(self) -> str: ...

    def normalize_score(self, state: CycleState, pod: PodInfo, scores: IntArray) -> IntArray: ...


@runtime_checkable
class ReservePlugin(Protocol):
    """`unreserve` must be idempotent and may be called without `reserve`."""

    @property
    def name(self) -> str: ...

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None: ...

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None: ...


@runtime_checkable
class PermitPlugin(Protocol):
    @property
    def name(self) -> str: ...

    def permit(self, state: CycleState, pod: PodInfo, node_name: str) -> tuple[Status | None, float]:
        """None lets the pod go on, a rejection stops it, WAIT holds it for so many seconds until WaitingPods allows it."""


@runtime_checkable
class PreBindPlugin(Protocol):
    @property
    def name(self) -> str: ...

    def pre_bind_pre_flight(self, state: CycleState, pod: PodInfo) -> bool:
        """Whether `pre_bind` has anything to do for this pod."""

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None: ...


@runtime_checkable
class BindPlugin(Protocol):
    @property
    def name(self) -> str: ...

    async def bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """SKIP: the next Bind plugin is asked."""


@runtime_checkable
class PostBindPlugin(Protocol):
    @property
    def name(self) -> str: ...

    def post_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None: ...


EXTENSION_POINTS: Mapping[str, type] = {
    "preEnqueue": PreEnqueuePlugin, "queueSort": QueueSortPlugin, "preFilter": PreFilterPlugin, "filter": FilterPlugin,
    "postFilter": PostFilterPlugin, "preScore": PreScorePlugin, "score": ScorePlugin, "reserve": ReservePlugin, "permit": PermitPlugin,
    "preBind": PreBindPlugin, "bind": BindPlugin, "postBind": PostBindPlugin,
}  # fmt: skip
"""Names as in a KubeSchedulerConfiguration."""
