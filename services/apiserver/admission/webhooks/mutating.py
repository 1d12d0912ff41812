"""MutatingAdmissionWebhook: matching webhooks are asked one after the other, each about what the one before left.

Imitates apiserver/pkg/admission/plugin/webhook/mutating/{dispatcher,reinvocationcontext}.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.field import go_quote
from kubecosm.api.patch.json_patch import PatchFailed, apply_operations
from kubecosm.api.resources import Object, Resource

from ...webhook.client import WebhookClients
from ...webhook.failures import CallFailed
from ..chain import Attributes, Plugin, Reinvocation
from ..conditions import Conditions
from ..matching import Surroundings
from ..metrics import AdmissionMetrics
from ..patched import decode_patched, put_back
from ..rounds import Memory, snapshot
from .calling import Caller, Rejected, internal
from .hooks import Found, Hook, HookIndex
from .review import Verdict

if TYPE_CHECKING:
    from ..plugins import Parts


class MutatingAdmissionWebhook(Plugin):
    name = "MutatingAdmissionWebhook"

    def __init__(
        self, index: HookIndex, clients: WebhookClients, surroundings: Surroundings, metrics: AdmissionMetrics, conditions: Conditions
    ) -> None:
        self._index = index
        self._surroundings = surroundings
        self._caller = Caller(clients, surroundings, metrics, "admit")
        self._conditions = conditions

    def handles(self, resource: Resource, subresource: str) -> bool:
        return self._index.may_concern(resource, subresource)

    def follow(self, interest_changed: Callable[[], None]) -> None:
        self._index.changed = interest_changed

    def start(self) -> None:
        self._index.start()

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        found = self._index.find(attributes)
        return self._dispatch(found, attributes) if found else None

    async def _dispatch(self, found: tuple[Found, ...], attributes: Attributes) -> None:
        """Raises ApiError."""
        round_ = attributes.reinvocable()
        memory = round_.memory.setdefault(self.name, Memory())
        if round_.is_second and memory.output != snapshot(attributes.obj):
            memory.object_changed()  # built-in plugins have done something since
        try:
            for each in found:
                await self._consider(each, attributes, round_, memory)
        finally:
            memory.output = snapshot(attributes.obj)

    async def _consider(self, found: Found, attributes: Attributes, round_: Reinvocation, memory: Memory) -> None:
        place, hook, row = found
        if not self._surroundings.selects(hook.criteria, attributes):
            return
        obj, old = await self._surroundings.both_in_version(attributes, row)
        if not self._conditions.met(hook.name, hook.conditions, attributes, row, obj, "admit", ignores_failure=hook.ignores_failure):
            return
        if round_.is_second and hook.uid not in memory.again:
            return
        clock = self._surroundings.state.clock
        started, failure, changed = clock.monotonic(), None, False
        where = f"round_{int(round_.is_second)}_index_{place}"
        try:
            changed = await self._mutate(hook, attributes, row, obj, old, where)
        except (ApiError, CallFailed, Rejected) as error:
            failure = error
        self._caller.observe(hook, attributes.operation, clock.monotonic() - started, failure)
        note: Object = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        attributes.annotate(f"mutation.webhook.admission.k8s.io/{where}", orjson.dumps(note).decode())
        if changed:
            memory.object_changed()
            round_.wanted = True
        if hook.is_reinvocable:
            memory.invoked.add(hook.uid)
        self._settle(hook, attributes, failure, where)

    def _settle(self, hook: Hook, attributes: Attributes, failure: Exception | None, where: str) -> None:
        """Raises what the failure comes to."""
        if isinstance(failure, CallFailed):
            failure = self._caller.outcome(hook, attributes, failure, where)
        elif isinstance(failure, Rejected):
            failure = failure.error
        if failure is not None:
            raise failure

    async def _mutate(
        self, hook: Hook, attributes: Attributes, row: Resource, obj: Object | None, old: Object | None, where: str
    ) -> bool:
        """Whether the webhook changed the object. Raises Rejected, CallFailed, ApiError."""
        verdict = await self._caller.ask(hook, attributes, row, obj, old)
        if not verdict.patch:
            return False
        operations = _operations(verdict)
        if not operations:
            return False
        if obj is None:
            what = f"admission webhook {go_quote(hook.name)} attempted to modify the object, which is not supported for this operation"
            raise internal(what)
        before = snapshot(obj)
        try:
            document = apply_operations(obj, operations)
        except PatchFailed as error:
            raise internal(str(error)) from None
        patched = decode_patched(self._surroundings.state, attributes, row, document)
        if snapshot(patched) == before:
            return False
        state = self._surroundings.state
        await self._surroundings.converting(attributes, lambda: put_back(state, attributes, row, patched))
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


def build(parts: Parts) -> Plugin:
    index = parts.hooks("mutatingwebhookconfigurations")
    return MutatingAdmissionWebhook(index, parts.state.webhooks, parts.surroundings, parts.metrics, parts.conditions)
