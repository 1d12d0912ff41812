"""ValidatingAdmissionWebhook: all matching webhooks are asked at once, and one that refuses is enough.

Imitates apiserver/pkg/admission/plugin/webhook/validating/dispatcher.go. Where several refuse, the first in order is heard, not the
fastest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object, Resource

from ...webhook.client import WebhookClients
from ...webhook.failures import CallFailed
from ..chain import Attributes, Plugin
from ..conditions import Conditions
from ..matching import Surroundings
from ..metrics import AdmissionMetrics
from .calling import Caller, Rejected
from .hooks import Found, HookIndex

if TYPE_CHECKING:
    from ..plugins import Parts


Objects = tuple[Object | None, Object | None]
"""The object and the old one."""


class ValidatingAdmissionWebhook(Plugin):
    name = "ValidatingAdmissionWebhook"

    def __init__(
        self, index: HookIndex, clients: WebhookClients, surroundings: Surroundings, metrics: AdmissionMetrics, conditions: Conditions
    ) -> None:
        self._index = index
        self._surroundings = surroundings
        self._caller = Caller(clients, surroundings, metrics, "validating")
        self._conditions = conditions

    def handles(self, resource: Resource, subresource: str) -> bool:
        return self._index.may_concern(resource, subresource)

    def follow(self, interest_changed: Callable[[], None]) -> None:
        self._index.changed = interest_changed

    def start(self) -> None:
        self._index.start()

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        found = self._index.find(attributes)
        return self._dispatch(found, attributes) if found else None

    async def _dispatch(self, found: tuple[Found, ...], attributes: Attributes) -> None:
        """Raises ApiError."""
        asked: list[tuple[Found, Objects]] = []
        versions: dict[Resource, Objects] = {}
        for each in found:
            _, hook, row = each
            if not self._surroundings.selects(hook.criteria, attributes):
                continue
            if row not in versions:
                versions[row] = await self._surroundings.both_in_version(attributes, row)
            obj = versions[row][0]
            if self._conditions.met(
                hook.name, hook.conditions, attributes, row, obj, "validating", ignores_failure=hook.ignores_failure
            ):
                asked.append((each, versions[row]))
        if len(asked) == 1:
            refusals = [await self._call(*asked[0], attributes, 0)]
        else:
            async with asyncio.TaskGroup() as calls:
                tasks = [calls.create_task(self._call(*each, attributes, place)) for place, each in enumerate(asked)]
            refusals = [task.result() for task in tasks]
        error = next((error for error in refusals if error is not None), None)
        if error is not None:
            raise error

    async def _call(self, found: Found, objects: Objects, attributes: Attributes, place: int) -> ApiError | None:
        """The refusal, if it comes to one."""
        _, hook, row = found
        clock = self._surroundings.state.clock
        started, failure = clock.monotonic(), None
        try:
            await self._caller.ask(hook, attributes, row, *objects)
        except (ApiError, CallFailed, Rejected) as error:
            failure = error
        self._caller.observe(hook, attributes.operation, clock.monotonic() - started, failure)
        if isinstance(failure, CallFailed):
            return self._caller.outcome(hook, attributes, failure, f"round_0_index_{place}")
        return failure.error if isinstance(failure, Rejected) else failure


def build(parts: Parts) -> Plugin:
    index = parts.hooks("validatingwebhookconfigurations")
    return ValidatingAdmissionWebhook(index, parts.state.webhooks, parts.surroundings, parts.metrics, parts.conditions)
