"""A pod as the scheduler sees it: everything plugins ask for, worked out once when the pod arrives (framework.PodInfo).

Terms, selectors and node affinities are compiled through bounded caches, because the pods of one workload share them.
Left out: the alpha Gt/Lt toleration operators and dynamic resource claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from kubecosm.api import selectors
from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object
from kubecosm.api.selectors import LabelSelector

from .nodeselector import NodeTerms, compile_preferred, compile_required
from .requests import Requests, nonzero_requests, pod_requests

COMPILED_SPECS_MAX = 4096
"""Distinct affinities, tolerations and spread constraints kept compiled."""


class Toleration(NamedTuple):
    key: str
    operator: str
    value: str
    effect: str


class HostPort(NamedTuple):
    ip: str
    protocol: str
    port: int


class Disk(NamedTuple):
    """A disk that pods name themselves, without a claim; `hosts` are the monitors of a Ceph image."""

    kind: str
    identity: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One term of pod (anti-)affinity; weight is 0 for required terms."""

    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    topology_key: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class PodAffinity:
    """The four lists of pod (anti-)affinity terms."""

    required: tuple[AffinityTerm, ...] = ()
    preferred: tuple[AffinityTerm, ...] = ()
    anti_required: tuple[AffinityTerm, ...] = ()
    anti_preferred: tuple[AffinityTerm, ...] = ()

    @property
    def terms(self) -> Iterable[AffinityTerm]:
        return (*self.required, *self.preferred, *self.anti_required, *self.anti_preferred)


NO_POD_AFFINITY = PodAffinity()


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One topologySpreadConstraint; `hard` is whenUnsatisfiable: DoNotSchedule."""

    topology_key: str
    max_skew: int
    hard: bool
    selector: LabelSelector
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


@dataclass(slots=True)
class PodInfo:
    """A compiled pod. `node_name` is where it runs or is assumed to run."""

    pod: Object
    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    node_name: str
    priority: int
    requests: Requests
    nonzero_cpu: int
    nonzero_memory: int
    host_ports: tuple[HostPort, ...]
    tolerations: tuple[Toleration, ...]
    node_required: NodeTerms | None
    node_preferred: tuple[tuple[int, NodeTerms], ...]
    affinity: PodAffinity
    spread: tuple[SpreadConstraint, ...]
    claims: tuple[str, ...]
    disks: tuple[Disk, ...]
    is_terminating: bool
    nominated_node: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def scheduler_name(self) -> str:
        name: str = self.pod["spec"].get("schedulerName") or "default-scheduler"
        return name


def compile_pod(pod: Object) -> PodInfo:
    """The PodInfo of a pod as received from the API server; malformed selectors match nothing."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    namespace, labels = meta.get("namespace", ""), labels_of(pod)
    affinity = spec.get("affinity") or {}
    requests = pod_requests(pod)
    cpu, memory = nonzero_requests(pod, requests)
    tolerations = spec.get("tolerations")
    constraints = spec.get("topologySpreadConstraints")
    return PodInfo(
        pod=pod,
        uid=meta.get("uid", ""),
        namespace=namespace,
        name=meta["name"],
        labels=labels,
        node_name=spec.get("nodeName") or "",
        priority=spec.get("priority") or 0,
        requests=requests,
        nonzero_cpu=cpu,
        nonzero_memory=memory,
        host_ports=_host_ports(spec),
        tolerations=_tolerations(orjson.dumps(tolerations)) if tolerations else (),
        node_required=compile_required(spec.get("nodeSelector"), affinity.get("nodeAffinity")),
        node_preferred=compile_preferred(affinity.get("nodeAffinity")),
        affinity=_pod_affinity(affinity, namespace, labels),
        spread=compile_spread_constraints(constraints, labels) if constraints else (),
        claims=_claims(spec, meta["name"]),
        disks=_disks(spec),
        is_terminating=meta.get("deletionTimestamp") is not None,
        nominated_node=status.get("nominatedNodeName") or "",
    )


@lru_cache(maxsize=COMPILED_SPECS_MAX)
def _tolerations(raw: bytes) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(t.get("key") or "", t.get("operator") or "Equal", t.get("value") or "", t.get("effect") or "") for t in orjson.loads(raw)
    )


def _host_ports(spec: Object) -> tuple[HostPort, ...]:
    """Ports of containers and restartable init containers that a node must have free (schedutil.GetHostPorts)."""
    return tuple(
        HostPort(port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in _running_containers(spec)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _running_containers(spec: Object) -> Iterable[Object]:
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def _claims(spec: Object, pod_name: str) -> tuple[str, ...]:
    """Names of the PersistentVolumeClaims of a pod; an ephemeral volume's claim is named after the pod."""
    names = []
    for volume in spec.get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            names.append(claim["claimName"])
        elif volume.get("ephemeral") is not None:
            names.append(f"{pod_name}-{volume['name']}")
    return tuple(names)


def _disks(spec: Object) -> tuple[Disk, ...]:
    """The disks that VolumeRestrictions looks at."""
    volumes = spec.get("volumes")
    return tuple(disk for volume in volumes if (disk := _disk(volume)) is not None) if volumes else ()


def _disk(volume: Object) -> Disk | None:
    if source := volume.get("gcePersistentDisk"):
        return Disk("gce", (source["pdName"],), read_only=bool(source.get("readOnly")))
    if source := volume.get("awsElasticBlockStore"):
        return Disk("aws", (source["volumeID"],))
    if source := volume.get("iscsi"):
        return Disk("iscsi", (source["iqn"],), read_only=bool(source.get("readOnly")))
    if source := volume.get("rbd"):
        identity = (source.get("pool") or "rbd", source["image"])
        return Disk("rbd", identity, tuple(source.get("monitors") or ()), bool(source.get("readOnly")))
    return None


# ---- pod affinity


def _pod_affinity(affinity: Object, namespace: str, labels: Mapping[str, str]) -> PodAffinity:
    toward, away = affinity.get("podAffinity"), affinity.get("podAntiAffinity")
    if not toward and not away:
        return NO_POD_AFFINITY
    raw = orjson.dumps([_with_label_keys(toward, labels), _with_label_keys(away, labels)])
    return _compile_pod_affinity(raw, namespace)


def _with_label_keys(affinity: Object | None, labels: Mapping[str, str]) -> Object | None:
    """The affinity with (mis)matchLabelKeys turned into expressions, as the API server does on create."""
    if not affinity or b"LabelKeys" not in orjson.dumps(affinity):
        return affinity
    required = [_merge_label_keys(term, labels) for term in affinity.get(REQUIRED) or ()]
    preferred = [{**w, "podAffinityTerm": _merge_label_keys(w["podAffinityTerm"], labels)} for w in affinity.get(PREFERRED) or ()]
    return {REQUIRED: required, PREFERRED: preferred}


REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"


def _merge_label_keys(term: Object, labels: Mapping[str, str]) -> Object:
    """`term` with its label keys as expressions of its labelSelector; keys the pod does not carry are ignored."""
    selector = term.get("labelSelector")
    if selector is None:
        return term
    expressions = list(selector.get("matchExpressions") or ())
    for name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in term.get(name) or ():
            expression = {"key": key, "operator": operator, "values": [labels.get(key)]}
            if key in labels and expression not in expressions:
                expressions.append(expression)
    return {**term, "labelSelector": {**selector, "matchExpressions": expressions}}


@lru_cache(maxsize=COMPILED_SPECS_MAX)
def _compile_pod_affinity(raw: bytes, namespace: str) -> PodAffinity:
    toward, away = orjson.loads(raw)
    return PodAffinity(
        _required_terms(toward, namespace), _preferred_terms(toward, namespace),
        _required_terms(away, namespace), _preferred_terms(away, namespace),
    )  # fmt: skip


def _required_terms(affinity: Object | None, namespace: str) -> tuple[AffinityTerm, ...]:
    return tuple(_term(term, namespace, 0) for term in (affinity or {}).get(REQUIRED) or ())


def _preferred_terms(affinity: Object | None, namespace: str) -> tuple[AffinityTerm, ...]:
    return tuple(_term(w["podAffinityTerm"], namespace, w["weight"]) for w in (affinity or {}).get(PREFERRED) or ())


def _term(term: Object, namespace: str, weight: int) -> AffinityTerm:
    """Without namespaces and namespaceSelector a term is about the pod's own namespace (getNamespacesFromPodAffinityTerm)."""
    names, namespace_selector = term.get("namespaces") or (), term.get("namespaceSelector")
    namespaces = frozenset(names) if names or namespace_selector is not None else frozenset((namespace,))
    return AffinityTerm(_selector(term.get("labelSelector")), namespaces, _selector(namespace_selector), term["topologyKey"], weight)


def _selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    try:
        return selectors.from_label_selector(selector)
    except selectors.SelectorError:
        return selectors.NOTHING


# ---- spread constraints


def compile_spread_constraints(constraints: list[Object], labels: Mapping[str, str]) -> tuple[SpreadConstraint, ...]:
    """topologySpreadConstraints of a pod with these labels, or of a scheduler configuration."""
    merged = [_merge_label_keys(constraint, labels) if constraint.get("matchLabelKeys") else constraint for constraint in constraints]
    return _compile_spread(orjson.dumps(merged))


@lru_cache(maxsize=COMPILED_SPECS_MAX)
def _compile_spread(raw: bytes) -> tuple[SpreadConstraint, ...]:
    return tuple(
        SpreadConstraint(
            topology_key=constraint["topologyKey"],
            max_skew=constraint["maxSkew"],
            hard=constraint.get("whenUnsatisfiable") == "DoNotSchedule",
            selector=_selector(constraint.get("labelSelector")),
            min_domains=constraint.get("minDomains") or 1,
            honor_affinity=(constraint.get("nodeAffinityPolicy") or "Honor") == "Honor",
            honor_taints=(constraint.get("nodeTaintsPolicy") or "Ignore") == "Honor",
        )
        for constraint in orjson.loads(raw)
    )
