"""ComponentStatuses (deprecated, but `kubectl get cs` still asks): what this server knows, which is its storage."""

from __future__ import annotations

from datetime import datetime

from kubecosm.api import errors
from kubecosm.api.resources import Object, Resource

from ..http.request import Request
from ..http.response import Answer
from .represent import answer_unstored

STORAGE = "etcd-0"


def answer(request: Request, row: Resource, now: datetime) -> Answer:
    """A server that answers has a storage that works."""
    status: Object = {"metadata": {"name": STORAGE}, "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}
    name = request.info.name
    if name not in ("", STORAGE):
        raise errors.not_found(row, name)
    whole = {"kind": row.kind, "apiVersion": row.api_version, **status}
    listed = {"kind": row.list_kind, "apiVersion": row.api_version, "metadata": {}, "items": [status]}
    return answer_unstored(request, row, whole if name else listed, [whole], now)
