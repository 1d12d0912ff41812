"""From a Service to an address behind it, as kube-apiserver's endpoint resolver does (--enable-aggregator-routing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecosm.api.errors import NotFound, ServiceUnavailable
from kubecosm.api.names import LABEL_SERVICE_NAME
from kubecosm.api.resources import ENDPOINTSLICES, SERVICES, Object
from kubecosm.api.selectors import parse_labels

from ..cache.selection import Selection
from .client import ResolveService

if TYPE_CHECKING:
    from ..state import State


def resolver(state: State) -> ResolveService:
    """Looks Services up in the caches; of several ready endpoints chance chooses."""

    def resolve(namespace: str, name: str, port: int) -> tuple[str, int]:
        entry = state.caches.of("", SERVICES.plural).get(f"{namespace}/{name}")
        if entry is None:
            raise NotFound(f'service "{name}" not found')
        spec = entry.decode()["spec"]
        wanted = next((p for p in spec.get("ports") or () if p["port"] == port), None)
        if spec.get("type") == "ExternalName":
            return str(spec["externalName"]), port
        if wanted is None:
            raise ServiceUnavailable(f'no service port {port} found for service "{name}"')
        found = _ready(state, namespace, name, wanted.get("name", ""))
        if not found:
            raise ServiceUnavailable(f'no endpoints available for service "{name}"')
        return state.rng.choice(found)

    return resolve


def _ready(state: State, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
    slices = state.caches.of(ENDPOINTSLICES.group, ENDPOINTSLICES.plural)
    selection = Selection(namespace, parse_labels(f"{LABEL_SERVICE_NAME}={name}"))
    found: list[tuple[str, int]] = []
    for entry in slices.page(selection).entries:
        part: Object = entry.decode()
        number = next((p.get("port") for p in part.get("ports") or () if p.get("name", "") == port_name), None)
        if number:
            ready = [e for e in part.get("endpoints") or () if (e.get("conditions") or {}).get("ready", True)]
            found += [(address, number) for e in ready for address in e["addresses"]]
    return found
