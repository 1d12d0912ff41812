"""Which ResourceClaims a pod uses."""

from __future__ import annotations

from kubecosm.api.resources import Object

INDEX_CLAIM_USER = "resource-claim"
"""Pods by the ResourceClaims they use, as namespace/name."""


def generated(pod: Object) -> dict[str, str]:
    """Entry of spec.resourceClaims → name of the claim that was made for it."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return {status["name"]: status.get("resourceClaimName") or "" for status in statuses}


def claim_names(pod: Object) -> set[str]:
    """Every claim that the pod uses."""
    named = {wanted["resourceClaimName"] for wanted in pod["spec"].get("resourceClaims") or () if wanted.get("resourceClaimName")}
    named |= {name for name in generated(pod).values() if name}
    extended = extended_claim_name(pod)
    return named | {extended} if extended else named


def extended_claim_name(pod: Object) -> str:
    """The claim that the scheduler has made for the pod's extended resources; empty if there is none."""
    name: str = ((pod.get("status") or {}).get("extendedResourceClaimStatus") or {}).get("resourceClaimName") or ""
    return name


def claim_keys(pod: Object) -> list[str]:
    """The index function of INDEX_CLAIM_USER."""
    if not pod["spec"].get("resourceClaims"):
        return []
    return [f"{pod['metadata']['namespace']}/{name}" for name in claim_names(pod)]
