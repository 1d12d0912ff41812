"""ValidatingAdmissionWebhook: all matching webhooks are asked at once, and one that refuses is enough.

Imitates apiserver/pkg/admission/plugin/webhook/validating/dispatcher.go. Where several refuse, the first in order is heard, not the
fastest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from kubecosm.api.errors import ApiError

from ...webhook.failures import CallFailed
from ..chain import Attributes
from ..expressions import View
from ..views import Views
from .calling import Rejected
from .hooks import Found, Hook
from .plugin import WebhookPlugin


class ValidatingAdmissionWebhook(WebhookPlugin):
    name = "ValidatingAdmissionWebhook"
    configurations, step = "validatingwebhookconfigurations", "validating"

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        found = self._index.find(attributes)
        return self._dispatch(found, attributes) if found else None

    async def _dispatch(self, found: tuple[Found, ...], attributes: Attributes) -> None:
        """Raises ApiError."""
        views = Views(self._surroundings, attributes)
        seen = [(each[1], await self._view(each, attributes, views)) for each in found]
        asked = [(hook, view) for hook, view in seen if view is not None]
        started = self._clock.monotonic()
        if len(asked) == 1:
            refusals = [await self._call(*asked[0], attributes, 0)]
        else:
            async with asyncio.TaskGroup() as calls:
                tasks = [calls.create_task(self._call(*each, attributes, place)) for place, each in enumerate(asked)]
            refusals = [task.result() for task in tasks]
        attributes.waited_for(self._clock.monotonic() - started)
        error = next((error for error in refusals if error is not None), None)
        if error is not None:
            raise error

    async def _call(self, hook: Hook, view: View, attributes: Attributes, place: int) -> ApiError | None:
        """The refusal, if it comes to one."""
        started, failure = self._clock.monotonic(), None
        try:
            await self._caller.ask(hook, attributes, view.row, view.obj, view.old)
        except (ApiError, CallFailed, Rejected) as error:
            failure = error
        self._caller.observe(hook, attributes.operation, self._clock.monotonic() - started, failure)
        return self._verdict(hook, attributes, failure, f"round_0_index_{place}")


build = ValidatingAdmissionWebhook
