"""HTTP/1.1 requests out of bytes and responses into bytes: a small push parser shared by simulated pods and the kubelet's own API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 1024 * 1024

REASONS = {
    100: "Continue", 101: "Switching Protocols", 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
    301: "Moved Permanently", 302: "Found",
    304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type", 426: "Upgrade Required", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip


class HttpError(Exception):
    """The peer's bytes are no acceptable request; answer `code` and close."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Request:
    """One request. Header names are lower-case; repeated headers are joined by a comma."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    header_names: list[str] = field(default_factory=list)
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def keep_alive(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return "close" not in wish and (self.version == "HTTP/1.1" or "keep-alive" in wish)


def parse_head(head: bytes) -> Request:
    """Parse a request line and headers (without the empty line); HttpError if malformed."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise HttpError(400, "malformed request line")
    headers: dict[str, str] = {}
    names = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError(400, "malformed header")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        names.append(name)
    return Request(parts[0], parts[1], parts[2], headers, names)


class RequestParser:
    """Feed bytes, take whole requests. Bodies by Content-Length or chunked, up to `body_bytes_max`."""

    def __init__(self, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._body_max = body_bytes_max
        self._request: Request | None = None
        self._wants_continue = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def wants_continue(self) -> bool:
        """True once after a head with `Expect: 100-continue` whose body has not come yet."""
        wants, self._wants_continue = self._wants_continue, False
        return wants

    @property
    def is_empty(self) -> bool:
        """No part of a request is waiting."""
        return not self._buffer and self._request is None

    def next_request(self) -> Request | None:
        """The next whole request, or None until more bytes come; HttpError if the bytes are bad."""
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0 or end > HEAD_BYTES_MAX:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise HttpError(431, "request head too large")
                return None
            self._request = parse_head(bytes(self._buffer[:end]).lstrip(b"\r\n"))
            del self._buffer[: end + 4]
            self._wants_continue = self._request.headers.get("expect", "").lower() == "100-continue"
        if not self._read_body(self._request):
            return None
        request, self._request = self._request, None
        return request

    def _read_body(self, request: Request) -> bool:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            return self._read_chunks(request)
        try:
            length = int(request.headers.get("content-length") or 0)
        except ValueError as failure:
            raise HttpError(400, "bad Content-Length") from failure
        if length < 0:
            raise HttpError(400, "bad Content-Length")
        if length > self._body_max:
            raise HttpError(413, "body too large")
        if len(self._buffer) < length:
            return False
        request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return True

    def _read_chunks(self, request: Request) -> bool:
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return False
            try:
                size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            except ValueError as failure:
                raise HttpError(400, "bad chunk size") from failure
            if size < 0 or len(request.body) + size > self._body_max:
                raise HttpError(413, "body too large")
            if len(self._buffer) < end + 2 + size + 2:
                return False
            request.body += bytes(self._buffer[end + 2 : end + 2 + size])
            del self._buffer[: end + 2 + size + 2]
            if size == 0:
                return True


def response(
    code: int, body: bytes = b"", content_type: str = "text/plain; charset=utf-8", *, keep_alive: bool = True,
    headers: Iterable[tuple[str, str]] = (),
    head_only: bool = False,
) -> bytes:  # fmt: skip
    """A whole response with its length."""
    lines = f"HTTP/1.1 {code} {REASONS.get(code, 'Unknown')}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    for name, value in headers:
        lines += f"{name}: {value}\r\n"
    lines += "\r\n" if keep_alive else "Connection: close\r\n\r\n"
    return lines.encode("latin-1") + (b"" if head_only else body)
