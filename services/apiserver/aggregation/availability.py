"""Whether an extension server can be reached: the Available condition of its APIService.

Imitates kube-aggregator's remote_available_controller: its reasons, messages and the order of its checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kubecosm.api.errors import ApiError
from kubecosm.api.names import LABEL_SERVICE_NAME
from kubecosm.api.resources import ENDPOINTSLICES, SERVICES, Object
from kubecosm.api.selectors import parse_labels

from ..authn.user import GROUP_MASTERS, User
from ..cache.selection import Selection
from ..connect.backend import Backends
from ..state import State
from .conditions import Verdict
from .remote import RemoteService, identity_headers

if TYPE_CHECKING:
    from aiohttp import ClientResponse

ATTEMPTS = 5
"""Tries of one check: one of several endpoints may be down without the service being so."""
CHECK_SECONDS_MAX = 6.0
AGGREGATOR = User("system:kube-aggregator", (GROUP_MASTERS,))
PASSED: Verdict = ("True", "Passed", "all checks passed")


def judge_service(reference: Object, port: int, service: Object | None, slices: Iterable[Object]) -> Verdict | None:
    """What the stored Service and its EndpointSlices already tell; None if there is something to call."""
    name, namespace = reference["name"], reference["namespace"]
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return "False", "ServiceNotFound", f"{where} is not present"
    if service["spec"].get("type", "ClusterIP") != "ClusterIP":
        return None
    port_name = next((p.get("name", "") for p in service["spec"].get("ports") or () if p["port"] == port), None)
    if port_name is None:
        return "False", "ServicePortError", f"{where} is not listening on port {port}"
    found = list(slices)
    if not found:
        return "False", "EndpointsNotFound", f"cannot find endpointslices for {where}"
    if not any(p.get("name", "") == port_name for s in found if s.get("endpoints") for p in s.get("ports") or ()):
        return "False", "MissingEndpoints", f'endpointslices for {where} have no addresses with port name "{port_name}"'
    return None


async def judge(state: State, backends: Backends, remote: RemoteService) -> Verdict:
    """The whole check of one APIService."""
    namespace, name, port = remote.service
    services = state.store(SERVICES.group, SERVICES.version, SERVICES.plural)
    entry = services.cache.get(services.key_of(namespace, name))
    slices = state.store(ENDPOINTSLICES.group, ENDPOINTSLICES.version, ENDPOINTSLICES.plural).cache
    selection = Selection(namespace, parse_labels(f"{LABEL_SERVICE_NAME}={name}"))
    stored = [found.decode() for found in slices.page(selection).entries] if entry is not None else []
    verdict = judge_service(remote.spec["service"], port, entry.decode() if entry is not None else None, stored)
    return verdict or await _call(state, backends, remote)


async def _call(state: State, backends: Backends, remote: RemoteService) -> Verdict:
    """Ask the server for its discovery document."""
    url = f"https://{remote.server_name}:{remote.service[2]}{remote.discovery_path}"
    why = ""
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            for _ in range(ATTEMPTS):
                try:
                    async with await ask(state, backends, remote, remote.discovery_path, "application/json") as response:
                        if 200 <= response.status < 300:
                            return PASSED
                        why = f"bad status from {url}: {response.status}"
                except ApiError as error:
                    why = f'failing or missing response from {url}: Get "{url}": {error.message}'
    except TimeoutError:
        why = f"failing or missing response from {url}: timed out waiting for {url}"
    return "False", "FailedDiscoveryCheck", why


async def ask(state: State, backends: Backends, remote: RemoteService, path: str, accept: str, **more: str) -> ClientResponse:
    """A GET in the aggregator's own name, answered up to its head. Raises ApiError."""
    headers = identity_headers(AGGREGATOR)
    headers["Accept"] = accept
    headers.update(more)
    return await backends.open("GET", remote.endpoint(state), path, headers, b"")
