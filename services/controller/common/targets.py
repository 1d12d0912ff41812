"""Finds what has a scale: any resource with that subresource, built in or custom; for autoscalers and disruption budgets."""

from __future__ import annotations

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import BUILTIN, Object, Resource
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient

from .discovery import discover


class TargetError(Exception):
    """There is no such kind, or no such object, or it has no scale."""


class Targets:
    """Resources by apiVersion and kind; custom ones are looked up once and again when one is not found."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._found: dict[tuple[str, str], Resource] = {}

    async def find(self, api_version: str, kind: str, *, any_version: bool = True) -> Resource:
        """Raises TargetError when the server has no such kind; its words depend on whether `any_version` of the group would do."""
        if api_version.count("/") > 1:
            raise TargetError(f"unexpected GroupVersion string: {api_version}")
        group = api_version.rpartition("/")[0]
        known = BUILTIN.by_kind(api_version, kind) or self._found.get((group, kind))
        if known is not None:
            return known
        try:
            self._found = {(resource.group, resource.kind): resource for resource in (await discover(self._client)).resources}
        except (ApiError, *TRANSPORT_ERRORS) as error:
            raise TargetError(str(error)) from error
        if (group, kind) not in self._found:
            where = f'group "{group}"' if any_version else f'version "{api_version}"'
            raise TargetError(f'no matches for kind "{kind}" in {where}')
        return self._found[group, kind]

    async def scale(self, reference: Object, namespace: str) -> tuple[Resource, Object]:
        """The resource of the reference and its Scale. Raises TargetError with the server's words."""
        resource = await self.find(reference.get("apiVersion") or "", reference["kind"])
        try:
            return resource, await self._client.get(resource, reference["name"], namespace, subresource="scale")
        except (ApiError, *TRANSPORT_ERRORS) as error:
            raise TargetError(str(error)) from error
