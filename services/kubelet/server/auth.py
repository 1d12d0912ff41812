"""Who calls the kubelet's API, and what his request would have to be allowed. Pure.

Imitates pkg/kubelet/server/auth.go (NodeRequestAttributesGetter, with fine-grained subresources); `delegation` asks the API server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ADMIN_GROUP = "system:masters"
AUTHENTICATED_GROUP = "system:authenticated"
NODE_GROUPS = frozenset(("system:nodes", "kubecosm:node-hosts"))
"""Kubelets: of one node, and of many."""
PROXY_USER = "system:kube-proxy"
OPEN_PATHS = frozenset(("/healthz", "/livez", "/readyz"))
_PROXY = "proxy"
_SUBRESOURCES = {
    "stats": ("stats",), "metrics": ("metrics",), "logs": ("log",), "checkpoint": ("checkpoint",), "pods": ("pods", _PROXY),
    "runningpods": ("pods", _PROXY), "healthz": ("healthz", _PROXY), "configz": ("configz", _PROXY),
}  # fmt: skip
"""First part of the path → subresources of the node, of which one must be allowed; anything else is `proxy`."""
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Caller:
    user: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)


def caller_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """Common name and organizations of a verified peer certificate, as ssl.getpeercert() gives it; None if there is none."""
    if not certificate:
        return None
    names: Sequence[Sequence[tuple[str, str]]] = certificate.get("subject", ())
    pairs = [pair for group in names for pair in group]
    user = next((value for key, value in pairs if key == "commonName"), "")
    return Caller(user, (*(value for key, value in pairs if key == "organizationName"), AUTHENTICATED_GROUP))


def settled(caller: Caller | None, method: str, path: str) -> bool | None:
    """Whether the call is allowed, where nobody need be asked; None where somebody must be.

    CONNECT is ours: proxies and other kubelets reach pods by it.
    """
    if path in OPEN_PATHS and method == "GET":
        return True
    if caller is None:
        return None
    if ADMIN_GROUP in caller.groups:
        return True
    if method == "CONNECT":
        return caller.user == PROXY_USER or not NODE_GROUPS.isdisjoint(caller.groups)
    return None


def verb_of(method: str) -> str:
    return _VERBS.get(method, method.lower())


def subresources_of(path: str) -> tuple[str, ...]:
    """Which subresources of the node a path stands for; one of them must be allowed."""
    return _SUBRESOURCES.get(path.lstrip("/").partition("/")[0], (_PROXY,))


def forbidden(caller: Caller, method: str, path: str) -> tuple[int, str]:
    return 403, f"Forbidden ({described(caller, method, path)})\n"


def described(caller: Caller, method: str, path: str) -> str:
    return f"user={caller.user}, verb={verb_of(method)}, resource=nodes, subresource(s)=[{' '.join(subresources_of(path))}]"
