"""OwnerReferencesPermissionEnforcement: only who may delete an object says who owns it, and only who may set the finalizers of an owner
lets it wait for the object. Off by default. Imitates plugin/pkg/admission/gc.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from kubecosm.api.resources import PODS, Object, Resource

from ..authz.attributes import Attributes as Asked
from ..authz.attributes import Decision, decide
from ..state import State
from .chain import CREATE, UPDATE, Attributes, Plugin
from .refusal import refuse

if TYPE_CHECKING:
    from .plugins import Parts


class OwnerReferencesPermissionEnforcement(Plugin):
    name = "OwnerReferencesPermissionEnforcement"
    operations = (CREATE, UPDATE)

    def __init__(self, state: State) -> None:
        self._state = state

    def handles(self, resource: Resource, subresource: str) -> bool:
        return (resource, subresource) != (PODS, "status")  # kubelets write statuses with owners that they may not delete

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        if self._state.authorizer is None:
            return None
        now, before = _owners(attributes.obj), _owners(attributes.old)
        return None if now == before else self._check(attributes, now, before)

    async def _check(self, attributes: Attributes, now: list[Object], before: list[Object]) -> None:
        """Raises Forbidden."""
        resource = attributes.resource
        asked = Asked(
            attributes.user, "delete", attributes.namespace, resource.group, resource.version, resource.plural, attributes.subresource,
            attributes.name,
        )  # fmt: skip
        reason = await self._why_not(asked)
        if reason is not None:
            raise refuse(attributes, f"cannot set an ownerRef on a resource you can't delete: {reason}, <nil>")
        blocked = {owner.get("uid") for owner in before if owner.get("blockOwnerDeletion")}
        for owner in now:
            if owner.get("blockOwnerDeletion") and owner.get("uid") not in blocked:
                await self._check_blocking(attributes, owner)

    async def _check_blocking(self, attributes: Attributes, owner: Object) -> None:
        row = self._state.table.by_kind(owner.get("apiVersion", ""), owner.get("kind", ""))
        if row is None:
            named = f"APIVersion {owner.get('apiVersion', '')} Kind {owner.get('kind', '')}"
            raise refuse(attributes, f"cannot set blockOwnerDeletion in this case because cannot find RESTMapping for {named}")
        namespace = attributes.namespace if row.namespaced else ""
        asked = Asked(attributes.user, "update", namespace, row.group, row.version, row.plural, "finalizers", owner.get("name", ""))
        reason = await self._why_not(asked)
        if reason is not None:
            why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
            raise refuse(attributes, f"{why}: {reason}, <nil>")

    async def _why_not(self, asked: Asked) -> str | None:
        """None if it is allowed."""
        assert self._state.authorizer is not None
        decision, reason = await decide(self._state.authorizer, asked)
        return None if decision is Decision.ALLOW else reason


def _owners(obj: Object | None) -> list[Object]:
    owners: list[Object] = ((obj or {}).get("metadata") or {}).get("ownerReferences") or []
    return owners


def build(parts: Parts) -> OwnerReferencesPermissionEnforcement:
    return OwnerReferencesPermissionEnforcement(parts.state)
