"""RuntimeClass: pods get the overhead and the scheduling constraints of their class. Imitates plugin/pkg/admission/runtimeclass."""

from __future__ import annotations

from kubecosm.api.resources import PODS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import CREATE, Attributes, Plugin
from .refusal import refuse
from .tolerations import merge


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    operations = (CREATE,)

    def __init__(self, classes: ResourceCache) -> None:
        self._classes = classes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise refuse(attributes, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
            return
        entry = self._classes.get(name)
        if entry is None:
            raise refuse(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        runtime_class = entry.decode()
        _set_overhead(attributes, spec, runtime_class)
        _set_scheduling(attributes, spec, runtime_class.get("scheduling") or {})


def _set_overhead(attributes: Attributes, spec: Object, runtime_class: Object) -> None:
    fixed = (runtime_class.get("overhead") or {}).get("podFixed")
    given = spec.get("overhead")
    if fixed:
        if given is not None and given != fixed:
            raise refuse(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        spec["overhead"] = dict(fixed)
    elif given:
        raise refuse(attributes, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")


def _set_scheduling(attributes: Attributes, spec: Object, scheduling: Object) -> None:
    wanted, own = scheduling.get("nodeSelector") or {}, spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if own.get(key, value) != value:
            why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own[key]}"
            raise refuse(attributes, why)
    if wanted:
        spec["nodeSelector"] = {**own, **wanted}
    added = scheduling.get("tolerations")
    if added:
        spec["tolerations"] = merge([*(spec.get("tolerations") or ()), *added])
