"""Which pod goes first when a node is short of memory, and what is told of it (pkg/kubelet/eviction/helpers.go). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kubecosm.api.quantity import BINARY_SI, Quantity
from kubecosm.api.resources import Object

from ..pods.spec import all_containers

SYSTEM_CRITICAL_PRIORITY = 2 * 10**9
MEMORY_THRESHOLD = Quantity.of("100Mi")
"""The kubelet's default: memory.available<100Mi, at once."""


class Candidate(NamedTuple):
    """A pod that runs, and the bytes of memory that each of its containers uses."""

    pod: Object
    memory: Mapping[str, int]

    @property
    def used(self) -> int:
        return sum(self.memory.values())

    @property
    def over_request(self) -> int:
        """What it uses beyond its requests; negative if less."""
        return self.used - sum(_request(spec).value() for _, spec in all_containers(self.pod))


def _request(spec: Object) -> Quantity:
    return Quantity.of(str(((spec.get("resources") or {}).get("requests") or {}).get("memory", "0")))


def _priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first goes first: those above their requests, then by priority, then by how much above. Critical pods are spared."""
    mortal = (one for one in candidates if _priority(one.pod) < SYSTEM_CRITICAL_PRIORITY)
    return sorted(mortal, key=lambda one: (one.over_request <= 0, _priority(one.pod), -one.over_request))


def eviction_message(candidate: Candidate, available: int) -> str:
    """What the pod's event and status say."""
    text = f"The node was low on resource: memory. Threshold quantity: {MEMORY_THRESHOLD}, available: {_shown(available)}. "
    for _, spec in all_containers(candidate.pod):
        used, request = candidate.memory.get(spec["name"], 0), _request(spec)
        if used > request.value():
            text += f"Container {spec['name']} was using {_shown(used)}, request is {request}, has larger consumption of memory. "
    return text


def _shown(amount: int) -> str:
    """Kubelets measure pages: whole Ki."""
    return str(Quantity.from_value(amount // 1024 * 1024, BINARY_SI))
