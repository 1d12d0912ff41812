"""The contract of admission plugins and the chain that asks them in order.

Mutating plugins run on the defaulted object before the strategy prepares it, validating ones on the final object.
Imitates k8s.io/apiserver/pkg/admission.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecosm.api.resources import Object, Resource

from ..authn.user import User


@dataclass(slots=True)
class Attributes:
    """One write: `obj` may be changed by mutating plugins, `old` never. DELETE has no `obj`; CONNECT has its options in `obj`."""

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Object | None
    old: Object | None
    user: User
    dry_run: bool = False


class Plugin:
    """Both steps do nothing unless overridden. They raise ApiError (Forbidden mostly) to refuse."""

    name = ""

    def handles(self, resource: Resource, subresource: str) -> bool:
        """Whether the plugin has a say about a resource; asked once per resource and subresource."""
        return True

    def admit(self, attributes: Attributes) -> None:
        """Change the object in place."""

    def validate(self, attributes: Attributes) -> None:
        """Refuse the object."""


class AdmissionChain:
    """Asks the plugins that have a say."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._interested: dict[tuple[Resource, str], tuple[tuple[Plugin, ...], tuple[Plugin, ...]]] = {}

    def _for(self, resource: Resource, subresource: str) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
        found = self._interested.get((resource, subresource))
        if found is None:
            mine = [p for p in self.plugins if p.handles(resource, subresource)]
            found = self._interested[resource, subresource] = (
                tuple(p for p in mine if type(p).admit is not Plugin.admit),
                tuple(p for p in mine if type(p).validate is not Plugin.validate),
            )
        return found

    def admit(self, attributes: Attributes) -> None:
        for plugin in self._for(attributes.resource, attributes.subresource)[0]:
            plugin.admit(attributes)

    def validate(self, attributes: Attributes) -> None:
        for plugin in self._for(attributes.resource, attributes.subresource)[1]:
            plugin.validate(attributes)
