"""Who needs what: the edges of the graph that one object adds. Pure. Imitates plugin/pkg/auth/authorizer/node/graph.go.

An edge leads from what is needed towards the node that needs it: Secret → Pod → Node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kubecosm.api.names import ANNOTATION_CONFIG_MIRROR
from kubecosm.api.podreferences import named_by_pod
from kubecosm.api.resources import Object


class Vertex(NamedTuple):
    """`resource` is the plural."""

    resource: str
    namespace: str
    name: str


Edge = tuple[Vertex, Vertex]
VOLUME_SECRETS = {
    "cephfs": ("secretRef",), "cinder": ("secretRef",), "flexVolume": ("secretRef",), "rbd": ("secretRef",), "scaleIO": ("secretRef",),
    "iscsi": ("secretRef",), "storageos": ("secretRef",), "csi": ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"),
}  # fmt: skip
"""PersistentVolume source → its references to Secrets that kubelets see (VisitPVSecretNames)."""


def node_vertex(name: str) -> Vertex:
    return Vertex("nodes", "", name)


def pod_edges(pod: Object) -> Iterator[Edge]:
    """A pod on a node needs its account, Secrets, ConfigMaps, claims; a mirror pod needs nothing, as anybody may have written it."""
    meta, spec = pod["metadata"], pod["spec"]
    namespace, node = meta["namespace"], spec.get("nodeName")
    if not node:
        return
    here = Vertex("pods", namespace, meta["name"])
    yield here, node_vertex(node)
    if ANNOTATION_CONFIG_MIRROR in (meta.get("annotations") or {}):
        return
    if spec.get("serviceAccountName"):
        yield Vertex("serviceaccounts", namespace, spec["serviceAccountName"]), here
    for resource, name in (*named_by_pod(pod), *_claims(pod)):
        yield Vertex(resource, namespace, name), here


def _claims(pod: Object) -> Iterator[tuple[str, str]]:
    """ResourceClaims by name, or as made from a template."""
    status = pod.get("status") or {}
    made = {entry["name"]: entry.get("resourceClaimName") for entry in status.get("resourceClaimStatuses") or ()}
    for claim in pod["spec"].get("resourceClaims") or ():
        name = claim.get("resourceClaimName") or made.get(claim["name"])
        if name:
            yield "resourceclaims", name
    extended = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    if extended:
        yield "resourceclaims", extended


def volume_edges(volume: Object) -> Iterator[Edge]:
    """A bound PersistentVolume is needed by whoever needs its claim, and needs its Secrets."""
    spec = volume["spec"]
    claim = spec.get("claimRef")
    if not claim:
        return
    here = Vertex("persistentvolumes", "", volume["metadata"]["name"])
    yield here, Vertex("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
    for field, references in VOLUME_SECRETS.items():
        for reference in references:
            secret = (spec.get(field) or {}).get(reference)
            if secret:
                yield Vertex("secrets", secret.get("namespace") or claim.get("namespace", ""), secret.get("name", "")), here
    azure = spec.get("azureFile")
    if azure:
        yield Vertex("secrets", azure.get("secretNamespace") or claim.get("namespace", ""), azure.get("secretName", "")), here


def attachment_edges(attachment: Object) -> Iterator[Edge]:
    yield Vertex("volumeattachments", "", attachment["metadata"]["name"]), node_vertex(attachment["spec"].get("nodeName", ""))


def slice_edges(resource_slice: Object) -> Iterator[Edge]:
    node = resource_slice["spec"].get("nodeName")
    if node:
        yield Vertex("resourceslices", "", resource_slice["metadata"]["name"]), node_vertex(node)


EDGES: dict[tuple[str, str], Callable[[Object], Iterator[Edge]]] = {
    ("", "pods"): pod_edges, ("", "persistentvolumes"): volume_edges, ("storage.k8s.io", "volumeattachments"): attachment_edges,
    ("resource.k8s.io", "resourceslices"): slice_edges,
}  # fmt: skip
"""(group, plural) of what is looked at → the edges that one object adds."""
