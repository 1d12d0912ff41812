"""What a proxied page says of itself, put right for those who see it through the API server: redirects, links, and headers that only
mean something to the page's own origin.

Imitates k8s.io/apimachinery/pkg/util/proxy (transport.go, upgradeaware.go). Pure functions. Left out: pages in other encodings than gzip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import normpath
from urllib.parse import urlsplit, urlunsplit

_LINKS = {
    "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href", "blockquote": "cite", "body": "background",
    "button": "formaction", "command": "icon", "del": "cite", "embed": "src", "form": "action", "frame": "longdesc src", "head": "profile",
    "html": "manifest", "iframe": "longdesc src", "img": "longdesc src usemap", "input": "src usemap formaction", "ins": "cite",
    "link": "href", "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src", "video": "poster src",
}  # fmt: skip
"""HTML element → its attributes that hold addresses."""
_TAG = re.compile(rb"<([a-zA-Z]+)(\s[^<>]*)>")
_ATTRIBUTE = re.compile(rb"""(\s)([a-zA-Z]+)(\s*=\s*)("[^"]*"|'[^']*')""")
_ORIGIN_ONLY = "access-control-"
HTML = "text/html"


def proxied_prefix(path: str, rest: str) -> str:
    """What stands before the backend's own path in a request's: `/api/v1/…/proxy`."""
    return path[: len(path) - len(rest)].rstrip("/") if rest else path.rstrip("/")


def rewritten_address(address: str, prefix: str, hosts: Iterable[str]) -> str:
    """An address in a page or a redirect, as seen from outside; only absolute paths of the backend itself are changed."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    if (parts.netloc and parts.netloc not in hosts) or not parts.path.startswith("/"):
        return address
    if parts.path == prefix or parts.path.startswith(f"{prefix}/"):
        return address
    path = normpath(f"{prefix}{parts.path}") + ("/" if parts.path.endswith("/") else "")
    return urlunsplit(("", "", path, parts.query, parts.fragment))


def rewritten_page(page: bytes, prefix: str, hosts: Iterable[str]) -> bytes:
    """An HTML page whose links lead through the proxy."""
    wanted = tuple(hosts)

    def in_tag(tag: re.Match[bytes]) -> bytes:
        names = _LINKS.get(tag[1].decode().lower(), "").split()
        if not names:
            return tag[0]

        def in_attribute(found: re.Match[bytes]) -> bytes:
            if found[2].decode().lower() not in names:
                return found[0]
            quote, address = found[4][:1], found[4][1:-1].decode("utf-8", "surrogateescape")
            changed = rewritten_address(address, prefix, wanted).encode("utf-8", "surrogateescape")
            return b"%b%b%b%b%b%b" % (found[1], found[2], found[3], quote, changed, quote)

        return b"<%b%b>" % (tag[1], _ATTRIBUTE.sub(in_attribute, tag[2]))

    return _TAG.sub(in_tag, page)


def rewritten_headers(headers: Iterable[tuple[str, str]], prefix: str, hosts: Iterable[str]) -> list[tuple[str, str]]:
    """A backend's headers: its redirects lead through the proxy, and what it allows other origins is not for ours."""
    wanted = tuple(hosts)
    kept = [(name, value) for name, value in headers if not name.lower().startswith(_ORIGIN_ONLY)]
    return [(name, rewritten_address(value, prefix, wanted) if name.lower() == "location" else value) for name, value in kept]
