"""Clusters of one machine never share an address."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network

import pytest

from kubecosm.cluster import slots
from kubecosm.cluster.slots import SLOTS, Slots
from kubecosm.runtime.errors import StartupError


@pytest.mark.parametrize("part", ["nodes", "services", "load_balancers", "pods"])
def test_slots_cut_each_range_into_disjoint_blocks_that_fill_it(part: str) -> None:
    blocks = [getattr(Slots(index), part) for index in range(SLOTS)]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(blocks))
    whole = IPv4Network((int(blocks[0].network_address), blocks[0].prefixlen - 6))
    assert blocks[-1].broadcast_address == whole.broadcast_address


def test_the_ranges_are_those_of_the_architecture() -> None:
    assert str(Slots(0).pods) == "127.64.0.0/16"
    assert str(Slots(1).services) == "127.32.64.0/18"
    assert str(Slots(32, 32).pods) == "127.96.0.0/11"
    assert str(Slots(2).apiserver_service_ip) == "127.32.128.1"
    assert str(Slots(2).dns_service_ip) == "127.32.128.10"
    assert str(Slots(0).node_ip(0)) == "127.16.0.1"


@pytest.mark.parametrize(("nodes", "count"), [(0, 1), (1, 1), (256, 1), (257, 2), (1000, 4), (5000, 32), (16384, 64)])
def test_every_node_has_room_for_a_pod_subnet(nodes: int, count: int) -> None:
    assert slots.slots_needed(nodes) == count
    assert Slots(0, count).pods.num_addresses >= nodes * 256


def test_a_held_slot_cannot_be_held_again_until_it_is_let_go() -> None:
    first = slots.claim_free(1, [], "a seed")
    try:
        assert slots.claim(first.slots) is None
        second = slots.claim_free(1, [], "a seed")
        assert second.slots != first.slots
        second.close()
    finally:
        first.close()
    again = slots.claim(first.slots)
    assert again is not None
    again.close()


def test_slots_of_stopped_clusters_stay_theirs() -> None:
    claim = slots.claim_free(1, [], "some directory")
    claim.close()
    other = slots.claim_free(1, [claim.slots], "some directory")
    assert other.slots != claim.slots
    other.close()


def test_no_room_left_is_told_with_what_to_do() -> None:
    with pytest.raises(StartupError, match="stop or delete a cluster"):
        slots.claim_free(1, [Slots(0, SLOTS)], "x")


def test_ports_of_two_slots_never_meet_and_stay_out_of_the_kernel_s_own_range() -> None:
    ports = [{slots.FIRST_PORT + index + i * SLOTS for i in range(slots.PORT_TRIES)} for index in range(SLOTS)]
    assert len(set().union(*ports)) == SLOTS * slots.PORT_TRIES
    assert max(set().union(*ports)) < 30_000


def test_a_port_in_use_is_passed_over() -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        assert not slots.port_is_free(holder.getsockname()[1])
    own = Slots(7)
    first = slots.free_port(own, [])
    assert slots.free_port(own, [first]) != first
