"""Somebody outside decides: asked by SubjectAccessReviews, whose answers are remembered.

Imitates k8s.io/apiserver/plugin/pkg/authorizer/webhook.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from kubecosm.api.resources import Object
from kubecosm.api.selectors import EXISTS, NOT_EXISTS, NOT_IN, FieldSelector, LabelSelector
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.remembered import Remembered

from ..authn.user import User
from ..outside import SECONDS_MAX, KubeconfigWebhook, OutsideError
from ..plainexpressions import Expression, ExpressionError
from .attributes import Attributes, CannotDecide, Decision, IncompleteRules, Verdict
from .metrics import WebhookCalls

GROUP = "authorization.k8s.io"
VERSIONS = ("v1", "v1beta1")
REMEMBERED_MAX = 4096
REMEMBERED_REQUEST_CHARS_MAX = 10_000
"""Answers to questions longer than this are not remembered."""


@dataclass(frozen=True)
class WebhookSettings:
    """Times are in seconds."""

    version: str = "v1"
    authorized_seconds: float = 300.0
    unauthorized_seconds: float = 30.0
    timeout_seconds: float = SECONDS_MAX
    denies_on_failure: bool = False
    """Whether nobody else is asked when the service cannot answer."""
    name: str = "default"
    """As metrics name it."""


class WebhookAuthorizer:
    """Allows, denies or has no opinion as the service says."""

    def __init__(
        self, webhook: KubeconfigWebhook, clock: Clock, settings: WebhookSettings, calls: WebhookCalls,
        conditions: tuple[Expression, ...] = (),
    ) -> None:  # fmt: skip
        """Requests for which not all `conditions` hold are none of its business."""
        self._calls = calls
        self._now = clock.monotonic
        self._conditions = conditions
        self._webhook = webhook
        self._settings = settings
        self._remembered: Remembered[Verdict] = Remembered(clock.monotonic, REMEMBERED_MAX)

    version = 0

    def of_any_name(self, attributes: Attributes) -> None:
        """Whoever is asked may look at everything."""

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Raises IncompleteRules: only the service knows."""
        raise IncompleteRules("webhook authorizer does not support user rule resolution")

    def authorize(self, attributes: Attributes) -> Verdict | Awaitable[Verdict]:
        spec = review_spec(attributes)
        if self._conditions:
            try:
                if not all(condition({"request": condition_values(spec)}) for condition in self._conditions):
                    return Decision.NO_OPINION, ""
            except ExpressionError as error:
                return (Decision.DENY if self._settings.denies_on_failure else Decision.NO_OPINION), str(error)
        key = repr(spec)
        known = self._remembered.get(key)
        return self._ask(spec, key) if known is None else known

    async def _ask(self, spec: Object, key: str) -> Verdict:
        """Raises CannotDecide."""
        settings = self._settings
        if settings.version == "v1beta1":
            spec = {**spec, "group": spec["groups"]}  # that version calls them so
            del spec["groups"]
        review: Object = {"apiVersion": f"{GROUP}/{settings.version}", "kind": "SubjectAccessReview", "metadata": {}, "spec": spec}
        started = self._now()
        try:
            status = (await self._webhook.ask(review, settings.timeout_seconds)).get("status") or {}
        except OutsideError as error:
            result = "timeout" if self._now() - started >= settings.timeout_seconds else "error"
            self._calls.called(result, self._now() - started)
            if settings.denies_on_failure:
                return Decision.DENY, f"the authorization webhook failed: {error}"
            self._calls.failed_open[result] += 1
            raise CannotDecide(f"the authorization webhook failed: {error}") from error
        self._calls.called("success", self._now() - started)
        verdict = verdict_of(status)
        seconds = settings.authorized_seconds if verdict[0] is Decision.ALLOW else settings.unauthorized_seconds
        if len(key) <= REMEMBERED_REQUEST_CHARS_MAX:
            self._remembered.put(key, verdict, seconds)
        return verdict


def condition_values(spec: Object) -> Object:
    """The question as match conditions see it: every field is there, as in Go."""
    values: Object = {"uid": "", "extra": {}, **spec}
    if "resourceAttributes" in spec:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        values["resourceAttributes"] = {**dict.fromkeys(names, ""), **spec["resourceAttributes"]}
    return values


def verdict_of(status: Object) -> Verdict:
    """What a SubjectAccessReviewStatus decides. Raises CannotDecide for one that says yes and no."""
    reason = status.get("reason", "")
    if status.get("denied") and status.get("allowed"):
        raise CannotDecide("webhook subject access review returned both allow and deny response")
    if status.get("denied"):
        return Decision.DENY, reason
    return (Decision.ALLOW if status.get("allowed") else Decision.NO_OPINION), reason


def review_spec(attributes: Attributes) -> Object:
    """The question as a SubjectAccessReviewSpec (v1)."""
    user = attributes.user
    spec: Object = {"user": user.name, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {name: list(values) for name, values in user.extra.items()}
    if not attributes.is_resource:
        return {**spec, "nonResourceAttributes": {"path": attributes.path, "verb": attributes.verb}}
    named = {
        "namespace": attributes.namespace, "verb": attributes.verb, "group": attributes.group, "version": attributes.version,
        "resource": attributes.resource, "subresource": attributes.subresource, "name": attributes.name,
    }  # fmt: skip
    resource: Object = {name: value for name, value in named.items() if value}
    if attributes.fields is not None:
        resource["fieldSelector"] = {"requirements": field_requirements(attributes.fields)}
    if attributes.labels is not None:
        resource["labelSelector"] = {"requirements": label_requirements(attributes.labels)}
    return {**spec, "resourceAttributes": resource}


def field_requirements(selector: FieldSelector) -> list[Object]:
    return [{"key": one.field, "operator": "NotIn" if one.negated else "In", "values": [one.value]} for one in selector.requirements]


def label_requirements(selector: LabelSelector) -> list[Object]:
    """Requirements by order of numbers (gt, lt) cannot be told and are left out: the question is then about more, not less."""
    found: list[Object] = []
    for one in selector.requirements:
        if one.operator in (EXISTS, NOT_EXISTS):
            found.append({"key": one.key, "operator": "Exists" if one.operator == EXISTS else "DoesNotExist"})
        elif one.operator not in ("gt", "lt"):
            found.append({"key": one.key, "operator": "NotIn" if one.operator in (NOT_IN, "!=") else "In", "values": list(one.values)})
    return found
