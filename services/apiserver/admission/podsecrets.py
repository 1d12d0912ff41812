"""What a pod takes from other objects. Imitates VisitPodSecretNames and VisitPodConfigmapNames of pkg/api/pod."""

from __future__ import annotations

from kubecosm.api.resources import Object

SECRET_SOURCES = (
    "azureFile", "cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos",
)  # fmt: skip
"""Volumes that may name a Secret by secretRef or secretName."""


def references(spec: Object) -> set[str]:
    """The resources that a pod refers to: secrets, configmaps, clustertrustbundles, persistentvolumeclaims."""
    found = {"secrets"} if spec.get("imagePullSecrets") else set()
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            found |= _of_environment(container)
    for volume in spec.get("volumes") or ():
        found |= _of_volume(volume)
    return found


def _of_environment(container: Object) -> set[str]:
    sources = container.get("envFrom") or ()
    found = {"secrets"} if any(source.get("secretRef") for source in sources) else set()
    found |= {"configmaps"} if any(source.get("configMapRef") for source in sources) else set()
    values = [variable.get("valueFrom") or {} for variable in container.get("env") or ()]
    found |= {"secrets"} if any(value.get("secretKeyRef") for value in values) else set()
    return found | ({"configmaps"} if any(value.get("configMapKeyRef") for value in values) else set())


def _of_volume(volume: Object) -> set[str]:
    kinds = {"secret": "secrets", "configMap": "configmaps", "clusterTrustBundle": "clustertrustbundles"}
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    found = {kinds[key] for source in sources for key in kinds if source.get(key) is not None}
    if volume.get("persistentVolumeClaim") is not None:
        found.add("persistentvolumeclaims")
    if (volume.get("csi") or {}).get("nodePublishSecretRef") is not None:
        found.add("secrets")
    named = [volume[key] for key in SECRET_SOURCES if volume.get(key) is not None]
    if any(source.get("secretRef") is not None or source.get("secretName") for source in named):
        found.add("secrets")
    return found
