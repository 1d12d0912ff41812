"""Lets each controller do what the roles of its ServiceAccount allow in a real API server, and remembers what they do not allow."""

from __future__ import annotations

from functools import cache
from typing import Any

from kubecosm.api.errors import forbidden
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Controller
from kubecosm.services.apiserver.authz.bootstrap import bootstrap_policy
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.table import TABLE, load

from .fake_api import FakeApi

VERBS = {"delete_collection": "deletecollection"}


@cache
def accounts() -> dict[str, str]:
    """The account of each controller, by the name in its SPEC; empty for those that act as the manager itself."""
    return {load(row, Config()).SPEC.name: row.account for row in TABLE}


@cache
def rules_of(account: str) -> tuple[Object, ...]:
    """All rules that the default policy binds to an account of kube-system, whatever the namespace."""
    roles = {(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj for _, obj in bootstrap_policy()}
    rules: list[Object] = []
    for _, binding in bootstrap_policy():
        if any(s["kind"] == "ServiceAccount" and s["name"] == account for s in binding.get("subjects") or ()):
            ref = binding["roleRef"]
            namespace = binding["metadata"].get("namespace", "") if ref["kind"] == "Role" else ""
            rules += roles[ref["kind"], namespace, ref["name"]].get("rules") or ()
    return tuple(rules)


def is_allowed(account: str, verb: str, resource: Resource, subresource: str) -> bool:
    """Whether some rule speaks of it; names of objects are left out of account."""
    wanted = f"{resource.plural}/{subresource}" if subresource else resource.plural
    names = {wanted, "*", f"*/{subresource}"}
    for rule in rules_of(account):
        groups, resources = set(rule.get("apiGroups") or ()), set(rule.get("resources") or ())
        if groups & {resource.group, "*"} and resources & names and {verb, "*"} & set(rule["verbs"]):
            return True
    return False


class RestrictedApi:
    """The FakeApi as one controller may use it."""

    def __init__(self, api: FakeApi, controller: Controller, refused: list[str]) -> None:
        self._api, self._name, self._refused = api, controller.SPEC.name, refused
        self._account = accounts().get(self._name, "")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._api, name)
        if name not in ("get", "list", "create", "update", "patch", "delete", "delete_collection") or not self._account:
            return method

        async def checked(resource: Resource, *arguments: Any, **options: Any) -> Any:
            verb, subresource = VERBS.get(name, name), options.get("subresource") or ""
            if not is_allowed(self._account, verb, resource, subresource):
                what = f"{resource.plural}/{subresource}" if subresource else resource.plural
                self._refused.append(f"{self._name}, as {self._account}, may not {verb} {what}")
                raise forbidden(resource, "", self._refused[-1])
            return await method(resource, *arguments, **options)

        return checked
