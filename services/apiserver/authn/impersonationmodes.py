"""The ways in which somebody may act as somebody else, from the most restricted one on.

A constrained mode takes two rights: `impersonate:<mode>` on whom one wants to be, and `impersonate-on:<mode>:<verb>` on what one wants to
do as him. The old way takes `impersonate` alone, and is good for everything. Imitates
k8s.io/apiserver/pkg/endpoints/filters/impersonation (mode.go, constrained_impersonation.go). Left out: its caches of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kubecosm.api.errors import Forbidden
from kubecosm.api.field import go_quote
from kubecosm.api.names import USER_EXTRA_PREFIX
from kubecosm.api.validation import dns1123_subdomain

from ..authz.attributes import Attributes, Authorizer, CannotDecide, Decision, decide
from ..authz.filter import forbidden
from .accounts import GROUP_ALL, USER_PREFIX
from .user import ANONYMOUS, GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_UNAUTHENTICATED, User

AUTHN_GROUP = "authentication.k8s.io"
NODE_PREFIX = "system:node:"
NODE_NAME_EXTRA = f"{USER_EXTRA_PREFIX}node-name"
NODE_KEYS_EXTRA = f"{USER_EXTRA_PREFIX}associated-node-keys"
MANY = 4
"""From so many groups or extra values on, one question about all of them is asked first."""
REMEMBERED_MAX = 1024
"""Users whose last successful mode is remembered."""


@dataclass(frozen=True)
class Mode:
    """`applies` tells of (wanted, requestor) whether the mode is for such."""

    name: str
    applies: Callable[[User, User], bool]

    @property
    def is_constrained(self) -> bool:
        return bool(self.name)

    @property
    def verb(self) -> str:
        return f"impersonate:{self.name}" if self.name else "impersonate"

    @property
    def constraint(self) -> str:
        """As the audit event names it."""
        return self.verb if self.name else ""


def node_of(username: str) -> str:
    """The name of the node that a user is; empty if it is none."""
    name = username.removeprefix(NODE_PREFIX)
    return name if name != username and not dns1123_subdomain(name) else ""


def account_of(username: str) -> tuple[str, str] | None:
    """(namespace, name) of the ServiceAccount that a user is."""
    if not username.startswith(USER_PREFIX) or username.count(":") != 3:
        return None
    namespace, _, name = username[len(USER_PREFIX) :].partition(":")
    return (namespace, name) if namespace and name else None


def _is_name_only(user: User) -> bool:
    return not (user.uid or user.groups or user.extra)


def _is_own_node(wanted: User, requestor: User) -> bool:
    node = node_of(wanted.name)
    return bool(node) and account_of(requestor.name) is not None and requestor.extra.get(NODE_NAME_EXTRA) == (node,)


ASSOCIATED_NODE = Mode("associated-node", lambda wanted, requestor: _is_name_only(wanted) and _is_own_node(wanted, requestor))
MODES = (
    ASSOCIATED_NODE,
    Mode("arbitrary-node", lambda wanted, _: _is_name_only(wanted) and bool(node_of(wanted.name))),
    Mode("serviceaccount", lambda wanted, _: _is_name_only(wanted) and account_of(wanted.name) is not None),
    Mode("user-info", lambda wanted, _: not node_of(wanted.name) and account_of(wanted.name) is None),
    Mode("", lambda _wanted, _requestor: True),
)


class Impersonations:
    """Finds the mode in which somebody may be somebody else; the one that worked last for him is tried first."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._last: dict[str, Mode] = {}

    async def impersonated(self, wanted: User, attributes: Attributes) -> tuple[User, str]:
        """(who the request is from now on, by which constraint). Raises Forbidden with what the first mode lacks."""
        requestor, refusal = attributes.user, None
        last = self._last.get(requestor.name)
        for mode in (*((last,) if last is not None else ()), *(mode for mode in MODES if mode is not last)):
            if not mode.applies(wanted, requestor):
                continue
            try:
                await self._check(mode, wanted, attributes)
            except Forbidden as error:
                refusal = refusal or error
                continue
            if mode is not last:
                if len(self._last) >= REMEMBERED_MAX:
                    self._last.clear()
                self._last[requestor.name] = mode
            return actual_user(mode, wanted), mode.constraint
        assert refusal is not None  # the old way is for everybody
        raise refusal

    async def _check(self, mode: Mode, wanted: User, attributes: Attributes) -> None:
        """Raises Forbidden."""
        if mode.is_constrained:
            await self._ask(mode, replace(attributes, verb=f"impersonate-on:{mode.name}:{attributes.verb}"))
        subject = Attributes(attributes.user, mode.verb, version="v1")
        await self._ask(mode, _of_name(mode, wanted.name, subject))
        if wanted.uid:
            await self._ask(mode, replace(subject, group=AUTHN_GROUP, resource="uids", name=wanted.uid))
        if wanted.groups:
            await self._check_groups(mode, wanted, replace(subject, group=AUTHN_GROUP if mode.is_constrained else "", resource="groups"))
        if wanted.extra:
            await self._check_extra(mode, wanted, replace(subject, group=AUTHN_GROUP, resource="userextras"))

    async def _check_groups(self, mode: Mode, wanted: User, subject: Attributes) -> None:
        if mode.is_constrained:
            if "" in wanted.groups:
                raise forbidden(subject, "impersonating the empty string group is not allowed")
            if GROUP_MASTERS in wanted.groups:
                raise forbidden(replace(subject, name=GROUP_MASTERS), "impersonating the system:masters group is not allowed")
            if len(wanted.groups) >= MANY and await self._may(replace(subject, name="*")):
                return
        for group in wanted.groups:
            await self._ask(mode, replace(subject, name=group))

    async def _check_extra(self, mode: Mode, wanted: User, subject: Attributes) -> None:
        if mode.is_constrained:
            if problem := next(_extra_problems(wanted), None):
                raise forbidden(subject, problem)
            count = max(len(wanted.extra), sum(map(len, wanted.extra.values())))
            if count >= MANY and await self._may(replace(subject, subresource="*", name="*")):
                return
        for key, values in wanted.extra.items():
            for value in values:
                await self._ask(mode, replace(subject, subresource=key, name=value))

    async def _may(self, attributes: Attributes) -> bool:
        try:
            return (await decide(self._authorizer, attributes))[0] is Decision.ALLOW
        except CannotDecide:
            return False

    async def _ask(self, mode: Mode, attributes: Attributes) -> None:
        """Raises Forbidden."""
        if mode is ASSOCIATED_NODE:
            attributes = of_any_node(attributes)
        try:
            decision, reason = await decide(self._authorizer, attributes)
        except CannotDecide as error:
            decision, reason = Decision.NO_OPINION, str(error)
        if decision is not Decision.ALLOW:
            raise forbidden(attributes, reason)


def _of_name(mode: Mode, username: str, subject: Attributes) -> Attributes:
    """The question about the name: old rules know users and ServiceAccounts as the core group's, and no nodes."""
    group = AUTHN_GROUP if mode.is_constrained else ""
    if mode.is_constrained and (node := node_of(username)):
        return replace(subject, group=group, resource="nodes", name=node)
    account = account_of(username)
    if account is not None:
        return replace(subject, group=group, resource="serviceaccounts", namespace=account[0], name=account[1])
    return replace(subject, group=group, resource="users", name=username)


def of_any_node(attributes: Attributes) -> Attributes:
    """Who may be the node he runs on may be so wherever he runs: neither the node nor what else his token says is asked about."""
    user = replace(attributes.user, extra={NODE_KEYS_EXTRA: tuple(sorted(attributes.user.extra))})
    return replace(attributes, user=user, name="*" if attributes.verb == ASSOCIATED_NODE.verb else attributes.name)


def actual_user(mode: Mode, wanted: User) -> User:
    """The wanted one with the groups that everybody of his kind has."""
    groups = wanted.groups
    account = account_of(wanted.name)
    if mode.is_constrained and node_of(wanted.name):
        groups = (GROUP_NODES,)
    elif account is not None and not groups:
        groups = (GROUP_ALL, f"{GROUP_ALL}:{account[0]}")
    if wanted.name == ANONYMOUS.name:
        own = GROUP_UNAUTHENTICATED
    elif GROUP_UNAUTHENTICATED in groups:
        return replace(wanted, groups=groups)
    else:
        own = GROUP_AUTHENTICATED
    return replace(wanted, groups=groups if own in groups else (*groups, own))


def _extra_problems(wanted: User) -> Iterator[str]:
    """Why a constrained mode does not take some of the extra."""
    for key, values in wanted.extra.items():
        if not key:
            yield "impersonating the empty string key in extra is not allowed"
        domain, slash, path = key.partition("/")
        if not slash or not path or dns1123_subdomain(domain):
            complaint = f'extra.key: Invalid value: {go_quote(key)}: must be a domain-prefixed path (such as "acme.io/foo")'
            yield f"impersonating an invalid key in extra is not allowed: {complaint}"
        if "" in values:
            yield "impersonating the empty string value in extra is not allowed"
