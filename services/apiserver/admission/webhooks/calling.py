"""One call of one webhook: whether it is to be asked, the question, the answer, and what a failure comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubecosm.api.errors import ApiError, BadRequest, InternalError
from kubecosm.api.resources import Object, Resource
from kubecosm.runtime.logs import get_logger

from ...http.requestinfo import new_uid
from ...webhook.client import WebhookClients
from ...webhook.failures import CallFailed
from ..chain import Attributes
from ..matching import Surroundings
from ..metrics import CALLING_WEBHOOK_ERROR, NO_ERROR, SERVER_ERROR, AdmissionMetrics
from .hooks import Hook
from .review import Verdict, denied, encode_review, read_verdict, request_of

if TYPE_CHECKING:
    from ...webhook.credentials import CredentialBook

log = get_logger("apiserver")


class Rejected(Exception):
    """A webhook said no."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Caller:
    """Calls webhooks of one kind; `step` is what metrics call it: admit or validating."""

    clients: WebhookClients
    surroundings: Surroundings
    metrics: AdmissionMetrics
    step: str
    credentials: CredentialBook | None = None
    """None: webhooks are not told who asks."""

    @property
    def mutating(self) -> bool:
        return self.step == "admit"

    async def ask(self, hook: Hook, attributes: Attributes, row: Resource, obj: Object | None, old: Object | None) -> Verdict:
        """The verdict of a webhook that allows the request; the objects are in the version of `row`.

        Raises Rejected, CallFailed (the failure policy decides), BadRequest (no dry run).
        """
        if attributes.dry_run and not hook.allows_dry_run:
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run', details={})
        if not hook.speaks_v1:
            raise CallFailed("could not create admission objects: webhook does not accept known AdmissionReview versions (v1)", 400)
        if isinstance(hook.target, CallFailed):
            raise CallFailed(f"could not get REST client: {hook.target.why}", 500)
        uid = new_uid(self.surroundings.state.rng.getrandbits(128))
        credentials = None if self.credentials is None else self.credentials.of(hook.target)
        question = encode_review(request_of(attributes, row, obj, old, uid))
        try:
            answer = await self.clients.post(hook.target, question, hook.seconds, credentials)
        except CallFailed as error:
            known = error.why.startswith("could not get")
            raise error if known else CallFailed(f"failed to call webhook: {error.why}", error.code) from None
        verdict = read_verdict(answer, uid, mutating=self.mutating)
        self._note(hook, attributes, verdict.annotations)
        attributes.warn(*verdict.warnings)
        if not verdict.allowed:
            raise Rejected(denied(hook.name, verdict.status))
        return verdict

    @staticmethod
    def _note(hook: Hook, attributes: Attributes, annotations: Mapping[str, str]) -> None:
        for key, value in annotations.items():
            attributes.annotate(f"{hook.name}/{key}", value)

    def observe(self, hook: Hook, operation: str, seconds: float, error: Exception | None) -> None:
        """Count a call by its outcome."""
        if isinstance(error, Rejected):
            code, kind, rejected = error.error.code, NO_ERROR, True
        elif isinstance(error, CallFailed):
            code, kind, rejected = error.code, CALLING_WEBHOOK_ERROR, not hook.ignores_failure
        else:
            code, kind, rejected = (200, "", False) if error is None else (0, SERVER_ERROR, True)
        self.metrics.observe_webhook(hook.name, self.step, operation, seconds, rejected=rejected, code=code)
        if rejected:
            self.metrics.count_rejection(hook.name, self.step, operation, kind, code)

    def outcome(self, hook: Hook, attributes: Attributes, error: CallFailed, place: str) -> ApiError | None:
        """What becomes of a request whose webhook failed: None lets it pass (failurePolicy Ignore)."""
        message = f'failed calling webhook "{hook.name}": {error.why}'
        if not hook.ignores_failure:
            log.warning("webhook failed, request refused", webhook=hook.name, why=error.why)
            return internal(message)
        log.warning("webhook failed, request let pass", webhook=hook.name, why=error.why)
        self.metrics.webhook_fail_open.labels(hook.name, self.step).inc()
        kind = "mutation" if self.mutating else "validating"
        attributes.annotate(f"failed-open.{kind}.webhook.admission.k8s.io/{place}", hook.name)
        return None


def internal(message: str) -> InternalError:
    """apierrors.NewInternalError."""
    return InternalError(f"Internal error occurred: {message}", details={"causes": [{"message": message}]})
