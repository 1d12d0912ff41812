"""Extended resources that device classes stand for: pods ask for `example.com/gpu: 2` and get devices (KEP 5004).

A node that has the resource itself, by a device plugin, serves it as ever; elsewhere the scheduler makes the pod a ResourceClaim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kubecosm.api import names
from kubecosm.api.resources import Object

from ..state.podinfo import PodInfo
from ..state.requests import Requests, amounts

IMPLICIT_PREFIX = names.DEVICE_CLASS_RESOURCE_PREFIX
"""Every class is an extended resource by this and its own name."""
ClassOf = Mapping[str, str]
"""Extended resource → name of its device class."""


class ExtendedClaim(NamedTuple):
    """What the claim of a pod asks for, and which container got which request."""

    requests: tuple[Object, ...]
    mappings: tuple[Object, ...]


def may_be_extended(resource: str) -> bool:
    """Whether a resource name is of the kind that device classes may stand for (IsDRAExtendedResourceName)."""
    domain, slash, _ = resource.partition("/")
    if resource.startswith(IMPLICIT_PREFIX):
        return True
    native = not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
    return not native and not resource.startswith("requests.")


def stands_for(device_class: Object) -> frozenset[str]:
    """The extended resources that devices of this class are."""
    own = (device_class.get("spec") or {}).get("extendedResourceName")
    implicit = f"{IMPLICIT_PREFIX}{device_class['metadata']['name']}"
    return frozenset((own, implicit)) if own else frozenset((implicit,))


def asks_for_extended(pod: PodInfo) -> bool:
    """Whether the pod asks for anything that a device class might stand for."""
    return any(value and may_be_extended(name) for name, value in pod.requests.items())


def claim_object(pod: PodInfo, requests: Sequence[Object]) -> Object:
    """The claim to create for a pod; the API server makes up its name."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {
            "namespace": pod.namespace, "generateName": f"{pod.name}-extended-resources-", "ownerReferences": [owner],
            "annotations": {names.ANNOTATION_EXTENDED_RESOURCE_CLAIM: "true"},
        },
        "spec": {"devices": {"requests": list(requests)}},
    }  # fmt: skip


def is_extended_claim_of(claim: Object, pod: PodInfo) -> bool:
    """Whether an earlier attempt has made this claim for the pod."""
    meta = claim["metadata"]
    ours = (meta.get("annotations") or {}).get(names.ANNOTATION_EXTENDED_RESOURCE_CLAIM) == "true"
    return ours and any(owner.get("controller") and owner.get("uid") == pod.uid for owner in meta.get("ownerReferences") or ())


def extended_claim(pod: Object, resources: Sequence[str], class_of: ClassOf) -> ExtendedClaim:
    """A request for each container and resource (createRequestsAndMappings).

    Init containers that end before the others run use the devices of those, and share one request for what they need beyond.
    """
    spec = pod["spec"]
    started = list(spec.get("initContainers") or ())
    containers = [*started, *(spec.get("containers") or ())]
    brief = [index for index, one in enumerate(started) if one.get("restartPolicy") != "Always"]
    requests: list[Object] = []
    mappings: list[Object] = []
    for resource in sorted(resources):
        lasting: dict[int, Object] = {}
        for index in (i for i in range(len(containers)) if i not in brief):
            count, position = _asked(containers[index], resource)
            if count:
                lasting[index] = _request(index, position, class_of[resource], count)
                mappings.append(_mapping(containers[index], resource, lasting[index]["name"]))
        beyond, shared = _brief_requests(containers, brief, resource, class_of[resource], lasting)
        requests += [*beyond, *lasting.values()]
        mappings += shared
    return ExtendedClaim(tuple(sorted(requests, key=lambda one: str(one["name"]))), tuple(mappings))


def _brief_requests(
    containers: Sequence[Object], brief: Sequence[int], resource: str, device_class: str, lasting: Mapping[int, Object]
) -> tuple[list[Object], list[Object]]:
    """The one request for what init containers need beyond later containers' devices, and who uses what."""
    mappings: list[Object] = []
    beyond: list[Object] = []
    for index in brief:
        count, position = _asked(containers[index], resource)
        for later in (lasting[i] for i in sorted(lasting) if i >= index):
            if count > 0:
                mappings.append(_mapping(containers[index], resource, later["name"]))
                count -= later["exactly"]["count"]
        if count > 0:
            beyond.append(_request(index, position, device_class, count))
            mappings.append(_mapping(containers[index], resource, beyond[-1]["name"]))
    if not beyond:
        return [], mappings
    largest = max(beyond, key=lambda one: int(one["exactly"]["count"]))
    replaced = {one["name"] for one in beyond}
    return [largest], [{**one, "requestName": largest["name"]} if one["requestName"] in replaced else one for one in mappings]


def _asked(container: Object, resource: str) -> tuple[int, int]:
    """How many a container asks for, and which of its requests (by name) that is."""
    requests: Requests = amounts((container.get("resources") or {}).get("requests"))
    return (requests[resource], sorted(requests).index(resource)) if requests.get(resource) else (0, 0)


def _request(container: int, position: int, device_class: str, count: int) -> Object:
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count}
    return {"name": f"container-{container}-request-{position}", "exactly": exactly}


def _mapping(container: Object, resource: str, request: str) -> Object:
    return {"containerName": container["name"], "resourceName": resource, "requestName": request}
