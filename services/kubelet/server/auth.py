"""Who may call the kubelet's API, by client certificate. Pure but for reading the certificate.

Leaves out: bearer tokens and SubjectAccessReviews; a certificate of the cluster's CA decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ADMIN_GROUP = "system:masters"
NODE_GROUPS = frozenset(("system:nodes", "kubecosm:node-hosts"))
"""Kubelets: of one node, and of many."""
PROXY_USER = "system:kube-proxy"
OPEN_PATHS = frozenset(("/healthz", "/livez", "/readyz"))
READ_PATHS = ("/metrics", "/stats", "/pods", "/healthz", "/livez", "/readyz")


@dataclass(frozen=True, slots=True)
class Caller:
    user: str
    groups: tuple[str, ...]


def caller_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """Common name and organizations of a verified peer certificate, as ssl.getpeercert() gives it; None if there is none."""
    if not certificate:
        return None
    names: Sequence[Sequence[tuple[str, str]]] = certificate.get("subject", ())
    pairs = [pair for group in names for pair in group]
    user = next((value for key, value in pairs if key == "commonName"), "")
    return Caller(user, tuple(value for key, value in pairs if key == "organizationName"))


def refusal(caller: Caller | None, method: str, path: str) -> tuple[int, str] | None:
    """(code, message) if the call is not allowed."""
    if path in OPEN_PATHS and method == "GET":
        return None
    if caller is None:
        return 401, "Unauthorized"
    if ADMIN_GROUP in caller.groups:
        return None
    if method == "CONNECT" and (caller.user == PROXY_USER or not NODE_GROUPS.isdisjoint(caller.groups)):
        return None
    if method == "GET" and path.startswith(READ_PATHS):
        return None
    return 403, f"Forbidden (user={caller.user}, verb={_verb(method)}, resource=nodes, subresource(s)=[proxy])\n"


def _verb(method: str) -> str:
    return {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, method.lower())
