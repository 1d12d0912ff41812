"""Which Services and controllers a pod belongs to: the selector of the default spreading constraints (plugins/helper/spread.go)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from kubecosm.api import selectors
from kubecosm.api.meta import controller_of
from kubecosm.api.resources import Object
from kubecosm.api.selectors import LabelSelector, Requirement

from .podinfo import PodInfo

KNOWN_MAX = 4096
"""Kinds of pods whose selectors are kept."""
SET_KINDS = frozenset(("ReplicationController", "ReplicaSet", "StatefulSet"))


class WorkloadIndex:
    """Selectors of Services by namespace and one of their labels, and of controllers by kind, namespace and name."""

    def __init__(self) -> None:
        self.version = 0
        self._services: dict[str, Mapping[str, str]] = {}
        self._by_label: dict[tuple[str, str, str], dict[str, None]] = {}
        self._controllers: dict[tuple[str, str, str], LabelSelector] = {}
        self._known: dict[Hashable, LabelSelector | None] = {}
        self._known_at = 0

    def set_service(self, service: Object) -> None:
        key, selector = _key(service), (service.get("spec") or {}).get("selector") or {}
        if self._services.get(key) == selector:
            return
        self.remove_service(service)
        if selector:
            self._services[key] = selector
            self._by_label.setdefault(self._bucket(service, selector), {})[key] = None
            self.version += 1

    def remove_service(self, service: Object) -> None:
        selector = self._services.pop(_key(service), None)
        if selector is not None:
            self._by_label[self._bucket(service, selector)].pop(_key(service), None)
            self.version += 1

    def set_controller(self, kind: str, obj: Object) -> None:
        """A ReplicationController, ReplicaSet or StatefulSet."""
        raw = (obj.get("spec") or {}).get("selector")
        try:
            selector = selectors.from_labels(raw) if kind == "ReplicationController" else selectors.from_label_selector(raw)
        except selectors.SelectorError:
            selector = selectors.NOTHING
        key = (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        if self._controllers.get(key) != selector:
            self._controllers[key] = selector
            self.version += 1

    def remove_controller(self, kind: str, obj: Object) -> None:
        if self._controllers.pop((kind, obj["metadata"]["namespace"], obj["metadata"]["name"]), None) is not None:
            self.version += 1

    def selector_of(self, pod: PodInfo) -> LabelSelector | None:
        """What all siblings of `pod` have in common by its Services and its controller; None if it has neither (DefaultSelector).

        Pods that are alike get the very same selector, so that what is kept for it is found at once.
        """
        if self._known_at != self.version or len(self._known) >= KNOWN_MAX:
            self._known.clear()
            self._known_at = self.version
        owner = controller_of(pod.pod)
        alike = pod.namespace, tuple(pod.labels.items()), (owner["kind"], owner["name"]) if owner is not None else None
        if alike not in self._known:
            self._known[alike] = self._common(pod, owner)
        return self._known[alike]

    def _common(self, pod: PodInfo, owner: Object | None) -> LabelSelector | None:
        labels: dict[str, str] = {}
        for key, value in pod.labels.items():
            for service in self._by_label.get((pod.namespace, key, value), ()):
                selector = self._services[service]
                if all(pod.labels.get(k) == v for k, v in selector.items()):
                    labels.update(selector)
        requirements = [Requirement(k, selectors.IN, (v,)) for k, v in labels.items()]
        if owner is not None and owner["kind"] in SET_KINDS:
            controller = self._controllers.get((owner["kind"], pod.namespace, owner["name"]))
            if controller is not None and not controller.nothing:
                requirements += controller.requirements
        return LabelSelector(tuple(sorted(set(requirements)))) if requirements else None

    @staticmethod
    def _bucket(service: Object, selector: Mapping[str, str]) -> tuple[str, str, str]:
        key, value = next(iter(selector.items()))
        return service["metadata"]["namespace"], key, value


def _key(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
