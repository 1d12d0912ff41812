"""One extender over HTTP."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import aiohttp
import orjson

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError

from ..configuration.settings import ExtenderSettings
from ..state.podinfo import PodInfo
from .wire import ExtenderError, field

ANSWER_BYTES_MAX = 64 * 1024 * 1024
OK = 200


class HttpExtender:
    """Sends the verbs that an extender implements."""

    def __init__(self, settings: ExtenderSettings, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self._session = session
        self._tls = tls_of(settings) if settings.enable_https or settings.url_prefix.startswith("https:") else None
        self._timeout = aiohttp.ClientTimeout(total=settings.http_timeout_seconds)

    @property
    def name(self) -> str:
        """An extender is known by its URL."""
        return self.settings.url_prefix

    def is_interested(self, pod: PodInfo) -> bool:
        """Whether the pod asks for a resource that the extender manages; without managed resources all pods are its business."""
        managed = self.settings.managed_resources
        return not managed or any(resource in pod.requests or resource in _limits(pod.pod) for resource in managed)

    async def send(self, verb: str, body: Object) -> Any:
        """POST a verb; its decoded answer. ExtenderError says what went wrong."""
        url = f"{self.settings.url_prefix.rstrip('/')}/{verb}"
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        server_name = self.settings.tls.get("serverName")
        if self._tls is not None and server_name:
            options["server_hostname"] = server_name
        try:
            async with self._session.post(
                url, data=orjson.dumps(body), headers={"Content-Type": "application/json"}, timeout=self._timeout, **options
            ) as answer:
                if answer.status != OK:
                    raise ExtenderError(f"failed {verb} with extender at URL {url}, code {answer.status}")
                raw = await answer.content.read(ANSWER_BYTES_MAX)
        except TimeoutError:
            raise ExtenderError(f'Post "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)') from None
        except aiohttp.ClientError as error:
            raise ExtenderError(f'Post "{url}": {error}') from None
        try:
            decoded = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ExtenderError(f"extender at URL {url} answered what is no JSON: {error}") from None
        failure = field(decoded, "Error") if isinstance(decoded, Mapping) else None
        if failure:
            raise ExtenderError(str(failure))
        return decoded


def _limits(pod: Object) -> frozenset[str]:
    """Every resource that a container of the pod has a limit for."""
    spec = pod["spec"]
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return frozenset(name for container in containers for name in (container.get("resources") or {}).get("limits") or ())


def tls_of(settings: ExtenderSettings) -> ssl.SSLContext:
    """The TLS context of a tlsConfig; StartupError if its files or data cannot be used. Without a CA the server's name is not checked."""
    tls = settings.tls
    context = ssl.create_default_context()
    has_ca = bool(tls.get("caFile") or tls.get("caData"))
    if tls.get("insecure") or (settings.enable_https and not has_ca):  # as makeTransport: HTTPS without a CA is insecure
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        if tls.get("caData"):
            context.load_verify_locations(cadata=base64.b64decode(tls["caData"]).decode())
        elif tls.get("caFile"):
            context.load_verify_locations(cafile=tls["caFile"])
        _load_certificate(context, tls)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StartupError(f"extender {settings.url_prefix}: cannot use its tlsConfig: {error}") from error
    return context


def _load_certificate(context: ssl.SSLContext, tls: Mapping[str, Any]) -> None:
    """The client certificate, from files or from base64 data."""
    if tls.get("certData") and tls.get("keyData"):
        with ExitStack() as stack:
            files = []
            for name in ("certData", "keyData"):
                file = stack.enter_context(tempfile.NamedTemporaryFile())
                file.write(base64.b64decode(tls[name]))
                file.flush()
                files.append(file.name)
            context.load_cert_chain(*files)
    elif tls.get("certFile"):
        context.load_cert_chain(tls["certFile"], tls.get("keyFile"))
