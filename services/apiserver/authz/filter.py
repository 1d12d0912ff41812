"""The authorization filter."""

from __future__ import annotations

from kubecosm.api.errors import Forbidden
from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

from ..authn.user import GROUP_MASTERS
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from .attributes import Attributes, Authorizer, Decision


def with_authorization(authorizer: Authorizer) -> Filter:
    """403 unless somebody allows it."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if GROUP_MASTERS in request.user.groups:  # never restricted: saves building the attributes
                return await inner(request)
            attributes = attributes_of(request)
            decision, reason = authorizer.authorize(attributes)
            if decision is not Decision.ALLOW:
                raise forbidden(attributes, reason)
            return await inner(request)

        return handle

    return wrap


def attributes_of(request: Request) -> Attributes:
    info = request.info
    return Attributes(
        user=request.user, verb=request.verb, namespace=info.namespace, group=info.group, version=info.version, resource=info.resource,
        subresource=info.subresource, name=info.name, is_resource=info.is_resource, path=info.path,
    )  # fmt: skip


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
