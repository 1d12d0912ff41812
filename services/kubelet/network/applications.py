"""How simulated servers answer HTTP: the identity echo that every one gives, and a few pages by image profile.

`respond(endpoint, request)` is pure but for the endpoint's counters. Every answer names the pod, so traffic can be seen spreading.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import NamedTuple

import orjson

from .. import notes
from .documents import WELCOME, content_type
from .endpoint import Endpoint
from .http1 import Request, response

BODY_ECHO_BYTES_MAX = 64 * 1024
JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
AGNHOST_ILL = "ill"
"""What `agnhost liveness` remembers when its health has ended."""
AGNHOST_HEALTHY_SECONDS = 10.0
NGINX_FOOT = "<hr><center>nginx</center>"


class Answer(NamedTuple):
    body: bytes
    content_type: str
    code: int = 200


def respond(endpoint: Endpoint, request: Request, client: str) -> bytes:
    """The whole response to one request."""
    endpoint.requests += 1
    page = PAGES.get(endpoint.application)
    answer = page(endpoint, request) if page is not None else None
    if answer is None:
        answer = _identity(endpoint, request, client)
    code = notes.parse_int(endpoint.behaviour(notes.HTTP_STATUS), answer.code)
    if not request.headers.get("user-agent", "").startswith("kube-probe/"):
        endpoint.log(f'{client} "{request.method} {request.target} {request.version}" {code}')
    return response(
        code, answer.body, answer.content_type, keep_alive=request.keep_alive and not endpoint.is_draining,
        headers=(("X-Pod-Name", endpoint.identity.pod),),
        head_only=request.method == "HEAD",
    )  # fmt: skip


def identity_fields(endpoint: Endpoint) -> dict[str, object]:
    who = endpoint.identity
    return {
        "pod": who.pod, "namespace": who.namespace, "node": who.node, "ip": who.ip, "container": who.container, "image": who.image,
        "port": endpoint.port,
    }  # fmt: skip


def _identity(endpoint: Endpoint, request: Request, client: str) -> Answer:
    fields = identity_fields(endpoint)
    fields |= {"method": request.method, "path": request.target, "client": client, "headers": request.headers}
    if request.body:
        fields["body"] = request.body[:BODY_ECHO_BYTES_MAX].decode(errors="replace")
    accept = request.headers.get("accept", "")
    if "text/plain" in accept:
        return Answer("".join(f"{name}: {value}\n" for name, value in fields.items() if name != "headers").encode(), TEXT)
    if "text/html" in accept:
        return Answer(_page(f"{endpoint.identity.pod}", fields), HTML)
    return Answer(orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n", JSON)


def _page(title: str, fields: dict[str, object], intro: str = "") -> bytes:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in fields.items() if name != "headers"
    )
    heading = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title></head>\n'
        f"<body><h1>{heading}</h1>{intro}<table>{rows}</table></body></html>\n"
    ).encode()


def _nginx(endpoint: Endpoint, request: Request) -> Answer | None:
    """The container's own files; the welcome page names the pod, and health checks are answered though there is no such file."""
    try:
        document = endpoint.documents.read(request.path)
    except PermissionError:
        return Answer(_page("403 Forbidden", {}, NGINX_FOOT), HTML, 403)
    if document == WELCOME:
        return Answer(_page("Welcome to nginx!", identity_fields(endpoint)), HTML)
    if document is not None:
        return Answer(document, content_type(request.path))
    if request.path.startswith("/health"):
        return None
    return Answer(_page("404 Not Found", {}, NGINX_FOOT), HTML, 404)


def _guestbook(endpoint: Endpoint, request: Request) -> Answer | None:
    """The guestbook's page and its tiny API: `guestbook.php?cmd=set|get&key=…&value=…`, kept by this pod."""
    if request.path.endswith("guestbook.php"):
        query = dict(request.query)
        key = query.get("key", "messages")
        if query.get("cmd") == "set":
            endpoint.memory[key] = query.get("value", "")
            return Answer(b'{"message": "Updated"}', JSON)
        return Answer(orjson.dumps({"data": endpoint.memory.get(key, "")}), JSON)
    if request.path in ("/", "/index.html"):
        form = '<form><input name="entry" placeholder="Messages"><button>Submit</button></form>'
        return Answer(_page("Guestbook", identity_fields(endpoint), form), HTML)
    return None


def _boutique(endpoint: Endpoint, request: Request) -> Answer | None:
    if request.path == "/":
        return Answer(_page("Online Boutique", identity_fields(endpoint), "<h3>Hot Products</h3>"), HTML)
    if request.path == "/_healthz":
        return Answer(b"ok", TEXT)
    return None


def _agnhost(endpoint: Endpoint, request: Request) -> Answer | None:
    """The paths of agnhost netexec, serve-hostname and liveness that tests and tutorials use."""
    query = dict(request.query)
    if request.path in ("/hostname", "/hostName"):
        return Answer(endpoint.identity.pod.encode(), TEXT)
    if request.path == "/echo":
        return Answer(query.get("msg", "").encode(), TEXT, notes.parse_int(query.get("code"), 200))
    if request.path == "/healthz":
        return Answer(b"error: too old", TEXT, 500) if AGNHOST_ILL in endpoint.memory else Answer(b"ok", TEXT)
    return None


PAGES: dict[str, Callable[[Endpoint, Request], Answer | None]] = {
    "nginx": _nginx,
    "guestbook": _guestbook,
    "boutique": _boutique,
    "agnhost": _agnhost,
}
"""Pages by application; None from a page means the identity echo."""
