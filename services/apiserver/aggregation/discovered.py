"""Asks extension servers what they serve: aggregated discovery if they know it, else the list of one group and version."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..connect.backend import Backends
from ..state import State
from .availability import ask
from .catalog import resources_of_aggregated, resources_of_list
from .remote import RemoteService

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
DOCUMENT_BYTES_MAX = 32 * 1024 * 1024


async def fetch_resources(state: State, backends: Backends, remote: RemoteService) -> list[Object] | None:
    """The resources of its group and version, as aggregated discovery words them; None if it cannot say."""
    group, version = remote.key
    found = await fetch_json(state, backends, remote, "/apis", f"{AGGREGATED},application/json")
    if isinstance(found, dict) and found.get("kind") == "APIGroupDiscoveryList":
        resources = resources_of_aggregated(found, group, version)
        if resources is not None:
            return resources
    listed = await fetch_json(state, backends, remote, remote.discovery_path, "application/json")
    return resources_of_list(listed, group, version) if isinstance(listed, dict) else None


async def fetch_json(state: State, backends: Backends, remote: RemoteService, path: str, accept: str) -> Any:
    """A document of an extension server; None if it cannot be had."""
    from aiohttp import ClientError

    try:
        async with await ask(state, backends, remote, path, accept) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > DOCUMENT_BYTES_MAX:
                    return None
            return orjson.loads(body) if response.status == 200 else None
    except (ApiError, ClientError, TimeoutError, orjson.JSONDecodeError):
        return None
