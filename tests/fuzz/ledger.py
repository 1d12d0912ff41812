"""What the server has acknowledged, to be found again at the end: no write may be lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.plan import Planned

SHARED = (("/apis/events.k8s.io/v1/", "/api/v1/"), ("/apis/autoscaling/v1/", "/apis/autoscaling/v2/"))
"""One object under two addresses."""


def address(path: str) -> str:
    for one, other in SHARED:
        path = path.replace(one, other)
    return path


@dataclass
class Ledger:
    """address → (uid, resourceVersion) of the last write of each object that was answered with success."""

    written: dict[str, tuple[str, int]] = field(default_factory=dict)

    def record(self, request: Planned, status: int, answer: Any) -> None:
        """Takes up one answer. Dry runs and refusals change nothing."""
        if status >= 300 or request.method == "GET" or request.is_dry:
            return
        operation = request.operation
        if request.method == "DELETE":
            self._forget(request.path, whole_collection=not operation.names_one)
            return
        if operation.subresource:
            self._record_subresource(request, answer)
            return
        meta = answer.get("metadata") if isinstance(answer, Mapping) else None
        if not isinstance(meta, Mapping) or not str(meta.get("resourceVersion", "")).isdigit() or "uid" not in meta:
            self._forget(request.path, whole_collection=False)  # answered as a Table, or a review
            return
        place = address(request.path if operation.names_one else f"{request.path}/{meta['name']}")
        if meta.get("deletionTimestamp"):
            self.written.pop(place, None)  # the write may have taken its last finalizer away
        else:
            self.written[place] = (meta["uid"], int(meta["resourceVersion"]))

    def _record_subresource(self, request: Planned, answer: Any) -> None:
        if request.operation.subresource in ("eviction", "finalize", "status"):
            self.written.pop(address(request.path.rpartition("/")[0]), None)

    def _forget(self, path: str, *, whole_collection: bool) -> None:
        place = address(path)
        if whole_collection:
            for known in [known for known in self.written if known.startswith(place + "/") or "{namespace}" in place]:
                del self.written[known]
            return
        self.written.pop(place, None)
        if "/services/" in place:
            self.written.pop(place.replace("/services/", "/endpoints/"), None)  # go together

    @staticmethod
    def complaint(place: str, wanted: tuple[str, int], status: int, found: Any) -> str:
        """What is wrong with the object that is found at an address; empty if it is the written one or a newer."""
        if status != 200:
            return f"{place}: acknowledged as {wanted}, but its GET answers {status}"
        meta = found["metadata"]
        if meta["uid"] != wanted[0] or int(meta["resourceVersion"]) < wanted[1]:
            return f"{place}: acknowledged as {wanted}, found as {(meta['uid'], meta['resourceVersion'])}"
        return ""
