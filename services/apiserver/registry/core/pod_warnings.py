"""Warnings about pods and pod templates that are accepted but unwise. Imitates pkg/api/pod/warnings.go."""

from __future__ import annotations

from kubecosm.api.resources import Object

from .resources import amount
from .security import SECCOMP_CONTAINER_ANNOTATION, SECCOMP_POD_ANNOTATION, containers_of

_DEPRECATED_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_DEPRECATED_VOLUMES = {
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


def pod_warnings(spec: Object, metadata: Object, path: str, metadata_path: str) -> list[str]:
    """Texts for Warning headers about a PodSpec at `path`."""
    selected = [key for key in spec.get("nodeSelector") or () if key in _DEPRECATED_NODE_LABELS]
    warnings = [f"{path}.nodeSelector[{key}]: {_DEPRECATED_NODE_LABELS[key]}" for key in selected]
    for i, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        if "labelSelector" not in constraint:
            warnings.append(f"{path}.topologySpreadConstraints[{i}].labelSelector: a null labelSelector results in matching no pod")
    warnings += [
        f'{metadata_path}.annotations[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        for key in metadata.get("annotations") or ()
        if key == SECCOMP_POD_ANNOTATION or key.startswith(SECCOMP_CONTAINER_ANNOTATION)
    ]
    for i, volume in enumerate(spec.get("volumes") or ()):
        for source, text in _DEPRECATED_VOLUMES.items():
            if source in volume:
                warnings.append(f"{path}.volumes[{i}].{source}: {text}")
    for i, alias in enumerate(spec.get("imagePullSecrets") or ()):
        if not alias.get("name"):
            warnings.append(f'{path}.imagePullSecrets[{i}].name: invalid empty name ""')
    for container, where in containers_of(spec, path):
        _container_warnings(container, where, warnings)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        warnings.append(f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1")
    return warnings


def _container_warnings(container: Object, path: str, warnings: list[str]) -> None:
    resources = container.get("resources") or {}
    for field in ("limits", "requests"):
        for name, value in (resources.get(field) or {}).items():
            if name in ("memory", "ephemeral-storage") and amount(value).nanos % 10**9:
                warnings.append(f'{path}.resources.{field}[{name}]: fractional byte value "{value}" is invalid, must be an integer')
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            warnings.append(f'{path}.env[{i}]: hides previous definition of "{name}", which may be dropped when using apply')
        seen.add(name)
    _port_warnings(container.get("ports") or [], path, warnings)


def _port_warnings(ports: list[Object], path: str, warnings: list[str]) -> None:
    for i, port in enumerate(ports):
        key = (port.get("containerPort"), port.get("protocol"))
        earlier = next((j for j, p in enumerate(ports[:i]) if (p.get("containerPort"), p.get("protocol")) == key), None)
        if earlier is not None:
            warnings.append(f"{path}.ports[{i}]: duplicate port definition with {path}.ports[{earlier}]")
