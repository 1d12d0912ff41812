"""One group and version that an extension server serves: where it is, how its certificate is checked, and how requests get there.

Imitates kube-aggregator's proxy handler and its authenticating round tripper.
"""

from __future__ import annotations

import ssl
from base64 import b64decode
from binascii import Error as BadBase64
from dataclasses import dataclass
from urllib.parse import quote
from weakref import WeakSet

from multidict import CIMultiDict

from kubecosm.api.errors import ApiError, InternalError, ServiceUnavailable
from kubecosm.api.resources import SERVICES, Object
from kubecosm.runtime.errors import check_pem

from ..authn.user import User
from ..connect.backend import Backends, is_upgrade, passed_headers
from ..connect.handlers import endpoint_of_service
from ..connect.location import Endpoint
from ..http.request import Request
from ..http.response import Answer, text_response
from ..state import State
from .conditions import is_available
from .localservices import GroupVersion

UNAVAILABLE = "service unavailable\n"
SERVICE_PORT_DEFAULT = 443
_UNESCAPED_IN_EXTRA = "!#$&'*+-.^_`|~"
"""Besides letters and digits, what may stand in a header's name; the rest of an extra key is percent-encoded."""


@dataclass
class RemoteService:
    """What an APIService with a Service reference says."""

    name: str
    spec: Object
    is_available: bool
    context: ssl.SSLContext | None
    server_name: str
    problem: str = ""
    """Why its certificate cannot be checked, if it cannot; then there is no context and it is never called."""

    @property
    def key(self) -> GroupVersion:
        return self.spec.get("group", ""), self.spec["version"]

    @property
    def service(self) -> tuple[str, str, int]:
        """(namespace, name, port)."""
        reference = self.spec["service"]
        return reference["namespace"], reference["name"], reference.get("port") or SERVICE_PORT_DEFAULT

    @property
    def discovery_path(self) -> str:
        group, version = self.key
        return f"/apis/{group}/{version}" if group else f"/api/{version}"

    def endpoint(self, state: State) -> Endpoint:
        """One of the addresses behind the Service. Raises NotFound, ServiceUnavailable."""
        if self.context is None:
            raise ServiceUnavailable(self.problem)
        namespace, name, port = self.service
        store = state.store(SERVICES.group, SERVICES.version, SERVICES.plural)
        service = store.entry(namespace, name).decode()
        if service["spec"].get("type") == "ExternalName":
            host, number = service["spec"]["externalName"], port
        else:
            host, number = endpoint_of_service(store, service, str(port))
        return Endpoint(host, number, is_tls=True, context=self.context, server_name=self.server_name)


class Identity:
    """How this server shows extension servers who it is: --proxy-client-cert-file and its key."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        """StartupError when they are not there."""
        check_pem("--proxy-client-cert-file", cert_file)
        check_pem("--proxy-client-key-file", key_file)
        self._files = (cert_file, key_file)
        self._contexts: WeakSet[ssl.SSLContext] = WeakSet()

    @property
    def files(self) -> tuple[str, str]:
        return self._files

    def take_up(self) -> None:
        """Show the certificate that lies in the files now. Raises ssl.SSLError, OSError."""
        for context in tuple(self._contexts):
            context.load_cert_chain(*self._files)

    def context(self, spec: Object) -> ssl.SSLContext:
        """TLS to one extension server, checked as its APIService says. ValueError if its caBundle holds no certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if spec.get("insecureSkipTLSVerify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif spec.get("caBundle"):
            try:
                context.load_verify_locations(cadata=b64decode(spec["caBundle"]).decode("ascii", "replace"))
            except (ssl.SSLError, BadBase64, ValueError) as error:
                raise ValueError(f"unable to load root certificates: {error}") from error
        else:
            context.load_default_certs()
        if all(self._files):
            context.load_cert_chain(*self._files)
            self._contexts.add(context)
        return context


def remote_service(obj: Object, identity: Identity) -> RemoteService:
    """The remote of an APIService that references a Service."""
    reference = obj["spec"]["service"]
    server_name = f"{reference['name']}.{reference['namespace']}.svc"
    context, problem = None, ""
    try:
        context = identity.context(obj["spec"])
    except ValueError as error:
        problem = str(error)
    return RemoteService(obj["metadata"]["name"], obj["spec"], is_available(obj), context, server_name, problem)


def identity_headers(user: User) -> CIMultiDict[str]:
    """X-Remote-User, -Uid, -Group and -Extra-<key> (transport.SetAuthProxyHeaders)."""
    headers: CIMultiDict[str] = CIMultiDict([("X-Remote-User", user.name)])
    if user.uid:
        headers["X-Remote-Uid"] = user.uid
    for group in user.groups:
        headers.add("X-Remote-Group", group)
    for key, values in user.extra.items():
        for value in values:
            headers.add(f"X-Remote-Extra-{quote(key.lower(), safe=_UNESCAPED_IN_EXTRA)}", value)
    return headers


async def forward(state: State, backends: Backends, remote: RemoteService, request: Request) -> Answer:
    """Pass a request on to an extension server and its answer back. What cannot be reached is 503."""
    if not remote.is_available:
        return text_response(503, UNAVAILABLE)
    try:
        endpoint = remote.endpoint(state)
    except ApiError:
        return text_response(503, UNAVAILABLE)
    headers = _forwarded(request)
    path = f"{request.path}?{request.raw_query}" if request.raw_query else request.path
    try:
        if is_upgrade(request):
            return await backends.upgrade(state, request, endpoint, path, headers)
        return await backends.forward(request, endpoint, path, headers)
    except (InternalError, ServiceUnavailable) as error:
        return text_response(503, f"{error.message}\n")


def _forwarded(request: Request) -> CIMultiDict[str]:
    """The client's own headers but for credentials and whatever pretends to come from this server."""
    headers = passed_headers(request.headers)
    for name in [name for name in headers if name.lower().startswith("x-remote-")]:
        headers.popall(name, None)
    headers.extend(identity_headers(request.user))
    headers["Audit-ID"] = request.audit_id
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if peer:
        headers["X-Forwarded-For"] = ", ".join([*headers.popall("X-Forwarded-For", []), str(peer[0])])
    return headers
