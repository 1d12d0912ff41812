"""Who needs what: the edges of the graph that one object adds. Pure. Imitates plugin/pkg/auth/authorizer/node/graph.go.

An edge leads from what is needed towards the node that needs it: Secret → Pod → Node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kubecosm.api.names import ANNOTATION_CONFIG_MIRROR
from kubecosm.api.resources import Object


class Vertex(NamedTuple):
    """`resource` is the plural."""

    resource: str
    namespace: str
    name: str


Edge = tuple[Vertex, Vertex]
SECRET_NAMES: dict[str, tuple[str, ...]] = {
    "secret": ("secretName",), "azureFile": ("secretName",), "cephfs": ("secretRef", "name"), "cinder": ("secretRef", "name"),
    "flexVolume": ("secretRef", "name"), "rbd": ("secretRef", "name"), "scaleIO": ("secretRef", "name"), "iscsi": ("secretRef", "name"),
    "storageos": ("secretRef", "name"), "csi": ("nodePublishSecretRef", "name"),
}  # fmt: skip
"""Volume source → where it names its Secret (VisitPodSecretNames)."""
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
    for resource, name in (*_named_by_containers(spec), *_named_by_volumes(spec, meta["name"]), *_claims(pod)):
        yield Vertex(resource, namespace, name), here


def _named_by_containers(spec: Object) -> Iterator[tuple[str, str]]:
    for alias in spec.get("imagePullSecrets") or ():
        yield "secrets", alias.get("name", "")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            for source in container.get("envFrom") or ():
                yield from _references(source, "configMapRef", "secretRef")
            for variable in container.get("env") or ():
                yield from _references(variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef")


def _references(source: Object, config_map: str, secret: str) -> Iterator[tuple[str, str]]:
    if source.get(config_map):
        yield "configmaps", source[config_map].get("name", "")
    if source.get(secret):
        yield "secrets", source[secret].get("name", "")


def _named_by_volumes(spec: Object, pod_name: str) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield "persistentvolumeclaims", volume["persistentVolumeClaim"].get("claimName", "")
        if "ephemeral" in volume:
            yield "persistentvolumeclaims", f"{pod_name}-{volume['name']}"
        if volume.get("configMap"):
            yield "configmaps", volume["configMap"].get("name", "")
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _references(source, "configMap", "secret")
        for field, path in SECRET_NAMES.items():
            found = volume.get(field)
            for part in path:
                found = (found or {}).get(part)
            if isinstance(found, str) and found:
                yield "secrets", found


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
