"""Webhook configurations, compiled when they change and found by what a request is about.

Imitates apiserver/pkg/admission/{configuration,plugin/webhook/accessors.go}: configurations in the order of their names, webhooks in
the order in which they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubecosm.api.resources import Object, Resource

from ...cache.events import Event
from ...cache.resource import ResourceCache
from ...webhook.client import Target, read_target
from ...webhook.failures import CallFailed
from ..chain import Attributes
from ..conditions import read_conditions
from ..expressions import Program
from ..matching import EXEMPT, GROUP, Criteria, Surroundings, read_criteria

TIMEOUT_SECONDS = 10
REVIEW_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook, compiled."""

    name: str
    configuration: str
    uid: str
    """Unique among all webhooks: what reinvocation remembers it by."""
    criteria: Criteria
    target: Target | CallFailed
    """Where to ask, or why that cannot be known."""
    ignores_failure: bool
    seconds: float
    allows_dry_run: bool
    speaks_v1: bool
    is_reinvocable: bool
    conditions: tuple[Program, ...]


def compile_hooks(configuration: Object) -> tuple[Hook, ...]:
    """The webhooks of one configuration."""
    name = configuration["metadata"]["name"]
    return tuple(_compile(webhook, name, index) for index, webhook in enumerate(configuration.get("webhooks") or ()))


def _compile(webhook: Object, configuration: str, index: int) -> Hook:
    target: Target | CallFailed
    try:
        target = read_target(webhook.get("clientConfig") or {})
    except CallFailed as error:
        target = error
    return Hook(
        webhook["name"], configuration, f"{configuration}/{webhook['name']}/{index}", read_criteria(webhook), target,
        webhook.get("failurePolicy") == "Ignore", webhook.get("timeoutSeconds") or TIMEOUT_SECONDS,
        webhook.get("sideEffects") in ("None", "NoneOnDryRun"), REVIEW_VERSION in (webhook.get("admissionReviewVersions") or ()),
        webhook.get("reinvocationPolicy") == "IfNeeded", read_conditions(webhook.get("matchConditions")),
    )  # fmt: skip


Found = tuple[int, Hook, Resource]
"""The place of a webhook among all, the webhook, and the version in which it wants the object."""


class HookIndex:
    """All webhooks of one kind. `changed` is called when they are others."""

    def __init__(self, cache: ResourceCache, surroundings: Surroundings) -> None:
        self._cache = cache
        self._surroundings = surroundings
        self._by_configuration: dict[str, tuple[Hook, ...]] = {}
        self._hooks: tuple[Hook, ...] = ()
        self._found: dict[tuple[Resource, str, str, bool], tuple[Found, ...]] = {}
        self._generation = -1
        self.changed: Callable[[], None] = lambda: None

    def start(self) -> None:
        for entry in self._cache.entries():
            self._by_configuration[entry.key] = compile_hooks(entry.decode())
        self._cache.followers.append(self._take_in)
        self._settle()

    def _take_in(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.entry is None:
                self._by_configuration.pop(event.key, None)
            else:
                self._by_configuration[event.key] = compile_hooks(event.entry.decode())
        self._settle()

    def _settle(self) -> None:
        self._hooks = tuple(hook for name in sorted(self._by_configuration) for hook in self._by_configuration[name])
        self._found.clear()
        self.changed()

    def may_concern(self, row: Resource, subresource: str) -> bool:
        """Whether any webhook could be about a resource."""
        if not self._hooks or (row.group == GROUP and row.plural in EXEMPT):
            return False
        versions = self._surroundings.versions(row, subresource)
        return any(hook.criteria.is_about(row, subresource, versions) for hook in self._hooks)

    def find(self, attributes: Attributes) -> tuple[Found, ...]:
        """The webhooks whose rules match, in order. Selectors and conditions are yet to be asked.

        They have no say about what the server writes by itself: one that is down must not keep it from starting.
        """
        if attributes.is_internal:
            return ()
        if self._generation != self._surroundings.state.table.generation:
            self._found.clear()
            self._generation = self._surroundings.state.table.generation
        key = attributes.resource, attributes.subresource, attributes.operation, bool(attributes.namespace)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = tuple(self._matching(attributes))
        return found

    def _matching(self, attributes: Attributes) -> list[Found]:
        versions = self._surroundings.versions(attributes.resource, attributes.subresource)
        rows = ((index, hook, hook.criteria.matching_row(attributes, versions)) for index, hook in enumerate(self._hooks))
        return [(index, hook, row) for index, hook, row in rows if row is not None]
