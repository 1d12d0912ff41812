"""Serves discovery documents, built when first asked for and kept until the table changes; ETags spare clients the body."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import orjson

from kubecosm.api.resources import CustomResource, Object, Resource, ResourceTable

from ..aggregation.catalog import Catalog
from ..http.request import Request
from ..http.response import JSON, Answer, Response
from ..rest.accept import accepted
from ..rest.represent import encode_as
from ..rest.router import method_not_allowed, not_found, page_not_found
from . import documents

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ANSWERS_KEPT_MAX = 512


class Discovery:
    """/api, /apis and below."""

    def __init__(self, table: ResourceTable, catalog: Catalog, stored: Callable[[Resource], Resource | None], server_address: str) -> None:
        self._table = table
        self._catalog = catalog
        self._stored = stored
        self._server_address = server_address
        self._generation = (table.generation, catalog.generation)
        self._kept: dict[tuple[str, str, bool], tuple[bytes, str, str]] = {}  # (path, Accept, indented) -> body, content type, ETag

    def matches(self, path: str) -> bool:
        """Whether the path (without its last slash) is one of discovery's."""
        parts = path.strip("/").split("/")
        return (parts[0] == "api" and len(parts) <= 2) or (parts[0] == "apis" and len(parts) <= 3)

    def _is_routed(self, path: str) -> bool:
        """Whether a GET alone is served: by a web service of the core. The lists of groups and what is custom look at no method."""
        parts = path.strip("/").split("/")
        if parts[0] == "apis" and len(parts) < 3:
            return False
        group, version = ("", parts[-1]) if parts[0] == "api" else (parts[1], parts[2])
        built_in = (row for row in self._table if not isinstance(row, CustomResource))
        return parts == ["api"] or any(row.group == group and row.version == version for row in built_in)

    async def handle(self, request: Request) -> Answer:
        """Raises MethodNotAllowed, NotFound."""
        path, accept = request.path.rstrip("/"), request.headers.get("Accept", "")
        if request.method != "GET" and self._is_routed(path):
            raise method_not_allowed()
        if self._generation != (self._table.generation, self._catalog.generation):
            self._generation = (self._table.generation, self._catalog.generation)
            self._kept.clear()
        pretty = request.for_people
        kept = self._kept.get((path, accept, pretty))
        if kept is None:
            document, content_type = self._build(path, accept)
            if document is None:
                return page_not_found()
            body = orjson.dumps(document)
            if not content_type:
                body, content_type = encode_as(replace(found := accepted(accept), pretty=found.pretty or pretty), document)
            kept = body, content_type, f'"{hashlib.sha256(body).hexdigest().upper()}"'
            if len(self._kept) < _ANSWERS_KEPT_MAX:
                self._kept[path, accept, pretty] = kept
        body, content_type, etag = kept
        extra = [("Vary", "Accept")]
        if "apidiscovery" in content_type:
            extra.append(("ETag", etag))
            if request.headers.get("If-None-Match") == etag:
                return Response(304, b"", content_type, extra)
        return Response(200, body, content_type, extra)

    def _build(self, path: str, accept: str) -> tuple[Object | None, str]:
        """(document, content type if it is not the negotiated one)."""
        parts = path.strip("/").split("/")
        if len(parts) == 1:
            core = parts[0] == "api"
            if wants_aggregated(accept):
                self._catalog.aggregations += 1
                return documents.aggregated(self._table, self._versions(), self._catalog.documents, core=core), AGGREGATED_TYPE
            return (documents.api_versions(self._server_address) if core else documents.api_group_list(self._versions())), ""
        if parts[0] == "apis" and len(parts) == 2:
            versions = self._versions().get(parts[1])
            if versions is None:
                return None, ""
            return {"kind": "APIGroup", "apiVersion": "v1", **documents.api_group(parts[1], versions)}, ""
        group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
        rows = [row for row in self._table if row.group == group and row.version == version]
        if not rows:
            if group in self._versions() and parts[0] == "apis":
                raise not_found()
            return None, ""
        return documents.api_resource_list(rows, self._storage_hash), ""

    def _versions(self) -> dict[str, list[str]]:
        return self._catalog.group_versions(self._table)

    def _storage_hash(self, row: Resource) -> str:
        stored = self._stored(row)
        return documents.storage_version_hash(stored) if stored is not None and "list" in row.verbs else ""


def wants_aggregated(accept: str) -> bool:
    """Whether aggregated discovery is the first alternative of the Accept header that we serve."""
    for alternative in accept.replace(" ", "").split(","):
        if "as=APIGroupDiscoveryList" in alternative and alternative.startswith(JSON):
            return "g=apidiscovery.k8s.io" in alternative and "v=v2" in alternative.split(";")
        if alternative.split(";")[0] in (JSON, "*/*"):
            return False
    return False
