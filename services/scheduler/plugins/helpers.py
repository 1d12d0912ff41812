"""Shared by plugins: score normalisation and topology domains."""

from __future__ import annotations

import numpy as np

from ..framework.interface import SCORE_MAX
from ..state.columns import IntArray

COUNTED_MAX = 1 << 16


def distinct(values: IntArray) -> tuple[list[int], IntArray]:
    """The distinct values (none of them negative) in order, and for each of `values` its place among them.

    np.unique sorts, and its first call loads a large part of numpy.
    """
    highest = int(values.max(initial=0))
    if highest >= COUNTED_MAX:
        places: dict[int, int] = {value: index for index, value in enumerate(sorted(set(values.tolist())))}
        return list(places), np.fromiter((places[value] for value in values.tolist()), np.int64, len(values))
    found = np.flatnonzero(np.bincount(values))
    place_of = np.zeros(highest + 1, np.int64)
    place_of[found] = np.arange(len(found))
    return found.tolist(), place_of[values]


def default_normalize(scores: IntArray, *, reverse: bool = False) -> IntArray:
    """Scale so that the highest score becomes SCORE_MAX; `reverse` turns low into high (helper.DefaultNormalizeScore)."""
    highest = int(scores.max(initial=0))
    if highest == 0:
        return np.full_like(scores, SCORE_MAX) if reverse else scores
    scaled = scores * SCORE_MAX // highest
    return SCORE_MAX - scaled if reverse else scaled
