"""PodResizeValidator: a pod that runs does not grow beyond all that its node has. Imitates plugin/pkg/admission/podresize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecosm.api.errors import Forbidden
from kubecosm.api.field import go_quote
from kubecosm.api.names import LABEL_OS
from kubecosm.api.podresources import Amounts, add, amounts, spec_total
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import NODES, PODS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import UPDATE, Attributes, Plugin
from .refusal import refuse

if TYPE_CHECKING:
    from .plugins import Parts

_ZERO = Quantity(0)
_UNITS = {"cpu": 10**6, "memory": 10**9}
"""Nanos of the unit in which an amount is compared and told: thousandths of a core, bytes."""


class PodResizeValidator(Plugin):
    name = "PodResizeValidator"
    operations = (UPDATE,)

    def __init__(self, nodes: ResourceCache) -> None:
        self._nodes = nodes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and subresource == "resize"

    def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        assert pod is not None
        assert old is not None
        name = pod["spec"].get("nodeName")
        if not name or pod["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        entry = self._nodes.get(name)
        if entry is None:
            raise refuse(attributes, f"node {go_quote(name)} not found")
        node = entry.decode()
        missing = shortage(pod["spec"], (node.get("status") or {}).get("allocatable"))
        if missing:
            raise _because("NodeCapacity", refuse(attributes, f"Node didn't have enough allocatable resources: {'; '.join(missing)}"))
        system = (node["metadata"].get("labels") or {}).get(LABEL_OS, "")
        if system != "linux":
            why = f"pod resize is only supported on linux nodes, node {go_quote(name)} is {go_quote(system)}"
            raise _because("UnsupportedPlatform", refuse(attributes, why))


def shortage(spec: Object, allocatable: Object | None) -> list[str]:
    """What a pod asks for beyond all that a node has."""
    asked: Amounts = spec_total(spec, "requests")
    add(asked, amounts(spec.get("overhead")))
    there, found = amounts(allocatable), []
    for name, unit in _UNITS.items():
        requested, total = (-(-amount.get(name, _ZERO).nanos // unit) for amount in (asked, there))
        if requested > total:
            found.append(f"{name}, requested: {requested}, allocatable: {total}")
    return found


def _because(cause: str, error: Forbidden) -> Forbidden:
    error.details = {**(error.details or {}), "causes": [{"reason": cause}]}
    return error


def build(parts: Parts) -> PodResizeValidator:
    return PodResizeValidator(parts.cache(NODES))
