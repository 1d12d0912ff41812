"""Requests through the API server to a pod, Service or node: passed on as they come, answers put right by `rewriting`."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from kubecosm.api.errors import InternalError, ServiceUnavailable

from ..http.request import Request
from ..http.response import Answer, Response
from ..state import State
from . import location
from .backend import Backends, answered_headers, is_upgrade, passed_headers, stream_back
from .location import Endpoint
from .rewriting import HTML, proxied_prefix, rewritten_headers, rewritten_page

if TYPE_CHECKING:
    from aiohttp import ClientResponse

PAGE_BYTES_MAX = 8 * 1024 * 1024
"""Larger HTML pages are passed on as they are."""


async def proxy(state: State, backends: Backends, request: Request, endpoint: Endpoint) -> Answer:
    """The backend's answer. Raises ServiceUnavailable, InternalError."""
    rest = location.proxied_rest(request)
    path = location.proxy_path(request)
    if is_upgrade(request):
        return await backends.upgrade(state, request, endpoint, path)
    if not rest and request.method in ("GET", "HEAD"):  # so that relative links of the page lead somewhere
        return Response(301, b"", "text/html; charset=utf-8", (("Location", f"{request.path}{path}"),))
    prefix = proxied_prefix(request.path, rest)
    headers = passed_headers(request.headers)
    headers["X-Forwarded-Uri"] = f"{prefix}{rest}"
    headers["X-Forwarded-Host"], headers["X-Forwarded-Proto"] = request.headers.get("Host", ""), "https"
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if peer:
        headers["X-Forwarded-For"] = ", ".join([*headers.popall("X-Forwarded-For", []), str(peer[0])])
    try:
        opened = await backends.open(request.method, endpoint, path, headers, request.pieces())
    except InternalError as error:
        raise ServiceUnavailable(error.message.replace("error dialing backend:", "error trying to reach service:", 1)) from error
    async with opened as response:
        hosts = (f"{endpoint.host}:{endpoint.port}", endpoint.host)
        found = rewritten_headers(response.headers.items(), prefix, hosts)
        if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == HTML and request.method != "HEAD":
            page = await _page(response)
            if page is not None:
                return _page_answer(response, rewritten_page(page, prefix, hosts), found)
        return await stream_back(request, response, found)


async def _page(response: ClientResponse) -> bytes | None:
    """A whole HTML page, unpacked; None if it is too large or packed in an unknown way, and then nothing of it has been read."""
    size = response.content_length
    encoding = response.headers.get("Content-Encoding", "")
    if encoding not in ("", "gzip") or size is None or size > PAGE_BYTES_MAX:
        return None
    body = await response.read()
    if not encoding:
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return body


def _page_answer(response: ClientResponse, page: bytes, headers: list[tuple[str, str]]) -> Response:
    extra = [(name, value) for name, value in answered_headers(headers) if name.lower() != "content-encoding"]
    return Response(response.status, page, response.headers.get("Content-Type", HTML), extra)
