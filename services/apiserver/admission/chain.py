"""The contract of admission plugins and the chain that asks them in order.

Mutating plugins run on the defaulted object before the strategy prepares it, validating ones on the final object. A step that must
wait for somebody (a webhook) answers an awaitable; all others answer None, and then a write pays no more than the call.
Imitates k8s.io/apiserver/pkg/admission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kubecosm.api.resources import Object, Resource
from kubecosm.runtime.clock import RealClock

from ..authn.user import User
from ..tallies import Durations
from .metrics import QUICK_SECONDS, AdmissionMetrics

if TYPE_CHECKING:
    from ..rest.options import DeleteOptions, WriteOptions

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"
ADMIT, VALIDATE = "admit", "validate"
Settled = Callable[[bool], None]
"""Told whether a write took place."""


class Notes(Protocol):
    """Where plugins leave what is neither a change nor a refusal; a request is one."""

    def warn(self, *texts: str) -> None:
        """Warning headers of the answer."""

    def annotate(self, key: str, value: str) -> None:
        """An annotation of the audit event; the first value of a key stays."""

    def waited_for(self, seconds: float) -> None:
        """So long somebody outside was asked: the server is not to blame for it."""


@dataclass(slots=True)
class Reinvocation:
    """Whether mutating plugins are asked a second time, and what they remember of the first."""

    is_second: bool = False
    wanted: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    """By plugin name; each plugin's own business."""


@dataclass(slots=True)
class Attributes:
    """One write: `obj` may be changed by mutating plugins, `old` never. DELETE has no `obj`; CONNECT has its options in `obj`.

    `resource` is the row in the version asked for; objects are in the version that is stored (see `rest.versions`). For a
    subresource with a kind of its own (Scale, Binding, Eviction, TokenRequest), they are of that kind.
    """

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Object | None
    old: Object | None
    user: User
    dry_run: bool = False
    options: WriteOptions | DeleteOptions | None = None
    """What the client asked for beside the object; None where the server itself writes, and for CONNECT."""
    notes: Notes | None = None
    """None where no client waits."""
    reinvocation: Reinvocation | None = None
    """Made by the first plugin that needs it (`reinvocable`)."""
    settlers: list[Settled] | None = None

    @property
    def kind(self) -> tuple[str, str, str]:
        """(group, version, kind) of the object as the client named it."""
        row = self.resource
        own = row.subresource(self.subresource) if self.subresource else None
        return (own.group, own.version, own.kind) if own is not None else (row.group, row.version, row.kind)

    @property
    def is_internal(self) -> bool:
        """Whether the server itself writes."""
        return self.notes is None

    def warn(self, *texts: str) -> None:
        if self.notes is not None:
            self.notes.warn(*texts)

    def annotate(self, key: str, value: str) -> None:
        if self.notes is not None:
            self.notes.annotate(key, value)

    def waited_for(self, seconds: float) -> None:
        if self.notes is not None:
            self.notes.waited_for(seconds)

    def reinvocable(self) -> Reinvocation:
        if self.reinvocation is None:
            self.reinvocation = Reinvocation()
        return self.reinvocation

    def when_settled(self, settled: Settled) -> None:
        """Have `settled` called as soon as the write has taken place or cannot any more (also when a later plugin refuses)."""
        self.settlers = [*(self.settlers or ()), settled]

    def hand_over(self) -> Settled:
        """What tells all whom it concerns; from now on the write itself, not who gives it up, decides what they are told."""
        told, self.settlers = self.settlers or (), None

        def settle(succeeded: bool) -> None:
            for settled in told:
                settled(succeeded)

        return settle

    def give_up(self) -> None:
        """The write does not take place."""
        if self.settlers is not None:
            self.hand_over()(False)


class Plugin:
    """Both steps do nothing unless overridden. They raise ApiError (Forbidden mostly) to refuse.

    A step that waits answers an awaitable, which the chain awaits before it asks the next plugin.
    """

    name = ""
    operations: tuple[str, ...] = (CREATE, UPDATE, DELETE, CONNECT)
    """What it is asked about."""

    def handles(self, resource: Resource, subresource: str) -> bool:
        """Whether the plugin has a say about a resource; asked once per resource and subresource until interest changes."""
        return True

    def follow(self, interest_changed: Callable[[], None]) -> None:
        """A plugin whose `handles` depends on stored objects keeps the callback and calls it when the answer may have changed."""

    def start(self) -> None:
        """Called once, when the caches are filled and before the first request."""

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """Change the object in place, or put another one into `attributes.obj`."""
        return None

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Refuse the object."""
        return None


Ask = Callable[[Attributes], Awaitable[None] | None]


class Turn(NamedTuple):
    """One plugin's turn in a step."""

    ask: Ask
    took: Durations
    """How long it takes when it has no objection."""
    name: str


class Step(NamedTuple):
    """Who is asked in one step of admission about one kind of write."""

    kind: str
    """admit or validate, as metrics name them."""
    operation: str
    turns: tuple[Turn, ...]
    took: Durations


class AdmissionChain:
    """Asks the plugins that have a say, and notes how long they take."""

    def __init__(
        self, plugins: Sequence[Plugin], metrics: AdmissionMetrics | None = None, monotonic: Callable[[], float] | None = None
    ) -> None:
        self.plugins = tuple(plugins)
        self.metrics = metrics or AdmissionMetrics()
        self._now = monotonic or RealClock().monotonic
        self._steps: dict[tuple[Resource, str, str], tuple[Step, Step]] = {}
        for plugin in plugins:
            plugin.follow(self.forget)

    def forget(self) -> None:
        """Ask the plugins anew what they have a say about: their configuration or the served resources have changed."""
        self._steps.clear()

    def start(self) -> None:
        for plugin in self.plugins:
            plugin.start()

    def steps_of(self, attributes: Attributes) -> tuple[Step, Step]:
        """The mutating and the validating step of a write."""
        key = attributes.resource, attributes.subresource, attributes.operation
        found = self._steps.get(key)
        if found is None:
            resource, subresource, operation = key
            mine = [p for p in self.plugins if operation in p.operations and p.handles(resource, subresource)]
            found = self._steps[key] = (
                self._step(ADMIT, operation, [(p.name, p.admit) for p in mine if type(p).admit is not Plugin.admit]),
                self._step(VALIDATE, operation, [(p.name, p.validate) for p in mine if type(p).validate is not Plugin.validate]),
            )
        return found

    def _step(self, kind: str, operation: str, asked: Sequence[tuple[str, Ask]]) -> Step:
        plugins, steps = self.metrics.plugins, self.metrics.steps
        turns = tuple(Turn(ask, plugins.of(name, kind, operation, "false"), name) for name, ask in asked)
        return Step(kind, operation, turns, steps.of(kind, operation, "false"))

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """The mutating step; what it answers, if anything, must be awaited before the object is looked at."""
        return self._take(self.steps_of(attributes)[0], attributes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """The validating step; what it answers, if anything, must be awaited before the object is stored."""
        return self._take(self.steps_of(attributes)[1], attributes)

    def _take(self, step: Step, attributes: Attributes) -> Awaitable[None] | None:
        """Ask everybody as long as nobody waits. Written out, as every write comes by here."""
        now = self._now
        started = before = now()
        index = 0
        try:
            for ask, took, _ in step.turns:
                pending = ask(attributes)
                if pending is not None:
                    return self._wait(step, attributes, index, pending, started, before)
                index += 1
                after = now()
                seconds, before = after - before, after
                if seconds <= QUICK_SECONDS:  # nearly always: the first bucket
                    took.counts[0] += 1
                    took.sum += seconds
                else:
                    took.observe(seconds)
            if attributes.reinvocation is not None and step.kind == ADMIT:
                return self._wait(step, attributes, index, None, started, before)
        except BaseException:
            self._refused(step, index, started, before)
            raise
        step.took.observe(before - started)
        return None

    async def _wait(
        self, step: Step, attributes: Attributes, index: int, pending: Awaitable[None] | None, started: float, before: float
    ) -> None:
        """The rest of a step in which the plugin at `index` waits.

        Mutating plugins are asked once more if one of them wants that: what came later may have changed what came first.
        """
        try:
            while True:
                if index == len(step.turns):
                    state = attributes.reinvocation
                    if step.kind != ADMIT or state is None or not state.wanted or state.is_second:
                        break
                    state.is_second, index = True, 0
                turn = step.turns[index]
                waiting = pending or turn.ask(attributes)
                pending = None
                if waiting is not None:
                    await waiting
                index += 1
                after = self._now()
                turn.took.observe(after - before)
                before = after
        except BaseException:
            self._refused(step, index, started, before)
            raise
        step.took.observe(before - started)

    def _refused(self, step: Step, index: int, started: float, before: float) -> None:
        now = self._now()
        self.metrics.plugins.of(step.turns[index].name, step.kind, step.operation, "true").observe(now - before)
        self.metrics.steps.of(step.kind, step.operation, "true").observe(now - started)

    async def ask(self, attributes: Attributes) -> None:
        """Both steps, where nothing lies between them. The caller hands the attributes over to the write."""
        try:
            for step in (self.admit, self.validate):
                pending = step(attributes)
                if pending is not None:
                    await pending
        except BaseException:
            attributes.give_up()
            raise
