"""The stores of roles and their bindings: as any other, but writers must hold what they grant. See authz/escalation.py."""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.resources import Object

from ..authn.user import GROUP_MASTERS
from ..authz.bootstrap import RESOURCES
from ..authz.escalation import FULL_AUTHORITY, excess, may_bind, may_escalate
from ..authz.policy import CachedPolicy
from ..authz.rbac import role_rules
from ..cache.entry import Entry
from .store import Changing, ResourceStore
from .storedkind import Caller

_GC_FIELDS = ("ownerReferences", "finalizers")
_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation")


class _GuardedStore(ResourceStore):
    """Asks `_check` before whatever else is looked at, as Kubernetes does."""

    async def create(self, obj: Object, namespace: str, caller: Caller, *, subresource: str = "", by_update: bool = False) -> Entry:
        if GROUP_MASTERS not in caller.user.groups:
            name = obj["metadata"].get("name", "")
            await self._check(obj, None, namespace, name, name if by_update else "", caller)
        return await super().create(obj, namespace, caller, subresource=subresource, by_update=by_update)

    async def _update_once(self, change: Changing, namespace: str, subresource: str, caller: Caller) -> Entry | None:
        if GROUP_MASTERS not in caller.user.groups and not changes_gc_fields_only(change.obj, change.old):
            name = change.old["metadata"]["name"]
            await self._check(change.obj, change.old, namespace, name, name, caller)
        return await super()._update_once(change, namespace, subresource, caller)

    async def _check(self, obj: Object, old: Object | None, namespace: str, name: str, url_name: str, caller: Caller) -> None:
        """`name` is the object's, `url_name` what the request's path names. Raises Forbidden, NotFound."""
        raise NotImplementedError

    def _refuse(self, name: str, why: str) -> None:
        if why:
            raise errors.forbidden(self.row, name, why)


class RoleStore(_GuardedStore):
    """Roles and ClusterRoles."""

    async def _check(self, obj: Object, old: Object | None, namespace: str, name: str, url_name: str, caller: Caller) -> None:
        aggregates = bool(obj.get("aggregationRule"))
        same_rules = old is not None and (obj.get("rules") or []) == (old.get("rules") or [])
        if same_rules and (not aggregates or (old or {}).get("aggregationRule") == obj["aggregationRule"]):
            return
        authorizer = self.state.authorizer
        if authorizer is not None and await may_escalate(authorizer, caller.user, self.row.plural, namespace, url_name):
            return
        policy = CachedPolicy(self.state.caches)
        self._refuse(name, excess(policy, caller.user, namespace, obj.get("rules") or ()))
        if aggregates and (old is None or old.get("aggregationRule") != obj["aggregationRule"]):
            why = excess(policy, caller.user, namespace, FULL_AUTHORITY)
            self._refuse(name, why and f"must have cluster-admin privileges to use an aggregationRule: {why}")


class BindingStore(_GuardedStore):
    """RoleBindings and ClusterRoleBindings."""

    async def _check(self, obj: Object, old: Object | None, namespace: str, name: str, url_name: str, caller: Caller) -> None:
        ref = obj.get("roleRef") or {}
        authorizer = self.state.authorizer
        if authorizer is not None and await may_bind(authorizer, caller.user, ref, namespace):
            return
        row = RESOURCES.get(ref.get("kind", ""))
        if row is None or (row.namespaced and not namespace):
            return  # validation refuses it
        rules = role_rules(CachedPolicy(self.state.caches), ref, namespace)
        if rules is None:
            raise errors.not_found(row, ref.get("name", ""))
        self._refuse(name, excess(CachedPolicy(self.state.caches), caller.user, namespace, rules))


def changes_gc_fields_only(obj: Object, old: Object) -> bool:
    """Whether a change concerns nothing but what the garbage collector changes (IsOnlyMutatingGCFields); False if nothing changes."""
    return obj != old and _without_gc_fields(obj) == _without_gc_fields(old) and any(
        obj["metadata"].get(field) != old["metadata"].get(field) for field in _GC_FIELDS
    )


def _without_gc_fields(obj: Object) -> Object:
    meta = {field: value for field, value in obj["metadata"].items() if field not in (*_GC_FIELDS, *_SERVER_FIELDS)}
    return {**obj, "metadata": meta}
