"""The volumes of pods as trees in memory: configMap, secret, projected, downwardAPI, emptyDir, hostPath, claims.

Volumes that outlive a pod (hostPath, claims) are kept by this process, by node or claim. Leaves out: quotas, real disks, CSI.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from kubecosm.api.meta import Key
from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object, Resource
from kubecosm.runtime.clock import Clock

from ..env.environment import Lookup
from ..env.fields import field_value, resource_value
from .filesystem import Dir, File, FileSystem, Node

ROOT_CA_CONFIGMAP = "kube-root-ca.crt"
TokenRequest = Callable[[Object, Object], Awaitable[str]]
"""(pod, serviceAccountToken projection) → a token."""


class VolumeMissing(Exception):
    """A volume cannot be set up yet; `volume` names it, the message is that of the FailedMount event."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')
        self.volume = volume


def references(pod: Object) -> list[tuple[str, Resource, str, bool]]:
    """(volume, resource, object name, optional) of every ConfigMap and Secret that the pod's volumes show."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if (configmap := source.get("configMap")) is not None:
                found.append((volume["name"], CONFIGMAPS, configmap.get("name", ""), bool(configmap.get("optional"))))
            if (secret := source.get("secret")) is not None:
                found.append((volume["name"], SECRETS, secret.get("secretName") or secret.get("name", ""), bool(secret.get("optional"))))
    return found


def required(pod: Object) -> list[tuple[str, Resource, str]]:
    """What must exist before the pod may start; the root CA bundle that every pod has is not waited for."""
    return [(volume, resource, name) for volume, resource, name, optional in references(pod) if not optional and name != ROOT_CA_CONFIGMAP]


def check(pod: Object, lookup: Lookup) -> None:
    """VolumeMissing if an object or key that a volume needs is not there."""
    namespace = pod["metadata"]["namespace"]
    for volume, resource, name in required(pod):
        if lookup(resource, namespace, name) is None:
            raise VolumeMissing(volume, f'{resource.singular} "{name}" not found')


@dataclass(slots=True)
class PodVolumes:
    """The volumes of one pod, made once and shared by its containers."""

    pod: Object
    pod_ip: str
    node_ip: str
    nodes: dict[str, Node] = field(default_factory=dict)
    tokens: dict[str, bytes] = field(default_factory=dict)


class VolumeManager:
    """Makes and refreshes volumes. `lookup` reads cached ConfigMaps and Secrets."""

    def __init__(self, clock: Clock, lookup: Lookup, token: TokenRequest) -> None:
        self._clock = clock
        self._lookup = lookup
        self._token = token
        self._pods: dict[str, PodVolumes] = {}
        self._lasting: dict[str, Dir] = {}

    async def volumes(self, pod: Object, pod_ip: str, node_ip: str) -> Mapping[str, Node]:
        """Nodes by volume name, with fresh content."""
        uid = pod["metadata"]["uid"]
        volumes = self._pods.get(uid)
        if volumes is None:
            volumes = self._pods[uid] = PodVolumes(pod, pod_ip, node_ip)
        volumes.pod = pod
        await self._fetch_tokens(volumes)
        self.refresh(uid)
        return volumes.nodes

    async def _fetch_tokens(self, volumes: PodVolumes) -> None:
        for volume in volumes.pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if (projection := source.get("serviceAccountToken")) is not None and not volumes.tokens.get(volume["name"]):
                    volumes.tokens[volume["name"]] = (await self._token(volumes.pod, projection)).encode()

    def refresh(self, uid: str) -> None:
        """Bring what is shown of ConfigMaps, Secrets and the pod itself up to date, in place."""
        volumes = self._pods.get(uid)
        if volumes is None:
            return
        for volume in volumes.pod["spec"].get("volumes") or ():
            name = volume["name"]
            lasting = self._lasting_directory(volumes, volume)
            if lasting is not None:
                volumes.nodes[name] = lasting
                continue
            files = self._files(volumes, volume)
            directory = volumes.nodes.setdefault(name, Dir(read_only=True))
            if isinstance(directory, Dir) and files is not None:
                fresh = _tree(files)
                directory.entries.clear()
                directory.entries.update(fresh.entries)

    def forget(self, uid: str) -> None:
        self._pods.pop(uid, None)

    def users_of(self, resource: Resource, key: Key) -> list[str]:
        """Pods (uids) whose volumes show this object and are made already."""
        return [
            uid
            for uid, volumes in self._pods.items()
            if volumes.pod["metadata"]["namespace"] == key.namespace
            and any(r == resource and name == key.name for _, r, name, _ in references(volumes.pod))
        ]

    def _lasting_directory(self, volumes: PodVolumes, volume: Object) -> Dir | None:
        """A directory that containers write to; None for volumes that show objects."""
        pod, name = volumes.pod, volume["name"]
        if any(kind in volume for kind in ("configMap", "secret", "projected", "downwardAPI")):
            return None
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            key = f"claim/{pod['metadata']['namespace']}/{claim['claimName']}"
        elif "ephemeral" in volume:
            key = f"claim/{pod['metadata']['namespace']}/{pod['metadata']['name']}-{name}"
        elif (host := volume.get("hostPath")) is not None:
            key = f"host/{pod['spec'].get('nodeName')}{host['path']}"
        else:
            existing = volumes.nodes.get(name)
            return existing if isinstance(existing, Dir) else Dir(mode=0o777)
        return self._lasting.setdefault(key, Dir(mode=0o777))

    def _files(self, volumes: PodVolumes, volume: Object) -> dict[str, bytes] | None:
        """Path → content of a volume that shows objects."""
        sources = (volume.get("projected") or {}).get("sources") or [volume]
        files: dict[str, bytes] = {}
        for source in sources:
            if (projection := source.get("serviceAccountToken")) is not None:
                files[projection.get("path") or "token"] = volumes.tokens.get(volume["name"], b"")
            for kind, resource in (("configMap", CONFIGMAPS), ("secret", SECRETS)):
                if (reference := source.get(kind)) is not None:
                    name = reference.get("secretName") or reference.get("name", "")
                    files.update(_object_files(reference, self._lookup(resource, volumes.pod["metadata"]["namespace"], name), resource))
            if (downward := source.get("downwardAPI")) is not None:
                files.update(_downward_files(volumes, downward))
        return files


def _object_files(reference: Object, obj: Object | None, resource: Resource) -> dict[str, bytes]:
    if obj is None:
        return {}
    data = obj.get("data") or {}
    if resource == SECRETS:
        content = {key: base64.b64decode(value) for key, value in data.items()}
    else:
        content = {key: value.encode(errors="surrogateescape") for key, value in data.items()}
        content |= {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    items = reference.get("items")
    if not items:
        return content
    return {item["path"]: content[item["key"]] for item in items if item["key"] in content}


def _downward_files(volumes: PodVolumes, downward: Object) -> dict[str, bytes]:
    files = {}
    for item in downward.get("items") or ():
        if (reference := item.get("fieldRef")) is not None:
            text = field_value(volumes.pod, reference["fieldPath"], pod_ip=volumes.pod_ip, node_ip=volumes.node_ip)
        else:
            reference = item["resourceFieldRef"]
            name = reference.get("containerName")
            spec = next((c for c in volumes.pod["spec"]["containers"] if c["name"] == name), volumes.pod["spec"]["containers"][0])
            text = resource_value(spec, reference)
        files[item["path"]] = text.encode(errors="surrogateescape")
    return files


def _tree(files: Mapping[str, bytes]) -> Dir:
    fs = FileSystem()
    for path, content in files.items():
        absolute = fs.resolve(path)
        if posixpath.dirname(absolute) != "/":
            fs.mkdir(posixpath.dirname(absolute), parents=True)
        fs.graft(absolute, File(content))
    return fs.root
