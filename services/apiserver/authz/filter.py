"""The authorization filter."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from dataclasses import replace

from kubecosm.api.errors import Forbidden, InternalError
from kubecosm.api.field import go_quote
from kubecosm.api.names import AUDIT_DECISION, AUDIT_REASON
from kubecosm.api.resources import Object
from kubecosm.api.selectors import SelectorError, parse_fields, parse_labels
from kubecosm.runtime.clock import Clock

from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from ..registry.formats import is_path_segment
from ..tallies import SAMPLED
from .attributes import Attributes, Authorizer, CannotDecide, Decision, Verdict
from .metrics import ALLOWED, DENIED, ERROR, NO_OPINION, AuthorizationMetrics

_RESULTS = {Decision.ALLOW: ALLOWED, Decision.DENY: DENIED, Decision.NO_OPINION: NO_OPINION}


def with_authorization(authorizer: Authorizer, clock: Clock, metrics: AuthorizationMetrics) -> Filter:
    """403 unless somebody allows it. What is allowed whatever the name is found once for requests that are alike."""
    now = clock.monotonic

    def allowed(request: Request) -> str | None:
        """Why, if it is whatever the name."""
        alike, version = request.alike, authorizer.version
        if alike.asked_at != version:
            verdict = authorizer.of_any_name(attributes_of(request))
            alike.allowed = verdict[1] if verdict is not None and verdict[0] is Decision.ALLOW else None
            alike.asked_at = version
        return alike.allowed

    def sampled(request: Request) -> str | None:
        """The same, with a look at the time."""
        started = now()
        reason = allowed(request)
        if reason is not None:
            metrics.sample(now() - started)
        return reason

    async def measured(attributes: Attributes) -> Verdict:
        """Raises InternalError if those who had to be asked could not answer."""
        started = now()
        verdict = authorizer.authorize(attributes)
        if not isinstance(verdict, tuple):
            try:
                verdict = await answered(verdict)
            except InternalError:
                metrics.measured(ERROR, now() - started)
                raise
        elif verdict[0] is Decision.ALLOW:
            metrics.at_once += 1
            if not metrics.at_once % SAMPLED:
                metrics.sample(now() - started)
            return verdict
        metrics.measured(_RESULTS[verdict[0]], now() - started)
        return verdict

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            reason = allowed(request) if metrics.at_once % SAMPLED else sampled(request)
            if reason is None:
                return ask(request)
            metrics.at_once += 1
            if request.audit is not None:
                annotate(request, Decision.ALLOW, reason)
            return inner(request)

        async def ask(request: Request) -> Answer:
            attributes = attributes_of(request)
            decision, reason = await measured(attributes)
            if request.audit is not None:
                annotate(request, decision, reason)
            if decision is not Decision.ALLOW:
                raise forbidden(attributes, reason)
            return await inner(request)

        return handle

    return wrap


async def answered(pending: Awaitable[Verdict]) -> Verdict:
    """Raises InternalError if those who had to be asked could not answer."""
    try:
        return await pending
    except CannotDecide as error:
        raise InternalError(f"Internal error occurred: {error}") from error


SELECTING_VERBS = ("list", "watch", "deletecollection")


def annotate(request: Request, decision: Decision, reason: str) -> None:
    """What the audit event tells of the decision."""
    told = {AUDIT_DECISION: "allow" if decision is Decision.ALLOW else "forbid", AUDIT_REASON: reason}
    request.audit_annotations = told if request.audit_annotations is None else told | request.audit_annotations


def attributes_of(request: Request) -> Attributes:
    """What the request wants to do, and with what: a selector of one name counts as that name (requestinfo.go)."""
    info = request.info
    attributes = Attributes(
        request.user, request.verb, info.namespace, info.group, info.version, info.resource, info.subresource, info.name, info.is_resource,
        info.path,
    )  # fmt: skip
    if "Selector=" in request.raw_query and request.verb in SELECTING_VERBS:
        return _with_selectors(attributes, request.param("fieldSelector"), request.param("labelSelector"))
    return attributes


def _with_selectors(attributes: Attributes, fields: str, labels: str) -> Attributes:
    """A selector that cannot be understood is as none here: the verb refuses it."""
    by_field, by_label = None, None
    with contextlib.suppress(SelectorError):
        by_field = parse_fields(fields) if fields else None
    with contextlib.suppress(SelectorError):
        by_label = parse_labels(labels) if labels else None
    name = attributes.name
    if not name and by_field is not None:
        exact = by_field.exact_value("metadata.name") or ""
        name = exact if not list(is_path_segment(exact)) else ""
    return replace(attributes, name=name, fields=by_field, labels=by_label)


def forbidden(attributes: Attributes, reason: str) -> Forbidden:
    """The 403 in Kubernetes' words (responsewriters.ForbiddenStatusError)."""
    user, verb = go_quote(attributes.user.name), attributes.verb
    if not attributes.is_resource:
        why = f"User {user} cannot {verb} path {go_quote(attributes.path)}"
        return Forbidden("forbidden: " + (f"{why}: {reason}" if reason else why), details={})
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    why = f"User {user} cannot {verb} resource {go_quote(resource)} in API group {go_quote(attributes.group)} "
    why += f"in the namespace {go_quote(attributes.namespace)}" if attributes.namespace else "at the cluster scope"
    if reason:
        why += f": {reason}"
    group_resource = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    details: Object = {"name": attributes.name} if attributes.name else {}
    if attributes.group:
        details["group"] = attributes.group
    details["kind"] = attributes.resource
    quoted = f" {go_quote(attributes.name)}" if attributes.name else ""
    return Forbidden(f"{group_resource}{quoted} is forbidden: {why}", details=details)
