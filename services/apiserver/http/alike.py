"""Requests that are alike: the same user does the same with the same resource, and only the name of the object differs.

A client asks for much the same again and again. What the filters find out about such a request (is he allowed, which flow is he in, what
is recorded, where is it counted) is found once and kept here, so that a request costs one look-up and each filter a comparison. Who keeps
something also keeps what it depends on: a number that has changed since means that it must be found anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..authn.metrics import KNOWN_NAMES
from .info import LONG_RUNNING_SUBRESOURCES, READ_ONLY_VERBS, PathInfo, Target

if TYPE_CHECKING:
    from ..audit.policy import Verdict
    from ..authn.user import User
    from ..flowcontrol.flows import Flow
    from .metrics import Series

SYSTEM_CLIENTS = {
    "system:apiserver": "kube-apiserver", "system:kube-controller-manager": "kube-controller-manager", "system:kube-proxy": "kube-proxy",
    "system:kube-scheduler": "kube-scheduler",
}  # fmt: skip
"""User → the component that it is, as the metrics' label system_client says. Others are not told apart."""
ALIKES_REMEMBERED_MAX = 16_384
"""Kinds of request; when there are more, all are found anew. Some 400 bytes each."""


class Alike:
    """What is known of such requests. Each filter fills in its own part."""

    __slots__ = (
        "allowed", "asked_at", "client", "flow", "flow_epoch", "has_known_name", "is_long_running", "is_patch", "is_read_only", "level",
        "series", "takes_one_seat",
    )  # fmt: skip

    def __init__(self, user: User, verb: str, info: PathInfo) -> None:
        self.client = SYSTEM_CLIENTS.get(user.name)
        """The component of the system that the user is, if metrics tell it from others."""
        self.has_known_name = user.name in KNOWN_NAMES or "@" in user.name
        """Whether metrics tell the user from others."""
        self.is_read_only = verb in READ_ONLY_VERBS
        self.is_long_running = is_long_running_verb(verb, info)
        self.is_patch = verb == "patch"
        self.takes_one_seat = self.is_read_only and (verb == "get" or not info.is_resource)
        self.series: Series | None = None
        """Where they are counted, if their query does not matter."""
        self.level: Verdict | None = None
        """What the audit policy says, if it says so whatever the name."""
        self.allowed: str | None = None
        """Why they are allowed, whatever the name; None if each must be asked about."""
        self.asked_at = -1
        """The authorizer's version when it was asked."""
        self.flow: Flow | None = None
        self.flow_epoch = -1
        """The epoch of priority and fairness in which the flow was found."""


def is_long_running_verb(verb: str, info: PathInfo) -> bool:
    """Watches, and streams to kubelets (genericfilters.BasicLongRunningRequestCheck)."""
    return verb == "watch" or (info.is_resource and info.subresource in LONG_RUNNING_SUBRESOURCES)


class Alikes:
    """A bounded table of them."""

    def __init__(self) -> None:
        self._known: dict[tuple[User, str, Target], Alike] = {}

    def of(self, user: User, verb: str, info: PathInfo) -> Alike:
        key = (user, verb, info.target)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= ALIKES_REMEMBERED_MAX:
                self._known.clear()
            found = self._known[key] = Alike(user, verb, info)
        return found
