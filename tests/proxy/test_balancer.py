"""How a backend is chosen."""

import random
from collections import Counter
from datetime import UTC, datetime

from kubecosm.api.meta import Key
from kubecosm.services.proxy.balancer import Balancer
from kubecosm.services.proxy.table import Backend, Route

BACKENDS = tuple(Backend(f"127.64.0.{i}", 80, "node-0") for i in (2, 3, 4))


class StillClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def balancer(policy: str = "random", clock: StillClock | None = None, entries: int = 100) -> Balancer:
    return Balancer(policy, clock=clock or StillClock(), rng=random.Random(7), affinity_entries_max=entries)


def route(affinity_seconds: int = 0, backends: tuple[Backend, ...] = BACKENDS) -> Route:
    return Route(Key("default", "web"), "http", "ClusterIP", backends, local_only=False, affinity_seconds=affinity_seconds)


def test_random_choice_uses_every_backend_about_equally() -> None:
    b = balancer()
    counts = Counter(b.pick(route(), "", "127.0.0.1") for _ in range(3000))
    assert set(counts) == set(BACKENDS)
    assert min(counts.values()) > 900


def test_round_robin_takes_backends_in_turn() -> None:
    b = balancer("round-robin")
    assert [b.pick(route(), "", "c") for _ in range(4)] == [*BACKENDS, BACKENDS[0]]


def test_tried_backends_are_not_chosen_again() -> None:
    b = balancer()
    assert b.pick(route(), "", "c", tried=BACKENDS[:2]) == BACKENDS[2]
    assert b.pick(route(), "", "c", tried=BACKENDS) is None


def test_session_affinity_keeps_a_client_until_its_time_is_over() -> None:
    clock = StillClock()
    b = balancer("round-robin", clock)
    first = b.pick(route(60), "", "10.0.0.1")
    assert {b.pick(route(60), "", "10.0.0.1") for _ in range(5)} == {first}
    assert b.pick(route(60), "", "10.0.0.2") != first
    clock.seconds = 61
    assert b.pick(route(60), "", "10.0.0.1") != first


def test_session_affinity_moves_on_when_the_backend_is_gone() -> None:
    b = balancer("round-robin")
    first = b.pick(route(60), "", "10.0.0.1")
    rest = tuple(x for x in BACKENDS if x != first)
    assert b.pick(route(60, rest), "", "10.0.0.1") in rest


def test_affinity_memory_is_bounded() -> None:
    b = balancer(entries=10)
    for i in range(100):
        b.pick(route(60), "", f"10.0.0.{i}")
    assert len(b._affinity) == 10
