"""Shuffle sharding: every flow gets a hand of queues, so that one greedy flow can fill only its own hand.

Imitates apiserver/pkg/util/shufflesharding: the hand is dealt from the bits of a hash, without repeats.
"""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 8


def flow_hash(schema: str, distinguisher: str) -> int:
    """64 bits for a flow, the same in every run."""
    digest = sha256(f"{schema}\0{distinguisher}".encode()).digest()
    return int.from_bytes(digest[:HASH_BYTES], "little")


def deal(value: int, queues: int, hand_size: int) -> tuple[int, ...]:
    """`hand_size` different queue numbers below `queues`, chosen by a hash."""
    remainders = []
    for left in range(queues, queues - hand_size, -1):
        value, remainder = divmod(value, left)
        remainders.append(remainder)
    hand: list[int] = []
    for remainder in remainders:
        card = remainder
        for dealt in sorted(hand):  # cards already dealt are not in the deck: count past them
            if card >= dealt:
                card += 1
        hand.append(card)
    return tuple(hand)
