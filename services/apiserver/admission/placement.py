"""Where pods of a namespace may run: PodNodeSelector, PodTolerationRestriction, LimitPodHardAntiAffinityTopology and
ExtendedResourceToleration. Off by default. Imitates the packages of these names in plugin/pkg/admission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from kubecosm.api import names
from kubecosm.api.errors import ApiError
from kubecosm.api.meta import annotations_of
from kubecosm.api.quota.scopes import is_best_effort
from kubecosm.api.quota.usage import is_extended
from kubecosm.api.resources import NAMESPACES, PODS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse
from .tolerations import covers, merge

if TYPE_CHECKING:
    from .plugins import Parts

CLUSTER_DEFAULT = "clusterDefaultNodeSelector"


class _OfPods(Plugin):
    def __init__(self, namespaces: ResourceCache) -> None:
        self._namespaces = namespaces

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def annotation(self, namespace: str, key: str) -> str | None:
        """An annotation of a namespace; None if it has none."""
        entry = self._namespaces.get(namespace)
        return None if entry is None or key.encode() not in entry.data else annotations_of(entry.decode()).get(key)


def parse_labels(text: str) -> dict[str, str]:
    """`a=b,c=d`. Raises ApiError."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ApiError(f"invalid selector: [{key}]", reason="", code=500)
        found[key.strip()] = value.strip()
    return found


class PodNodeSelector(_OfPods):
    """Pods run on the nodes that their namespace selects."""

    name = "PodNodeSelector"
    operations = (CREATE,)

    def __init__(self, namespaces: ResourceCache, selectors: Mapping[str, str]) -> None:
        """`selectors`: the labels that pods of a namespace may select by; and the default for all without an annotation."""
        super().__init__(namespaces)
        self._selectors = selectors

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        assert attributes.obj is not None
        own = self._check_conflict(attributes)
        wanted = {**own, **(attributes.obj["spec"].get("nodeSelector") or {})}
        if wanted:
            attributes.obj["spec"]["nodeSelector"] = wanted
        return None

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        assert attributes.obj is not None
        self._check_conflict(attributes)
        allowed = parse_labels(self._selectors.get(attributes.namespace, ""))
        wanted = attributes.obj["spec"].get("nodeSelector") or {}
        if allowed and any(allowed.get(key) != value for key, value in wanted.items()):
            raise refuse(attributes, "pod node label selector labels conflict with its namespace whitelist")
        return None

    def _check_conflict(self, attributes: Attributes) -> dict[str, str]:
        assert attributes.obj is not None
        annotation = self.annotation(attributes.namespace, names.ANNOTATION_NODE_SELECTOR)
        selected = parse_labels(self._selectors.get(CLUSTER_DEFAULT, "") if annotation is None else annotation)
        wanted = attributes.obj["spec"].get("nodeSelector") or {}
        if any(wanted.get(key, value) != value for key, value in selected.items()):
            raise refuse(attributes, "pod node label selector conflicts with its namespace node label selector")
        return selected


class PodTolerationRestriction(_OfPods):
    """Pods get the tolerations of their namespace, and no others than it allows."""

    name = "PodTolerationRestriction"
    operations = (CREATE, UPDATE)

    def __init__(self, namespaces: ResourceCache, default: Sequence[Object], whitelist: Sequence[Object]) -> None:
        super().__init__(namespaces)
        self._default, self._whitelist = list(default), list(whitelist)

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        if attributes.operation == CREATE and attributes.obj is not None:
            spec = attributes.obj["spec"]
            default = self._listed(attributes.namespace, names.ANNOTATION_DEFAULT_TOLERATIONS, self._default)
            wanted = merge([*default, *(spec.get("tolerations") or ())])
            if not is_best_effort(spec):
                wanted = merge([*wanted, {"key": names.TAINT_MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule"}])
            if wanted:
                spec["tolerations"] = wanted
        return None

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        tolerations = ((attributes.obj or {}).get("spec") or {}).get("tolerations") or []
        if not tolerations:
            return None
        allowed = self._listed(attributes.namespace, names.ANNOTATION_TOLERATIONS_WHITELIST, self._whitelist)
        if allowed and not all(any(covers(one, toleration) for one in allowed) for toleration in tolerations):
            why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
            raise ApiError(why, reason="", code=500)
        return None

    def _listed(self, namespace: str, key: str, otherwise: list[Object]) -> list[Object]:
        text = self.annotation(namespace, key)
        if not text:
            return otherwise
        try:
            listed: list[Object] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ApiError(f"{key}: {error}", reason="", code=500) from error
        return listed or otherwise


class LimitPodHardAntiAffinityTopology(Plugin):
    """Pods may keep others away from their node, but not from a whole zone."""

    name = "LimitPodHardAntiAffinityTopology"
    operations = (CREATE, UPDATE)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        affinity = (((attributes.obj or {}).get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            key = term.get("topologyKey", "")
            if key != names.LABEL_HOSTNAME:
                why = f"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key}"
                raise refuse(attributes, f"{why} but only key {names.LABEL_HOSTNAME} is allowed")
        return None


class ExtendedResourceToleration(Plugin):
    """Pods that ask for a device may run on the nodes that are kept for it."""

    name = "ExtendedResourceToleration"
    operations = (CREATE, UPDATE)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        asked = {name for c in containers for name in ((c.get("resources") or {}).get("requests") or {}) if is_extended(name)}
        for name in sorted(asked):
            toleration = {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            if toleration not in (spec.get("tolerations") or ()):
                spec["tolerations"] = [*(spec.get("tolerations") or ()), toleration]
        return None


def build_node_selector(parts: Parts) -> PodNodeSelector:
    configuration = parts.configuration.get(PodNodeSelector.name) or {}
    return PodNodeSelector(parts.cache(NAMESPACES), configuration.get("podNodeSelectorPluginConfig") or {})


def build_toleration_restriction(parts: Parts) -> PodTolerationRestriction:
    configuration = parts.configuration.get(PodTolerationRestriction.name) or {}
    default, whitelist = configuration.get("default") or (), configuration.get("whitelist") or ()
    return PodTolerationRestriction(parts.cache(NAMESPACES), default, whitelist)
