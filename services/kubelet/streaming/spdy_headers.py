"""SPDY/3 header blocks: name/value pairs, compressed with zlib over the protocol's fixed dictionary (SPDY/3 §2.6.10)."""

from __future__ import annotations

import struct
import zlib

_WORDS = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base", "content-encoding",
    "content-language", "content-length", "content-location", "content-md5", "content-range", "content-type", "date", "etag", "expect",
    "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
    "location", "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te",
    "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get", "status",
    "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found"
    "500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,"
    "text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS) + _TAIL.encode()
DICTIONARY_ADLER32 = 0xE3C6A7C2
"""What every peer names in its first compressed block."""

BLOCK_BYTES_MAX = 64 * 1024
PAIRS_MAX = 256


class HeaderError(ValueError):
    """A header block that cannot be read: the connection's compression state is lost."""


class HeaderCodec:
    """Both directions of one connection; each keeps its compression state, so every block must pass through here, in order."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)

    def encode(self, headers: dict[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            key, text = name.lower().encode(), value.encode()
            block += struct.pack(">I", len(key)) + key + struct.pack(">I", len(text)) + text
        return self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def decode(self, data: bytes) -> dict[str, str]:
        """Lower-case names; several values of one name are joined by a comma. HeaderError if malformed."""
        try:
            block = self._decompressor.decompress(data, BLOCK_BYTES_MAX)
        except zlib.error as failure:
            raise HeaderError(f"bad header compression: {failure}") from failure
        if self._decompressor.unconsumed_tail:
            raise HeaderError("header block too large")
        try:
            return _parse(block)
        except (struct.error, UnicodeDecodeError) as failure:
            raise HeaderError("malformed header block") from failure


def _parse(block: bytes) -> dict[str, str]:
    (count,) = struct.unpack_from(">I", block)
    if count > PAIRS_MAX:
        raise HeaderError("too many headers")
    position, headers = 4, {}
    for _ in range(count):
        name, position = _string(block, position)
        value, position = _string(block, position)
        headers[name.lower()] = value.replace("\0", ", ")
    return headers


def _string(block: bytes, position: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">I", block, position)
    end = position + 4 + size
    if end > len(block):
        raise HeaderError("malformed header block")
    return block[position + 4 : end].decode(), end
