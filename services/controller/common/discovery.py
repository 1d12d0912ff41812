"""Which resources the server has now, custom ones included: the preferred version of each, from aggregated discovery."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.resources import Object, Resource
from kubecosm.client.http import ApiClient

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def plan_resources(document: Object) -> list[Resource]:
    """The resources of an APIGroupDiscoveryList, each once, in the first version that serves it."""
    found: dict[tuple[str, str], Resource] = {}
    for group in document.get("items") or ():
        name = group["metadata"].get("name", "")
        for version in group.get("versions") or ():
            for raw in version.get("resources") or ():
                found.setdefault((name, raw["resource"]), _resource(name, version["version"], raw))
    return list(found.values())


def _resource(group: str, version: str, raw: dict[str, Any]) -> Resource:
    kind = (raw.get("responseKind") or {}).get("kind", "")
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=raw["resource"],
        singular=raw.get("singularResource", ""),
        namespaced=raw.get("scope") == "Namespaced",
        verbs=tuple(raw.get("verbs") or ()),
    )


async def discover(client: ApiClient) -> list[Resource]:
    """Ask the server. Raises as any request does."""
    resources: list[Resource] = []
    for path in ("/api", "/apis"):
        resources += plan_resources(orjson.loads(await client.request("GET", path, headers={"Accept": ACCEPT})))
    return resources
