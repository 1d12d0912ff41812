"""What a pod takes from other API objects: a mirror pod may take nothing. Imitates HasAPIObjectReference of pkg/api/pod."""

from __future__ import annotations

from kubecosm.api.podreferences import named_by_pod
from kubecosm.api.resources import Object

_BY_VOLUME = {
    "configMap": "configmaps (via configmap volumes)", "secret": "secrets (via secret volumes)", "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)", "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)", "azureFile": "secrets (via azureFile volumes)",
}  # fmt: skip
_BY_SOURCE = {
    "configMap": "configmaps (via projected volumes)", "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)", "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}  # fmt: skip


def api_object_reference(pod: Object) -> str:
    """The resource of one that the pod refers to, as refusals name it; empty if it refers to none."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    named = {resource for resource, _ in named_by_pod(pod)}
    for resource in ("secrets", "configmaps"):
        if resource in named:
            return resource
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        for source, told in _BY_VOLUME.items():
            if volume.get(source) is not None:
                return told
        for projected in (volume.get("projected") or {}).get("sources") or ():
            for source, told in _BY_SOURCE.items():
                if projected.get(source) is not None:
                    return told
    return ""
