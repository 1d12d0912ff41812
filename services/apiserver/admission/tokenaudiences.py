"""For whom a kubelet may ask for a pod's tokens: audiences that a volume of the pod needs, and those it was granted.

Imitates validateNodeServiceAccountAudience of plugin/pkg/admission/noderestriction (ServiceAccountNodeAudienceRestriction).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence

from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object, builtin

from ..authz.attributes import Attributes as Asked
from ..authz.attributes import Decision, decide
from ..cache.resource import ResourceCache
from ..state import State
from .chain import Attributes

CSIDRIVERS = builtin("storage.k8s.io", "v1", "csidrivers")
VERB = "request-serviceaccounts-token-audience"


class Audiences:
    """Finds the audiences of a pod's projected tokens and of the CSI drivers of its volumes."""

    def __init__(self, claims: ResourceCache, volumes: ResourceCache, drivers: ResourceCache, state: State) -> None:
        self._claims, self._volumes, self._drivers = claims, volumes, drivers
        self._state = state

    def complaint(self, attributes: Attributes, audiences: Sequence[str], pod: Object) -> str | Awaitable[str]:
        """Why the node may not have such a token; empty if it may. No audience means the API server's own."""
        if len(audiences) > 1:
            return "node may only request 0 or 1 audiences"
        wanted = audiences[0] if audiences else ""
        return "" if wanted in self._of_pod(pod) else self._granted(attributes, wanted, pod)

    def _of_pod(self, pod: Object) -> Iterator[str]:
        meta = pod["metadata"]
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if source.get("serviceAccountToken") is not None:
                    yield source["serviceAccountToken"].get("audience", "")
            driver = (volume.get("csi") or {}).get("driver", "")
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
            if volume.get("ephemeral") is not None:
                claim = f"{meta['name']}-{volume['name']}"
            if claim:
                driver = self._driver_of(f"{meta.get('namespace', '')}/{claim}")
            yield from self._of_driver(driver)

    def _driver_of(self, claim_key: str) -> str:
        claim = self._claims.get(claim_key)
        volume = self._volumes.get(claim.decode()["spec"].get("volumeName") or "") if claim is not None else None
        driver: str = ((volume.decode()["spec"].get("csi") or {}).get("driver", "")) if volume is not None else ""
        return driver

    def _of_driver(self, name: str) -> Iterator[str]:
        driver = self._drivers.get(name) if name else None
        for request in (driver.decode()["spec"].get("tokenRequests") or ()) if driver is not None else ():
            yield request.get("audience", "")

    async def _granted(self, attributes: Attributes, wanted: str, pod: Object) -> str:
        """Whether the authorizer lets the node ask for the account's tokens for this audience all the same."""
        asked = Asked(
            attributes.user, VERB, pod["metadata"].get("namespace", ""), "", "v1", wanted, name=pod["spec"].get("serviceAccountName", "")
        )
        if self._state.authorizer is not None and (await decide(self._state.authorizer, asked))[0] is Decision.ALLOW:
            return ""
        told = f"audience {go_quote(wanted)} not found in pod spec volume"
        return f"{told}, {attributes.user.name} is not authorized to request tokens for this audience"
