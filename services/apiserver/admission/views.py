"""A write as expressions and webhooks see it: in the version they want, with the namespace and the authorizer's decisions at hand."""

from __future__ import annotations

from kubecosm.api.resources import NAMESPACES, Object, Resource

from .chain import Attributes
from .decisions import Decisions
from .expressions import View
from .matching import Surroundings
from .waiting import Waits

_SHOWN_META = (
    "name", "generateName", "namespace", "labels", "annotations", "uid", "creationTimestamp", "deletionGracePeriodSeconds",
    "deletionTimestamp", "generation", "resourceVersion", "finalizers",
)  # fmt: skip


class Views:
    """The views of one write, made once for each version somebody wants it in."""

    def __init__(self, surroundings: Surroundings, attributes: Attributes) -> None:
        self._surroundings = surroundings
        self._attributes = attributes
        self._decisions = Decisions(surroundings.state.authorizer)
        self._made: dict[Resource, View] = {}

    def of(self, row: Resource) -> Waits[View]:
        """Raises ApiError if a webhook that must convert the objects fails."""
        found = self._made.get(row)
        if found is None:
            found = self._made[row] = yield from self._surroundings.converted(self._attributes, lambda: self._make(row))
        return found

    def forget(self) -> None:
        """The object has changed."""
        self._made.clear()

    def _make(self, row: Resource) -> View:
        """Raises Unconverted."""
        surroundings, attributes = self._surroundings, self._attributes
        obj = surroundings.in_version(attributes, attributes.obj, row)
        old = surroundings.in_version(attributes, attributes.old, row)
        aside = surroundings.state.aside
        return View(attributes, row, obj, old, lambda: namespace_object(surroundings, attributes), self._decisions, aside)


def namespace_object(surroundings: Surroundings, attributes: Attributes) -> Object | None:
    """`namespaceObject`: None for what is in no namespace, Namespaces included. Raises NotFound."""
    if not attributes.namespace or attributes.resource == NAMESPACES:
        return None
    namespace = surroundings.namespace(attributes.namespace)
    meta = {name: namespace["metadata"][name] for name in _SHOWN_META if name in namespace["metadata"]}
    return {"metadata": meta, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}
