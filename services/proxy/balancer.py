"""Chooses a backend for each new connection or flow: at random or in turn, with ClientIP session affinity."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from kubecosm.runtime.clock import Clock

from .table import Backend, Place, Route


class Balancer:
    """Keeps what choosing needs to remember: the turn of each route and the backends of sticky clients (bounded)."""

    def __init__(
        self, policy: str, *, clock: Clock, rng: random.Random, affinity_entries_max: int,
        place_of: Callable[[str, str], Place] = lambda node, _client_ip: Place(node),
    ) -> None:  # fmt: skip
        """`place_of` tells where a client is, by the node of the socket ("" for none) and the client's address."""
        self._round_robin = policy == "round-robin"
        self._place_of = place_of
        self._clock = clock
        self._rng = rng
        self._affinity_entries_max = affinity_entries_max
        self._turns: dict[tuple[object, str], int] = {}
        self._affinity: OrderedDict[tuple[object, str, str], tuple[Backend, float]] = OrderedDict()

    def pick(self, route: Route, node: str, client_ip: str, tried: Collection[Backend] = ()) -> Backend | None:
        """A backend for a client that reached a socket of `node`, none of `tried`; None if no backend is left.

        Updates affinity when the Service asks for it.
        """
        backends = route.backends_for(self._place_of(node, client_ip)) if route.asks_place else route.backends
        candidates = [backend for backend in backends if backend not in tried]
        if not candidates:
            return None
        if not route.affinity_seconds:
            return self._choose(route, candidates)
        key = (route.service, route.port_name, client_ip)
        backend = self._remembered(key, route.affinity_seconds, candidates) or self._choose(route, candidates)
        self._remember(key, backend)
        return backend

    def forget(self, service: object) -> None:
        """Drop the turns of a Service that is gone; its affinity entries age out."""
        for key in [key for key in self._turns if key[0] == service]:
            del self._turns[key]

    def _choose(self, route: Route, candidates: Sequence[Backend]) -> Backend:
        if not self._round_robin:
            return candidates[self._rng.randrange(len(candidates))]
        key = (route.service, route.port_name)
        turn = self._turns.get(key, -1) + 1
        self._turns[key] = turn
        return candidates[turn % len(candidates)]

    def _remembered(self, key: tuple[object, str, str], timeout_seconds: int, candidates: Sequence[Backend]) -> Backend | None:
        entry = self._affinity.get(key)
        if entry is None or self._clock.monotonic() - entry[1] > timeout_seconds:
            return None
        return entry[0] if entry[0] in candidates else None

    def _remember(self, key: tuple[object, str, str], backend: Backend) -> None:
        self._affinity[key] = (backend, self._clock.monotonic())
        self._affinity.move_to_end(key)
        if len(self._affinity) > self._affinity_entries_max:
            self._affinity.popitem(last=False)
