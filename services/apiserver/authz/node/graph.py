"""The graph of what each node needs, kept by looking at the caches' changes when somebody asks: writes pay nothing for it.

Imitates plugin/pkg/auth/authorizer/node (graph.go, graph_populator.go), which follows informers instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...cache.caches import Caches
from ...cache.events import Event
from ...cache.resource import ResourceCache
from .edges import EDGES, Edge, Vertex, node_vertex

POD_REFERENCES_CHANGE = (b'"ephemeralContainers"', b'"resourceClaimStatuses"', b'"extendedResourceClaimStatus"')
"""Once a pod is on a node, what it needs can change only if one of these is in it."""


class Graph:
    """Edges by the object that brought them."""

    def __init__(self) -> None:
        self._up: dict[Vertex, set[Vertex]] = {}
        self._edges_of: dict[tuple[str, str], tuple[Edge, ...]] = {}

    def __contains__(self, owner: tuple[str, str]) -> bool:
        return owner in self._edges_of

    def owners(self) -> Iterable[tuple[str, str]]:
        return tuple(self._edges_of)

    def set(self, owner: tuple[str, str], edges: Iterable[Edge]) -> None:
        """Replace the edges that an object (plural, key) brought."""
        for lower, upper in self._edges_of.pop(owner, ()):
            uppers = self._up.get(lower)
            if uppers is not None:
                uppers.discard(upper)
                if not uppers:
                    del self._up[lower]
        new = tuple(edges)
        if new:
            self._edges_of[owner] = new
        for lower, upper in new:
            self._up.setdefault(lower, set()).add(upper)

    def reaches(self, start: Vertex, node: str) -> bool:
        """Whether the node needs what `start` is."""
        goal = node_vertex(node)
        seen, waiting = {start}, [start]
        while waiting:
            uppers = self._up.get(waiting.pop(), set())
            if goal in uppers:
                return True
            fresh = uppers - seen
            seen |= fresh
            waiting += fresh
        return False


class CachedGraph:
    """A Graph of what lies in the caches."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._graph = Graph()
        self._seen: dict[tuple[str, str], int] = {}
        """Up to which revision each resource has been taken in."""

    def reaches(self, start: Vertex, node: str) -> bool:
        for key in EDGES:
            self._catch_up(key)
        return self._graph.reaches(start, node)

    def _catch_up(self, resource: tuple[str, str]) -> None:
        try:
            cache = self._caches.of(*resource)
        except KeyError:
            return  # not served
        seen = self._seen.get(resource, -1)
        if seen == cache.revision:
            return
        if seen < cache.history.start:
            self._load(resource, cache)
        else:
            for event in cache.history.after(seen):
                self._take_in(resource, event)
        self._seen[resource] = cache.revision

    def _load(self, resource: tuple[str, str], cache: ResourceCache) -> None:
        """From the beginning: nothing is known yet, or more has happened than the history keeps."""
        plural = resource[1]
        for owner in [owner for owner in self._graph.owners() if owner[0] == plural]:
            self._graph.set(owner, ())
        for entry in cache.entries():
            self._graph.set((plural, entry.key), EDGES[resource](entry.decode()))

    def _take_in(self, resource: tuple[str, str], event: Event) -> None:
        owner = (resource[1], event.key)
        entry = event.entry
        if entry is None:
            self._graph.set(owner, ())
        elif resource != ("", "pods") or owner not in self._graph or any(field in entry.data for field in POD_REFERENCES_CHANGE):
            self._graph.set(owner, EDGES[resource](entry.decode()))
