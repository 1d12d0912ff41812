"""The Secrets, ConfigMaps and claims that a pod names. Imitates pkg/api/v1/pod (VisitPodSecretNames, VisitPodConfigmapNames)."""

from __future__ import annotations

from collections.abc import Iterator

from .resources import Object

SECRET_NAMES: dict[str, tuple[str, ...]] = {
    "secret": ("secretName",), "azureFile": ("secretName",), "cephfs": ("secretRef", "name"), "cinder": ("secretRef", "name"),
    "flexVolume": ("secretRef", "name"), "rbd": ("secretRef", "name"), "scaleIO": ("secretRef", "name"), "iscsi": ("secretRef", "name"),
    "storageos": ("secretRef", "name"), "csi": ("nodePublishSecretRef", "name"),
}  # fmt: skip
"""Volume source → where it names its Secret (VisitPodSecretNames)."""


def named_by_pod(pod: Object) -> Iterator[tuple[str, str]]:
    """(plural, name) of what containers and volumes refer to in the pod's namespace; the same may come more than once."""
    spec = pod.get("spec") or {}
    yield from _named_by_containers(spec)
    yield from _named_by_volumes(spec, pod["metadata"]["name"])


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
