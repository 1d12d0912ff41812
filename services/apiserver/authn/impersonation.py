"""The impersonation filter: whoever may impersonate acts as somebody else (`kubectl --as`).

Imitates k8s.io/apiserver/pkg/endpoints/filters/impersonation (constrained_impersonation.go); `impersonationmodes` has what it takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from urllib.parse import unquote

from kubecosm.api.errors import BadRequest
from kubecosm.api.field import go_quote

from ..authz.attributes import Authorizer
from ..authz.filter import attributes_of
from ..http.alike import Alikes
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from .impersonationmodes import Impersonations
from .user import User

USER, GROUP, UID, EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"


def with_impersonation(authorizer: Authorizer, alikes: Alikes) -> Filter:
    """Replaces request.user by the one asked for. Raises Forbidden, BadRequest."""
    impersonations = Impersonations(authorizer)

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            headers = request.headers
            if USER in headers or GROUP in headers or UID in headers:
                return impersonate(request)
            return inner(request)

        async def impersonate(request: Request) -> Answer:
            wanted = wanted_user(request.headers)
            if wanted is not None:
                user, constraint = await impersonations.impersonated(wanted, attributes_of(request))
                if request.audit is not None:
                    request.audit.constraint = constraint
                request.user = user
                request.alike = alikes.of(user, request.verb, request.info)
            return await inner(request)

        return handle

    return wrap


def wanted_user(headers: Mapping[str, str]) -> User | None:
    """Whom the headers ask for, as they say; None if they name nobody. Raises BadRequest for the rest of a user without a name."""
    name, uid = headers.get(USER, ""), headers.get(UID, "")
    groups, extra = _all(headers, GROUP), _extra(headers)
    if not name:
        if uid or groups or extra:
            raise BadRequest(f"requested {_go_syntax(uid, groups, extra)} without impersonating a user name")
        return None
    return User(name, tuple(groups), uid, {key: tuple(values) for key, values in extra.items()})


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in headers.items() if key.lower() == name.lower()]


def _extra(headers: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith(EXTRA.lower()):
            found.setdefault(unquote(key[len(EXTRA) :]).lower(), []).append(value)
    return found


def _go_syntax(uid: str, groups: Sequence[str], extra: Mapping[str, Sequence[str]]) -> str:
    """A user.DefaultInfo as Go's %#v shows it."""

    def texts(values: Sequence[str]) -> str:
        return f"[]string{{{', '.join(map(go_quote, values))}}}"

    shown = texts(groups) if groups else "[]string(nil)"
    more = f"map[string][]string{{{', '.join(f'{go_quote(k)}:{texts(v)}' for k, v in sorted(extra.items()))}}}"
    if not extra:
        more = "map[string][]string(nil)"
    return f'&user.DefaultInfo{{Name:"", UID:{go_quote(uid)}, Groups:{shown}, Extra:{more}}}'
