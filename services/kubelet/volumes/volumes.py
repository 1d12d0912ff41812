"""The volumes of pods as trees in memory: configMap, secret, projected, downwardAPI, emptyDir, hostPath, claims.

Volumes that outlive a pod (hostPath, claims) are kept by this process, by node or claim. Leaves out: quotas, real disks, CSI.
"""

from __future__ import annotations

import base64
import posixpath
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from kubecosm.api.meta import Key
from kubecosm.api.resources import CONFIGMAPS, SECRETS, Object, Resource
from kubecosm.runtime.clock import Clock

from ..env.environment import Lookup
from ..env.fields import field_value, resource_value
from .filesystem import Dir, File, FileSystem, Node

ROOT_CA_CONFIGMAP = "kube-root-ca.crt"
DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600
TOKEN_RENEWAL_SHARE = 0.8
"""A projected token is asked for anew once this share of its life is over."""
TokenRequest = Callable[[Object, Object], Awaitable[str]]
"""(pod, serviceAccountToken projection) → a token; empty if there is none to be had now."""
Files = dict[str, tuple[bytes, int]]
"""Path in a volume → content and permissions."""


class VolumeMissing(Exception):
    """A volume cannot be set up yet; `volume` names it, the message is that of the FailedMount event."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')
        self.volume = volume


@dataclass(frozen=True, slots=True)
class Reference:
    """A ConfigMap or Secret that a volume shows; `keys` are those it names, none for all."""

    volume: str
    resource: Resource
    name: str
    optional: bool
    keys: tuple[str, ...]


def references(pod: Object) -> list[Reference]:
    """Every ConfigMap and Secret that the pod's volumes show."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            for kind, resource in (("configMap", CONFIGMAPS), ("secret", SECRETS)):
                if (shown := source.get(kind)) is not None:
                    name, keys = shown.get("secretName") or shown.get("name", ""), tuple(item["key"] for item in shown.get("items") or ())
                    found.append(Reference(volume["name"], resource, name, bool(shown.get("optional")), keys))
    return found


def required(pod: Object) -> list[Reference]:
    """What must exist before the pod may start; the root CA bundle that every pod has is not waited for."""
    return [reference for reference in references(pod) if not reference.optional and reference.name != ROOT_CA_CONFIGMAP]


def check(pod: Object, lookup: Lookup) -> None:
    """VolumeMissing if an object or key that a volume needs is not there."""
    namespace = pod["metadata"]["namespace"]
    for wanted in required(pod):
        obj = lookup(wanted.resource, namespace, wanted.name)
        if obj is None:
            raise VolumeMissing(wanted.volume, f'{wanted.resource.singular} "{wanted.name}" not found')
        held = {**(obj.get("data") or {}), **(obj.get("binaryData") or {})}
        for key in wanted.keys:
            if key not in held:
                kind = "secret" if wanted.resource == SECRETS else "config"
                raise VolumeMissing(wanted.volume, f"references non-existent {kind} key: {key}")


@dataclass(slots=True)
class PodVolumes:
    """The volumes of one pod, made once and shared by its containers."""

    pod: Object
    pod_ip: str
    node_ip: str
    nodes: dict[str, Node] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[bytes, float]] = field(default_factory=dict)
    """By volume and path: the token, and when to ask for a new one (in seconds of the clock)."""


class VolumeManager:
    """Makes and refreshes volumes. `lookup` reads cached ConfigMaps and Secrets."""

    def __init__(self, clock: Clock, lookup: Lookup, token: TokenRequest, allocatable: Callable[[str], Mapping[str, str]]) -> None:
        """`allocatable`: what a node, by name, has for pods."""
        self._clock = clock
        self._allocatable = allocatable
        self._lookup = lookup
        self._token = token
        self._pods: dict[str, PodVolumes] = {}
        self._lasting: dict[str, Dir] = {}

    async def volumes(self, pod: Object, pod_ip: str, node_ip: str) -> Mapping[str, Node]:
        """Nodes by volume name, with fresh content."""
        uid = pod["metadata"]["uid"]
        volumes = self._pods.get(uid)
        is_new = volumes is None
        if volumes is None:
            volumes = self._pods[uid] = PodVolumes(pod, pod_ip, node_ip)
        volumes.pod = pod
        if await self._fetch_tokens(volumes) or is_new:
            self.refresh(uid)
        return volumes.nodes

    def update_pod(self, pod: Object) -> None:
        """The API has a newer pod: volumes may show its labels and annotations."""
        volumes = self._pods.get(pod["metadata"]["uid"])
        if volumes is None:
            return
        before, volumes.pod = volumes.pod["metadata"], pod
        if any(before.get(shown) != pod["metadata"].get(shown) for shown in ("labels", "annotations")):
            self.refresh(pod["metadata"]["uid"])

    async def _fetch_tokens(self, volumes: PodVolumes) -> bool:
        """Ask for the tokens that are missing or old; true if there are new ones."""
        found = False
        for volume in volumes.pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if (projection := source.get("serviceAccountToken")) is None:
                    continue
                place, now = (volume["name"], projection.get("path") or "token"), self._clock.monotonic()
                if now < volumes.tokens.get(place, (b"", 0.0))[1]:
                    continue
                if token := await self._token(volumes.pod, projection):
                    seconds = projection.get("expirationSeconds") or TOKEN_SECONDS
                    volumes.tokens[place], found = (token.encode(), now + seconds * TOKEN_RENEWAL_SHARE), True
        return found

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
            if isinstance(directory, Dir):
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
            and any(shown.resource == resource and shown.name == key.name for shown in references(volumes.pod))
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

    def _files(self, volumes: PodVolumes, volume: Object) -> Files:
        """What a volume shows of objects."""
        whole = volume.get("projected") or {}
        files: Files = {}
        for source in whole.get("sources") or [volume]:
            if (projection := source.get("serviceAccountToken")) is not None:
                path = projection.get("path") or "token"
                files[path] = volumes.tokens.get((volume["name"], path), (b"", 0.0))[0], mode_of({}, whole)
            for kind, resource in (("configMap", CONFIGMAPS), ("secret", SECRETS)):
                if (reference := source.get(kind)) is not None:
                    name = reference.get("secretName") or reference.get("name", "")
                    obj = self._lookup(resource, volumes.pod["metadata"]["namespace"], name)
                    files.update(_object_files(reference, obj, resource, whole))
            if (downward := source.get("downwardAPI")) is not None:
                files.update(self._downward_files(volumes, downward, whole))
        return files

    def _downward_files(self, volumes: PodVolumes, downward: Object, whole: Object) -> Files:
        files, spec_of = {}, {spec["name"]: spec for spec in volumes.pod["spec"]["containers"]}
        for item in downward.get("items") or ():
            if (reference := item.get("fieldRef")) is not None:
                text = field_value(volumes.pod, reference["fieldPath"], pod_ip=volumes.pod_ip, node_ip=volumes.node_ip)
            else:
                reference = item["resourceFieldRef"]
                spec = spec_of.get(reference.get("containerName", ""), volumes.pod["spec"]["containers"][0])
                text = resource_value(spec, reference, self._allocatable(volumes.pod["spec"].get("nodeName", "")))
            files[item["path"]] = text.encode(errors="surrogateescape"), mode_of(item, downward, whole)
        return files


def mode_of(*sources: Object) -> int:
    """The permissions of a file: of its item, else of its source, else of the whole volume."""
    for source in sources:
        for name in ("mode", "defaultMode"):
            if (mode := source.get(name)) is not None:
                return stat.S_IMODE(mode)
    return DEFAULT_MODE


def _object_files(reference: Object, obj: Object | None, resource: Resource, whole: Object) -> Files:
    if obj is None:
        return {}
    data = obj.get("data") or {}
    if resource == SECRETS:
        content = {key: base64.b64decode(value) for key, value in data.items()}
    else:
        content = {key: value.encode(errors="surrogateescape") for key, value in data.items()}
        content |= {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    items = reference.get("items") or [{"key": key, "path": key} for key in content]
    return {item["path"]: (content[item["key"]], mode_of(item, reference, whole)) for item in items if item["key"] in content}


def _tree(files: Files) -> Dir:
    fs = FileSystem()
    for path, (content, mode) in files.items():
        absolute = fs.resolve(path)
        if posixpath.dirname(absolute) != "/":
            fs.mkdir(posixpath.dirname(absolute), parents=True)
        fs.graft(absolute, File(content, mode))
    return fs.root
