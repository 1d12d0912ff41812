"""Serves /openapi/v2 and /openapi/v3: documents are built when first asked for, kept compressed, and spared by ETags and hashes.

Imitates k8s.io/kube-openapi's handlers. Left out: v3 as protobuf.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qs

import orjson

import kubecosm
from kubecosm.api.resources import Object, Resource, ResourceTable

from . import protobuf
from .descriptions import source
from .documents import CustomSchema, no_custom_schema, v2, v3, v3_general
from .general import documents as general_documents
from .operations import Operation

DOCUMENTS_KEPT_MAX = 8
"""Compressed documents kept in memory, least recently used first to go; one is 20-250 KB."""
JSON = "application/json"
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_PROTOBUF_OLD = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_ACCEPTS = (JSON, "application/*", "*/*", "*")

Answer = tuple[int, dict[str, str], bytes]
"""(status, headers, body)."""


class Extensions(Protocol):
    """What extension servers add to the documents."""

    digest: str
    """Another one when anything has changed; empty when there is nothing."""

    def urls(self) -> Mapping[str, Object]:
        """Entries of /openapi/v3's index."""

    def merged(self, document: Object) -> Object:
        """The v2 document with theirs in it."""

    def document(self, name: str) -> bytes | None:
        """A v3 document that was made for one that has only v2."""


class NoExtensions:
    digest = ""

    def urls(self) -> Mapping[str, Object]:
        return {}

    def merged(self, document: Object) -> Object:
        return document

    def document(self, name: str) -> bytes | None:
        return None


NO_EXTENSIONS = NoExtensions()


class OpenAPI:
    """The documents of a resource table, which may change."""

    def __init__(
        self, table: ResourceTable, custom_schema: CustomSchema = no_custom_schema, extensions: Extensions = NO_EXTENSIONS
    ) -> None:
        self._table = table
        self._extensions = extensions
        self._merged_digest = extensions.digest
        self._generation = table.generation
        self._custom_schema = custom_schema
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._hashes: dict[str, str] = {}

    def _table_changed(self) -> None:
        """Forget what was built from the old rows (or custom schemas)."""
        self._kept.clear()
        self._hashes.clear()

    def matches(self, path: str) -> bool:
        return path in ("/openapi/v2", "/openapi/v3") or path.startswith("/openapi/v3/")

    def handle(self, request_path: str, accept: str, *, query: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to GET of a path that `matches`. Building the v2 document takes a few hundred milliseconds once."""
        if self._generation != self._table.generation:
            self._generation = self._table.generation
            self._table_changed()
        if self._merged_digest != self._extensions.digest:
            self._merged_digest = self._extensions.digest
            self._kept.clear()
        given = headers or {}
        path = request_path.rstrip("/")
        if path == "/openapi/v2":
            return self._v2(accept, given)
        if path == "/openapi/v3":
            return self._whole(orjson.dumps({"paths": self._index()}), JSON, given)
        return self._v3(path.removeprefix("/openapi/v3/"), accept, query, given)

    def _groups(self) -> dict[str, list[Resource]]:
        """`api/v1`, `apis/apps/v1`, … → their resources."""
        found: dict[str, list[Resource]] = {}
        for row in self._table:
            found.setdefault(row.prefix[1:], []).append(row)
        return found

    def _general(self) -> dict[str, Operation]:
        """The documents of paths that are about no resource."""
        return general_documents(self._table)

    def _index(self) -> dict[str, Object]:
        urls = {name: f"/openapi/v3/{name}?hash={self._hash(name, rows)}" for name, rows in self._groups().items()}
        urls |= {name: f"/openapi/v3/{name}?hash={_hash_of(name)}" for name in self._general()}
        index = dict(self._extensions.urls()) | {name: {"serverRelativeURL": url} for name, url in urls.items()}
        return dict(sorted(index.items()))

    def _hash(self, name: str, rows: list[Resource]) -> str:
        """A digest of all that a document is made from, so that it is known before the document is built."""
        found = self._hashes.get(name)
        if found is None:
            facts = [(row.group, row.version, row.kind, row.plural, row.verbs, [(s.name, s.kind, s.verbs) for s in row.subresources],
                      self._custom_schema(row, 3)) for row in rows]  # fmt: skip
            found = self._hashes[name] = _hash_of(facts)
        return found

    def _v3(self, name: str, accept: str, query: str, given: Mapping[str, str]) -> Answer:
        rows, general = self._groups().get(name), self._general().get(name)
        made = self._extensions.document(name) if rows is None and general is None else None
        if rows is None and general is None and made is None:
            return 404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n"
        if not _takes(accept, _ACCEPTS):
            return _not_acceptable()
        wanted = parse_qs(query).get("hash", [""])[0]
        actual = self._hash(name, rows) if rows else digest_of(made) if made else _hash_of(name)

        def build() -> bytes:
            if made is not None:
                return made
            return orjson.dumps(v3(rows, self._custom_schema) if rows else v3_general(general) if general else {})

        if wanted and wanted != actual:
            return 301, {"Location": f"/openapi/v3/{name}?hash={actual}"}, b""
        caching = {"Cache-Control": "public, immutable", "Expires": "Thu, 31 Dec 2099 00:00:00 GMT"} if wanted else {}
        return self._sent(f"v3/{name}", actual, JSON, build, given, caching)

    def _v2(self, accept: str, given: Mapping[str, str]) -> Answer:
        hashes = "".join(self._hash(name, rows) for name, rows in self._groups().items())
        digest = digest_of(f"{hashes}{self._extensions.digest}".encode())
        if V2_PROTOBUF in accept or V2_PROTOBUF_OLD in accept:
            build: Callable[[], bytes] = lambda: protobuf.document(self._v2_document())  # noqa: E731
            return self._sent("v2.pb", digest, V2_PROTOBUF_OLD, build, given, {})
        if not _takes(accept, _ACCEPTS):
            return _not_acceptable()
        return self._sent("v2", digest, JSON, lambda: orjson.dumps(self._v2_document()), given, {})

    def _v2_document(self) -> Object:
        return self._extensions.merged(v2(self._table, self._custom_schema))

    def _sent(
        self, key: str, digest: str, content_type: str, build: Callable[[], bytes], given: Mapping[str, str], more: dict[str, str],
    ) -> Answer:  # fmt: skip
        etag = f'"{digest}"'
        answer = {"ETag": etag, "Vary": "Accept", "Content-Type": content_type, **more}
        if given.get("If-None-Match") == etag:
            return 304, answer, b""
        kept = self._kept.get(key)
        if kept is None:
            compressor = zlib.compressobj(1, wbits=31)
            kept = compressor.compress(build()) + compressor.flush()
            if len(self._kept) >= DOCUMENTS_KEPT_MAX:
                self._kept.popitem(last=False)
            self._kept[key] = kept
        self._kept.move_to_end(key)
        if "gzip" in given.get("Accept-Encoding", ""):
            return 200, {**answer, "Content-Encoding": "gzip"}, kept
        return 200, answer, zlib.decompress(kept, wbits=31)

    def _whole(self, body: bytes, content_type: str, given: Mapping[str, str]) -> Answer:
        etag = f'"{digest_of(body)}"'
        headers = {"ETag": etag, "Vary": "Accept", "Content-Type": content_type}
        return (304, headers, b"") if given.get("If-None-Match") == etag else (200, headers, body)


def _hash_of(facts: object) -> str:
    """A digest of facts and of what all documents depend on."""
    text = orjson.dumps([kubecosm.__version__, kubecosm.KUBERNETES_VERSION, str(source()), facts])
    return digest_of(text)


def digest_of(document: bytes) -> str:
    """What tells one document from another in URLs and ETags."""
    return hashlib.sha512(document).hexdigest().upper()


def _takes(accept: str, offered: tuple[str, ...]) -> bool:
    """Whether an Accept header names one of these; what is no media type names nothing."""
    return not accept or any(part.partition(";")[0].strip().lower() in offered for part in accept.split(","))


def _not_acceptable() -> Answer:
    return 406, {"Content-Type": "text/plain; charset=utf-8"}, b"406 not acceptable\n"
