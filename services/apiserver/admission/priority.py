"""Priority: a pod's priorityClassName becomes its numeric priority and preemption policy. Imitates plugin/pkg/admission/priority."""

from __future__ import annotations

from kubecosm.api.resources import PODS, PRIORITYCLASSES, Object, Resource

from ..cache.resource import ResourceCache
from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

DEFAULT_POLICY = "PreemptLowerPriority"


class PriorityPlugin(Plugin):
    name = "Priority"
    operations = (CREATE, UPDATE)

    def __init__(self, classes: ResourceCache) -> None:
        self._classes = classes
        self._default: Object | None = None
        self._default_revision = -1

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource in (PODS, PRIORITYCLASSES) and not subresource

    def admit(self, attributes: Attributes) -> None:
        if attributes.resource != PODS or attributes.obj is None:
            return
        spec = attributes.obj["spec"]
        if attributes.operation == CREATE:
            self._admit_pod(attributes, spec)
        else:
            before = (attributes.old or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if field not in spec and field in before:
                    spec[field] = before[field]

    def _admit_pod(self, attributes: Attributes, spec: Object) -> None:
        name = spec.get("priorityClassName", "")
        found = self._named(attributes, name) if name else self.global_default()
        if found is not None and not name:
            spec["priorityClassName"] = found["metadata"]["name"]
        priority = found["value"] if found is not None else 0
        policy = (found or {}).get("preemptionPolicy") or DEFAULT_POLICY
        self._check_given(attributes, spec, "priority", priority, "integer value of priority")
        self._check_given(attributes, spec, "preemptionPolicy", policy, "string value of PreemptionPolicy")
        spec["priority"], spec["preemptionPolicy"] = priority, policy

    @staticmethod
    def _check_given(attributes: Attributes, spec: Object, field: str, computed: object, what: str) -> None:
        given = spec.get(field)
        if given is not None and given != computed:
            why = f"the {what} ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the "
            raise refuse(attributes, why + "given PriorityClass name")

    def _named(self, attributes: Attributes, name: str) -> Object:
        entry = self._classes.get(name)
        if entry is None:
            raise refuse(attributes, f"no PriorityClass with name {name} was found")
        return entry.decode()

    def global_default(self) -> Object | None:
        """The class for pods that name none: of several, the one with the lowest value."""
        if self._default_revision != self._classes.revision:
            self._default_revision = self._classes.revision
            defaults = [obj for entry in self._classes.entries() if (obj := entry.decode()).get("globalDefault")]
            self._default = min(defaults, key=lambda obj: obj["value"], default=None)
        return self._default

    def validate(self, attributes: Attributes) -> None:
        """Only one class may be the default."""
        obj = attributes.obj
        if attributes.resource != PRIORITYCLASSES or obj is None or not obj.get("globalDefault"):
            return
        default = self.global_default()
        name = default["metadata"]["name"] if default is not None else ""
        if name and (attributes.operation == CREATE or name != obj["metadata"]["name"]):
            why = f"PriorityClass {name} is already marked as default. Only one default can exist"
            raise refuse(attributes, why)
