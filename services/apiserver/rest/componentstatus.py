"""ComponentStatuses (deprecated, but `kubectl get cs` still asks): what this server knows, which is its storage."""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.resources import Object, Resource

from ..http.request import Request
from ..http.response import Answer
from .represent import answer_object

STORAGE = "etcd-0"


def answer(request: Request, row: Resource) -> Answer:
    """A server that answers has a storage that works."""
    status: Object = {"metadata": {"name": STORAGE}, "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}
    name = request.info.name
    if not name:
        return answer_object(request, {"kind": row.list_kind, "apiVersion": row.api_version, "metadata": {}, "items": [status]})
    if name != STORAGE:
        raise errors.not_found(row, name)
    return answer_object(request, {"kind": row.kind, "apiVersion": row.api_version, **status})
