"""From a resource request to the code that answers it: the store and verb, or the subresource's own handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from kubecosm.api import errors
from kubecosm.api.errors import BadRequest, MethodNotAllowed, NotFound
from kubecosm.api.resources import BINDINGS, CustomResource, Resource, builtin

from ..http.info import PathInfo
from ..http.request import Request
from ..http.response import Answer, text_response
from ..state import State
from . import componentstatus, deprecations, patch, pods, reads, scale, writes
from .store import ResourceStore
from .unconverted import run_converting
from .watch import watch

COMPONENTSTATUSES = builtin("", "v1", "componentstatuses")
Verb = Callable[[ResourceStore, Request], Awaitable[Answer]]
Virtual = Callable[[State, Resource, Request], Awaitable[Answer]]
"""Answers for a resource that has no objects: a review, or the present use of CPU."""

VERBS: dict[str, Verb] = {
    "get": reads.get, "list": reads.list_objects, "watch": watch, "create": writes.create, "update": writes.update,
    "patch": patch.patch, "delete": writes.delete, "deletecollection": writes.delete_collection,
}  # fmt: skip
OWN_KIND: dict[str, Verb] = {"get": reads.get, "update": writes.update, "patch": patch.patch}
"""Verbs of subresources whose body is the resource's own kind (status, finalize, approval, …): their strategy makes the difference."""
SUBRESOURCES: dict[tuple[str, str], Verb] = {
    ("scale", "get"): scale.get_scale, ("scale", "update"): scale.update_scale, ("scale", "patch"): patch.patch_scale,
    ("binding", "create"): pods.bind, ("eviction", "create"): pods.evict,
}  # fmt: skip
"""(subresource, verb) → what answers it, for every resource that has the subresource."""


ACROSS_NAMESPACES = frozenset(("list", "watch"))
NEED_A_NAME = frozenset(("update", "patch"))


class Router:
    """Finds the handler of a resource request."""

    def __init__(
        self, state: State, connects: Mapping[tuple[str, str], Verb], creates: Mapping[tuple[str, str], Verb],
        virtual: Mapping[tuple[str, str], Virtual],
    ) -> None:  # fmt: skip
        """`connects`: (resource, subresource) → what answers it whatever the verb; `creates`: the same for creates alone;
        `virtual`: (group, plural) → what answers for something that is not stored.
        """
        self._state = state
        self._connects = connects
        self._creates = creates
        self._virtual = virtual

    def handle(self, request: Request) -> Awaitable[Answer]:
        info = request.info
        store = self._state.stores.get((info.group, info.version, info.resource))
        if store is None:
            return self._without_store(request)
        if len(info.parts) > 3 and info.subresource != "proxy":
            raise not_found()
        if (refused := _out_of_scope(store.row, request)) is not None:
            return _found(refused)
        if request.method == "HEAD":
            _check_head(store.row, info.subresource)
        if info.subresource:
            verb = self._subresource_verb(store.row, info, request.verb)
        elif request.verb not in store.row.verbs or (request.verb == "create" and info.name):
            raise unsupported(store.row, request.verb)
        else:
            verb = VERBS[request.verb]
        if store.deprecation:
            deprecations.note(request, store.deprecation, self._state.request_metrics)
        if store.converts:
            return run_converting(verb, store, request)
        return verb(store, request)

    def _subresource_verb(self, row: Resource, info: PathInfo, verb: str) -> Verb:
        name = info.subresource
        subresource = row.subresource(name)
        if subresource is None:
            raise errors.not_found(row, info.name) if isinstance(row, CustomResource) else not_found()
        connect = self._connects.get((row.plural, name)) if not row.group else None
        if connect is not None:
            if name != "proxy" and verb not in subresource.verbs:
                raise method_not_allowed()
            return connect
        found = SUBRESOURCES.get((name, verb)) or (self._creates.get((row.plural, name)) if verb == "create" else None)
        if found is None and subresource.kind == row.kind and name != "log":
            found = OWN_KIND.get(verb)
        if found is None or verb not in subresource.verbs:
            raise unsupported(row, verb)
        return found

    async def _without_store(self, request: Request) -> Answer:
        """What has no objects: reviews, metrics, and bindings by the collection's name."""
        info, table = request.info, self._state.table
        row = table.by_path(info.group, info.version, info.resource)
        if row is None:
            return self._unknown(request)
        if request.verb not in row.verbs or (info.name and request.verb != "get") or request.method == "HEAD":
            raise method_not_allowed()
        if row == BINDINGS:
            return await pods.bind(self._state.store("", "v1", "pods"), request)
        if row == COMPONENTSTATUSES:
            deprecations.note(request, deprecations.BUILTIN[row.group, row.version, row.plural], self._state.request_metrics)
            return componentstatus.answer(request, row, self._state.clock.now())
        return await self._virtual[row.group, row.plural](self._state, row, request)

    def _unknown(self, request: Request) -> Answer:
        info = request.info
        if any(row.group == info.group and row.version == info.version for row in self._state.table):
            raise not_found()
        return page_not_found()


async def _found(answer: Answer) -> Answer:
    """An answer that is there, where one to wait for is wanted."""
    return answer


def _out_of_scope(row: Resource, request: Request) -> Answer | None:
    """What a path gets that means no objects: all namespaces can be read at once but not written, one object needs its namespace.

    Custom resources are not routed by path in Kubernetes, so theirs get a bare page. Raises NotFound, MethodNotAllowed, BadRequest.
    """
    info = request.info
    in_place = not row.namespaced if not info.namespace else row.namespaced or row.plural == "namespaces"
    if in_place and (info.name or request.verb not in NEED_A_NAME):
        return None
    if not in_place and row.namespaced and not info.name and request.verb in ACROSS_NAMESPACES:
        return None
    if isinstance(row, CustomResource):
        if in_place:
            raise BadRequest("name must be provided")
        return page_not_found()
    if info.name or (info.namespace and not row.namespaced):
        raise not_found()
    raise method_not_allowed()


def _check_head(row: Resource, subresource: str) -> None:
    """Built-in resources are routed by method, none for HEAD but the proxies; custom ones by verb, where HEAD is a GET."""
    if not isinstance(row, CustomResource) and subresource != "proxy":
        raise method_not_allowed()


def unsupported(row: Resource, verb: str) -> MethodNotAllowed:
    """What a verb gets that the resource has not: from the router of built-in resources, or from the handler of custom ones."""
    if not isinstance(row, CustomResource):
        return method_not_allowed()
    text = f'{verb} is not supported on resources of kind "{row.group_resource}"'
    return MethodNotAllowed(text, details=errors.details_of(row, ""))


def not_found() -> NotFound:
    """A path under a known group and version that means nothing."""
    return NotFound("the server could not find the requested resource", details={})


def method_not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def page_not_found() -> Answer:
    return text_response(404, "404 page not found\n")
