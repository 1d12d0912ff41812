"""The contract of admission plugins and the chain that asks them in order.

Mutating plugins run on the defaulted object before the strategy prepares it, validating ones on the final object. A step that must
wait for somebody (a webhook) answers an awaitable; all others answer None, and then a write pays no more than the call.
Imitates k8s.io/apiserver/pkg/admission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kubecosm.api.resources import Object, Resource

from ..authn.user import User

if TYPE_CHECKING:
    from ..rest.options import DeleteOptions, WriteOptions
    from .metrics import AdmissionMetrics

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"
Settled = Callable[[bool], None]
"""Told whether a write took place."""


class Notes(Protocol):
    """Where plugins leave what is neither a change nor a refusal; a request is one."""

    def warn(self, *texts: str) -> None:
        """Warning headers of the answer."""

    def annotate(self, key: str, value: str) -> None:
        """An annotation of the audit event; the first value of a key stays."""


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


Plugins = tuple[Plugin, ...]


class AdmissionChain:
    """Asks the plugins that have a say."""

    def __init__(self, plugins: Sequence[Plugin], metrics: AdmissionMetrics | None = None) -> None:
        self.plugins = tuple(plugins)
        self.metrics = metrics
        self._interested: dict[tuple[Resource, str], tuple[Plugins, Plugins]] = {}
        for plugin in plugins:
            plugin.follow(self.forget)

    def forget(self) -> None:
        """Ask the plugins anew what they have a say about: their configuration or the served resources have changed."""
        self._interested.clear()

    def start(self) -> None:
        for plugin in self.plugins:
            plugin.start()

    def _for(self, resource: Resource, subresource: str) -> tuple[Plugins, Plugins]:
        found = self._interested.get((resource, subresource))
        if found is None:
            mine = [p for p in self.plugins if p.handles(resource, subresource)]
            found = self._interested[resource, subresource] = (
                tuple(p for p in mine if type(p).admit is not Plugin.admit),
                tuple(p for p in mine if type(p).validate is not Plugin.validate),
            )
        return found

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """The mutating step; what it answers, if anything, must be awaited before the object is looked at."""
        plugins = self._for(attributes.resource, attributes.subresource)[0]
        for index, plugin in enumerate(plugins):
            pending = plugin.admit(attributes)
            if pending is not None:
                return self._admit_rest(pending, plugins, index + 1, attributes)
        return None if attributes.reinvocation is None else self._reinvoke(plugins, attributes)

    async def _admit_rest(self, pending: Awaitable[None], plugins: Plugins, index: int, attributes: Attributes) -> None:
        await pending
        await _ask(plugins[index:], attributes)
        await self._reinvoke(plugins, attributes)

    async def _reinvoke(self, plugins: Plugins, attributes: Attributes) -> None:
        """Once more for all, if a plugin asked for it: what came later may have changed what came first."""
        state = attributes.reinvocation
        if state is not None and state.wanted and not state.is_second:
            state.is_second = True
            await _ask(plugins, attributes)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """The validating step; what it answers, if anything, must be awaited before the object is stored."""
        plugins = self._for(attributes.resource, attributes.subresource)[1]
        for index, plugin in enumerate(plugins):
            pending = plugin.validate(attributes)
            if pending is not None:
                return self._validate_rest(pending, plugins[index + 1 :], attributes)
        return None

    async def _validate_rest(self, pending: Awaitable[None], plugins: Plugins, attributes: Attributes) -> None:
        await pending
        for plugin in plugins:
            waiting = plugin.validate(attributes)
            if waiting is not None:
                await waiting

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


async def _ask(plugins: Plugins, attributes: Attributes) -> None:
    for plugin in plugins:
        pending = plugin.admit(attributes)
        if pending is not None:
            await pending
