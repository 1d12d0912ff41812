"""MutatingAdmissionWebhook: matching webhooks are asked one after the other, each about what the one before left.

Imitates apiserver/pkg/admission/plugin/webhook/mutating/{dispatcher,reinvocationcontext}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.field import go_quote
from kubecosm.api.patch.json_patch import PatchFailed, apply_operations
from kubecosm.api.resources import Object

from ...webhook.failures import CallFailed
from ..chain import Attributes, Reinvocation
from ..expressions import View
from ..patched import decode_patched, put_back
from ..rounds import Memory, snapshot
from ..views import Views
from ..waiting import finish
from .calling import Rejected, internal
from .hooks import Found, Hook
from .plugin import WebhookPlugin
from .review import Verdict


class MutatingAdmissionWebhook(WebhookPlugin):
    name = "MutatingAdmissionWebhook"
    configurations, step = "mutatingwebhookconfigurations", "admit"

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        found = self._index.find(attributes)
        return self._dispatch(found, attributes) if found else None

    async def _dispatch(self, found: tuple[Found, ...], attributes: Attributes) -> None:
        """Raises ApiError."""
        round_ = attributes.reinvocable()
        memory = round_.memory.setdefault(self.name, Memory())
        if round_.is_second and memory.output != snapshot(attributes.obj):
            memory.object_changed()  # built-in plugins have done something since
        views = Views(self._surroundings, attributes)
        try:
            for each in found:
                await self._consider(each, attributes, views, round_, memory)
        finally:
            memory.output = snapshot(attributes.obj)

    async def _consider(self, found: Found, attributes: Attributes, views: Views, round_: Reinvocation, memory: Memory) -> None:
        place, hook, _ = found
        view = await self._view(found, attributes, views)
        if view is None or (round_.is_second and hook.uid not in memory.again):
            return
        started, failure, changed = self._clock.monotonic(), None, False
        where = f"round_{int(round_.is_second)}_index_{place}"
        try:
            changed = await self._mutate(hook, attributes, views, view, where)
        except (ApiError, CallFailed, Rejected) as error:
            failure = error
        took = self._clock.monotonic() - started
        attributes.waited_for(took)
        self._caller.observe(hook, attributes.operation, took, failure)
        note: Object = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        attributes.annotate(f"mutation.webhook.admission.k8s.io/{where}", orjson.dumps(note).decode())
        if changed:
            memory.object_changed()
            round_.wanted = True
        if hook.is_reinvocable:
            memory.invoked.add(hook.uid)
        refusal = self._verdict(hook, attributes, failure, where)
        if refusal is not None:
            raise refusal

    async def _mutate(self, hook: Hook, attributes: Attributes, views: Views, view: View, where: str) -> bool:
        """Whether the webhook changed the object. Raises Rejected, CallFailed, ApiError."""
        verdict = await self._caller.ask(hook, attributes, view.row, view.obj, view.old)
        operations = _operations(verdict) if verdict.patch else []
        if not operations:
            return False
        if view.obj is None:
            what = f"admission webhook {go_quote(hook.name)} attempted to modify the object, which is not supported for this operation"
            raise internal(what)
        before = snapshot(view.obj)
        views.forget()  # patches are applied in place
        try:
            document = apply_operations(view.obj, operations)
        except PatchFailed as error:
            raise internal(str(error)) from None
        state = self._surroundings.state
        patched = decode_patched(state, attributes, view.row, document)
        if snapshot(patched) == before:
            return False
        await finish(self._surroundings.converted(attributes, lambda: put_back(state, attributes, view.row, patched)))
        note = {"configuration": hook.configuration, "webhook": hook.name, "patch": operations, "patchType": "JSONPatch"}
        attributes.annotate(f"patch.webhook.admission.k8s.io/{where}", orjson.dumps(note).decode())
        return True


def _operations(verdict: Verdict) -> list[Object]:
    """Raises CallFailed."""
    try:
        operations = orjson.loads(verdict.patch)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error}") from None
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        why = "json: cannot unmarshal into Go value of type jsonpatch.Patch"
        raise CallFailed(f"received undecodable patch in webhook response: {why}")
    return operations


build = MutatingAdmissionWebhook
