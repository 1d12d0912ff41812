"""The impersonation filter: whoever may impersonate acts as somebody else (`kubectl --as`).

Imitates k8s.io/apiserver/pkg/endpoints/filters/impersonation.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import unquote

from kubecosm.api.errors import InternalError

from ..authz.attributes import Attributes, Authorizer, Decision, decide
from ..authz.filter import answered, forbidden
from ..http.alike import Alikes
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from .accounts import GROUP_ALL, USER_PREFIX
from .user import ANONYMOUS, GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, User

USER, GROUP, UID, EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"
AUTHN_GROUP = "authentication.k8s.io"


def with_impersonation(authorizer: Authorizer, alikes: Alikes) -> Filter:
    """Replaces request.user by the one asked for. Raises Forbidden, InternalError."""

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            headers = request.headers
            if USER in headers or GROUP in headers or UID in headers:
                return impersonate(request)
            return inner(request)

        async def impersonate(request: Request) -> Answer:
            headers = request.headers
            wanted = wanted_user(headers)
            for attributes in _permissions(request.user, wanted, headers):
                decision, reason = await answered(decide(authorizer, attributes))
                if decision is not Decision.ALLOW:
                    raise forbidden(attributes, reason)
            request.user = wanted
            request.alike = alikes.of(wanted, request.verb, request.info)
            return await inner(request)

        return handle

    return wrap


def wanted_user(headers: Mapping[str, str]) -> User:
    """Who the headers ask for, with the groups that everybody of his kind has. Raises InternalError."""
    name, uid = headers.get(USER, ""), headers.get(UID, "")
    groups, extra = _all(headers, GROUP), _extra(headers)
    if not name:
        given = {"groups": groups, "uid": uid, "extra": extra}
        what = next((kind for kind, value in given.items() if value), "user")
        raise InternalError(f"Internal error occurred: requested {what} impersonation without impersonating a user")
    if not groups and name.startswith(USER_PREFIX):
        namespace = name[len(USER_PREFIX) :].partition(":")[0]
        groups = [GROUP_ALL, f"{GROUP_ALL}:{namespace}"]
    own = GROUP_UNAUTHENTICATED if name == ANONYMOUS.name else GROUP_AUTHENTICATED
    if GROUP_AUTHENTICATED not in groups and GROUP_UNAUTHENTICATED not in groups:
        groups = [*groups, own]
    return User(name, tuple(groups), uid, {key: tuple(values) for key, values in extra.items()})


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in headers.items() if key.lower() == name.lower()]


def _extra(headers: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith(EXTRA.lower()):
            found.setdefault(unquote(key[len(EXTRA) :]).lower(), []).append(value)
    return found


def _permissions(user: User, wanted: User, headers: Mapping[str, str]) -> Iterator[Attributes]:
    """What the caller must be allowed to do."""
    verb = Attributes(user, "impersonate", version="v1")
    if wanted.name.startswith(USER_PREFIX) and wanted.name.count(":") == 3:
        namespace, _, name = wanted.name[len(USER_PREFIX) :].partition(":")
        yield replace(verb, resource="serviceaccounts", namespace=namespace, name=name)
    else:
        yield replace(verb, resource="users", name=wanted.name)
    for group in _all(headers, GROUP):
        yield replace(verb, resource="groups", name=group)
    if wanted.uid:
        yield replace(verb, group=AUTHN_GROUP, resource="uids", name=wanted.uid)
    for key, values in wanted.extra.items():
        for value in values:
            yield replace(verb, group=AUTHN_GROUP, resource="userextras", subresource=key, name=value)
