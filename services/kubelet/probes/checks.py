"""The probes' checks against a pod: http, tcp and grpc over real sockets. Exec runs through the runtime (see manager).

Messages are those of the kubelet's probers (pkg/probe/{http,tcp,grpc}).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from kubecosm.api.resources import Object

from ..network.h2 import grpc_health_check

USER_AGENT = "kube-probe/1.36"
BODY_BYTES_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class CheckResult:
    success: bool
    message: str = ""
    is_error: bool = False
    """The check could not be made: it counts for nothing, but is told."""
    is_warning: bool = False
    """It counts as a success, but is told."""


OK = CheckResult(True)
STATUS_CODE = "HTTP probe failed with statuscode: "
REDIRECTS_MAX = 10
REDIRECTS = frozenset((301, 302, 303, 307, 308))


Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a TCP connection to (host, port)."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a check connects to, and how."""

    host: str
    port: int
    dial: Dial = asyncio.open_connection


def resolve_port(port: int | str, spec: Object) -> int:
    """A number, or the name of a container port; ValueError if the container has no such port."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in spec.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ValueError(f'couldn\'t find port: "{port}"')


async def check_http(target: Target, action: Object, timeout: float) -> CheckResult:
    """GET; 200-399 is success. Redirects to the same host are followed, others count as a success with a warning (pkg/probe/http)."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = action.get("path") or "/"
    url = f"{scheme}://{target.host}:{target.port}{path if path.startswith('/') else '/' + path}"
    try:
        async with asyncio.timeout(timeout):
            return await _follow(target, action, url)
    except TimeoutError:
        return CheckResult(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
    except ConnectionRefusedError:
        return CheckResult(False, f'Get "{url}": dial tcp {target.host}:{target.port}: connect: connection refused')
    except (OSError, EOFError, ValueError) as failure:
        return CheckResult(False, f'Get "{url}": {failure or "EOF"}')


async def _follow(target: Target, action: Object, url: str) -> CheckResult:
    for _ in range(REDIRECTS_MAX):
        parts = urlsplit(url)
        path = parts.path or "/"
        here = replace(target, port=parts.port or (443 if parts.scheme == "https" else 80))
        code, location = await _get(here, action, f"{path}?{parts.query}" if parts.query else path, tls=parts.scheme == "https")
        if code not in REDIRECTS or not location:
            return OK if 200 <= code < 400 else CheckResult(False, f"{STATUS_CODE}{code}")
        url = urljoin(url, location)
        if urlsplit(url).hostname != parts.hostname:
            return CheckResult(True, "Probe terminated redirects, Response body: ", is_warning=True)
    raise ValueError(f"stopped after {REDIRECTS_MAX} redirects")


async def _get(target: Target, action: Object, path: str, *, tls: bool) -> tuple[int, str]:
    """Status code, and where a redirect leads."""
    reader, writer = await target.dial(target.host, target.port)
    try:
        if tls:
            await writer.start_tls(_any_certificate())
        writer.write(_request(target, action, path))
        status_line = await reader.readline()
        if not status_line:
            raise EOFError
        parts = status_line.split()
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/"):
            raise ValueError(
                f"net/http: HTTP/1.x transport connection broken: malformed HTTP response {status_line.decode(errors='replace')!r}"
            )
        code = int(parts[1])
        return code, await _location(reader) if code in REDIRECTS else ""
    finally:
        writer.transport.abort()


async def _location(reader: asyncio.StreamReader) -> str:
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "location":
            return value.strip()
    return ""


def _any_certificate() -> ssl.SSLContext:
    """Probes do not check certificates."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _request(target: Target, action: Object, path: str) -> bytes:
    headers = {"Host": f"{target.host}:{target.port}", "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    for header in action.get("httpHeaders") or ():
        headers[header["name"]] = header.get("value", "")
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def check_tcp(target: Target, timeout: float) -> CheckResult:
    """Success is an established connection."""
    where = f"{target.host}:{target.port}"
    try:
        async with asyncio.timeout(timeout):
            _, writer = await target.dial(target.host, target.port)
    except TimeoutError:
        return CheckResult(False, f"dial tcp {where}: i/o timeout")
    except ConnectionRefusedError:
        return CheckResult(False, f"dial tcp {where}: connect: connection refused")
    except OSError as failure:
        return CheckResult(False, f"dial tcp {where}: {failure}")
    writer.transport.abort()
    return OK


async def check_grpc(target: Target, service: str, timeout: float) -> CheckResult:
    """grpc.health.v1.Health/Check must answer SERVING."""
    where = f"{target.host}:{target.port}"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await target.dial(target.host, target.port)
            status = await grpc_health_check(reader, writer, where, service)
    except (TimeoutError, ConnectionRefusedError):
        return CheckResult(False, f'timeout: failed to connect service "{where}" within {timeout:g}s: context deadline exceeded')
    except (OSError, EOFError, ValueError) as failure:
        return CheckResult(False, f"error: health rpc probe failed: {failure or 'EOF'}")
    return OK if status == "SERVING" else CheckResult(False, f'service unhealthy (responded with "{status}")')
