"""ClusterRole aggregation controller: a ClusterRole with an aggregationRule has the rules of all ClusterRoles its selectors match.

Watches ClusterRoles. Writes ClusterRoles' rules. Imitates pkg/controller/clusterroleaggregation.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import Key, key_of, labels_of
from kubecosm.api.resources import CLUSTERROLES, Object
from kubecosm.api.selectors import from_label_selector
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done
from kubecosm.client.http import PatchType

FIELD_MANAGER = {"fieldManager": "clusterrole-aggregation-controller", "force": "true"}
"""The rules are applied, so that they are the controller's own and nothing else of the role is touched."""


def selectors_of(role: Object) -> list[Object]:
    return (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []


def plan_rules(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of all matching roles but its own, by role name and without repeats."""
    ordered = sorted(
        (other for other in roles if other["metadata"]["name"] != role["metadata"]["name"]), key=lambda r: str(r["metadata"]["name"])
    )
    rules: list[Object] = []
    for selector in selectors_of(role):
        matches = from_label_selector(selector).matches
        for other in ordered:
            if matches(labels_of(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


async def reconcile(ctx: Context, key: Key) -> Result:
    role = ctx.cache(CLUSTERROLES).get(key)
    if role is None or not selectors_of(role):
        return done()
    rules = plan_rules(role, ctx.cache(CLUSTERROLES))
    if rules != (role.get("rules") or []):
        body = {"apiVersion": CLUSTERROLES.api_version, "kind": CLUSTERROLES.kind, "metadata": {"name": key.name}, "rules": rules}
        ctx.expect_written(await ctx.client.patch(CLUSTERROLES, key.name, body, patch_type=PatchType.APPLY, params=FIELD_MANAGER))
    return done()


def map_role(reader: Reader, role: Object) -> Iterable[Key]:
    """Any role may contribute to any aggregated one."""
    return [key_of(other) for other in reader.cache(CLUSTERROLES) if selectors_of(other)]


SPEC = ControllerSpec(
    name="ClusterRoleAggregator",
    component="clusterrole-aggregation-controller",
    primary=CLUSTERROLES,
    watches={CLUSTERROLES: map_role},
    workers=5,
)
