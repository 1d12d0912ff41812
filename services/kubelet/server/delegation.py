"""The API server says whose a token is, and whether a caller may do what he asks of the kubelet. Answers are remembered for a while.

Imitates pkg/kubelet/server (AuthFilter) with webhook authentication and authorization, which kubeadm's kubelets have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object, Resource, builtin
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger
from kubecosm.runtime.remembered import Remembered

from .auth import Caller, described, forbidden, settled, subresources_of, verb_of

log = get_logger("kubelet")

TOKEN_REVIEWS = builtin("authentication.k8s.io", "v1", "tokenreviews")
ACCESS_REVIEWS = builtin("authorization.k8s.io", "v1", "subjectaccessreviews")
REMEMBERED_MAX = 1024
UNAUTHORIZED = (401, "Unauthorized")
Refusal = tuple[int, str]
"""(HTTP code, text)."""


class Gate(Protocol):
    """Lets a request in or not."""

    async def refusal(self, caller: Caller | None, method: str, path: str, headers: Mapping[str, str], node_ip: str) -> Refusal | None:
        """None if it may go on. `caller` is whom the certificate names."""


class CertifiedGate:
    """Whoever has a certificate may do everything (--authorization-mode=AlwaysAllow)."""

    async def refusal(self, caller: Caller | None, method: str, path: str, headers: Mapping[str, str], node_ip: str) -> Refusal | None:
        if settled(caller, method, path):
            return None
        if caller is None:
            return UNAUTHORIZED
        return None if method != "CONNECT" else forbidden(caller, method, path)


class DelegatedGate:
    """Asks the API server about tokens and rights (--authorization-mode=Webhook)."""

    def __init__(
        self, client: ApiClient, clock: Clock, node_of: Callable[[str], str], *, token_seconds: float, allowed_seconds: float,
        refused_seconds: float,
    ) -> None:  # fmt: skip
        """`node_of` gives the name of the node with an address; times say how long answers are remembered (0: no tokens)."""
        self._client = client
        self._node_of = node_of
        self._token_seconds = token_seconds
        self._allowed_seconds, self._refused_seconds = allowed_seconds, refused_seconds
        self._callers: Remembered[Caller | bool] = Remembered(clock.monotonic, REMEMBERED_MAX)
        self._rights: Remembered[bool] = Remembered(clock.monotonic, REMEMBERED_MAX)

    async def refusal(self, caller: Caller | None, method: str, path: str, headers: Mapping[str, str], node_ip: str) -> Refusal | None:
        verdict = settled(caller, method, path)
        if verdict is None and caller is None:
            caller = await self._authenticated(headers.get("authorization", ""))
            verdict = settled(caller, method, path)
        if verdict:
            return None
        if caller is None:
            return UNAUTHORIZED
        if verdict is False:
            return forbidden(caller, method, path)
        try:
            for subresource in subresources_of(path):
                if await self._may(caller, verb_of(method), self._node_of(node_ip), subresource):
                    return None
        except (ApiError, *TRANSPORT_ERRORS) as error:
            log.error("the API server cannot be asked whether a caller may", user=caller.user, path=path, error=str(error))
            return 500, f"Authorization error ({described(caller, method, path)})\n"
        return forbidden(caller, method, path)

    async def _authenticated(self, header: str) -> Caller | None:
        """Whom a bearer token stands for."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or not self._token_seconds:
            return None
        key = hashlib.sha256(token.encode()).digest()
        known = self._callers.get(key)
        if known is None:
            try:
                known = caller_of_review(await self._ask(TOKEN_REVIEWS, {"token": token.strip()})) or False
            except (ApiError, *TRANSPORT_ERRORS) as error:
                log.error("the API server cannot be asked whose a token is", error=str(error))
                return None
            self._callers.put(key, known, self._token_seconds)
        return known if isinstance(known, Caller) else None

    async def _may(self, caller: Caller, verb: str, node: str, subresource: str) -> bool:
        """Raises ApiError, or one of TRANSPORT_ERRORS."""
        key = (caller.user, caller.groups, caller.uid, verb, node, subresource)
        known = self._rights.get(key)
        if known is None:
            attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node}
            spec: Object = {
                "user": caller.user, "groups": list(caller.groups), "uid": caller.uid, "resourceAttributes": attributes,
                "extra": {name: list(values) for name, values in caller.extra.items()},
            }  # fmt: skip
            known = bool((await self._ask(ACCESS_REVIEWS, spec)).get("allowed"))
            self._rights.put(key, known, self._allowed_seconds if known else self._refused_seconds)
        return known

    async def _ask(self, resource: Resource, spec: Object) -> Object:
        """The status of a review."""
        review = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {}, "spec": spec}
        status: Object = (await self._client.create(resource, review)).get("status") or {}
        return status


def caller_of_review(status: Object) -> Caller | None:
    """Who a TokenReview's status says it is; None if the token is not good."""
    if not status.get("authenticated"):
        return None
    user = status.get("user") or {}
    extra = {name: tuple(values) for name, values in (user.get("extra") or {}).items()}
    return Caller(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""), extra)
