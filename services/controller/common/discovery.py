"""Which resources the server has now, custom ones included: the preferred version of each, from aggregated discovery.

Of an extension server that does not answer nothing is known for sure: its resources are left out, and its versions are named as stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from kubecosm.api.resources import Object, Resource
from kubecosm.client.http import ApiClient

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


STALE = "Stale"


@dataclass(frozen=True)
class Discovery:
    """What the server serves, and the group versions (`group/version`) whose own server did not answer."""

    resources: list[Resource]
    stale: list[str] = field(default_factory=list)

    @property
    def complaint(self) -> str:
        """In client-go's words what is not known; empty if nothing."""
        causes = [f"{name}: stale GroupVersion discovery: {name}" for name in sorted(self.stale)]
        return f"unable to retrieve the complete list of server APIs: {', '.join(causes)}" if causes else ""


def plan_discovery(document: Object) -> Discovery:
    """The resources of an APIGroupDiscoveryList, each once, in the first version that serves it."""
    found: dict[tuple[str, str], Resource] = {}
    stale: list[str] = []
    for group in document.get("items") or ():
        name = group["metadata"].get("name", "")
        for version in group.get("versions") or ():
            if version.get("freshness") == STALE:
                stale.append(f"{name}/{version['version']}")
                continue
            for raw in version.get("resources") or ():
                found.setdefault((name, raw["resource"]), _resource(name, version["version"], raw))
    return Discovery(list(found.values()), stale)


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


async def discover(client: ApiClient) -> Discovery:
    """Ask the server. Raises as any request does."""
    parts = [
        plan_discovery(orjson.loads(await client.request("GET", path, headers={"Accept": ACCEPT}))) for path in ("/api", "/apis")
    ]
    return Discovery([resource for part in parts for resource in part.resources], [name for part in parts for name in part.stale])
