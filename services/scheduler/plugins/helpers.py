"""Shared by plugins: score normalisation and topology domains."""

from __future__ import annotations

import numpy as np

from ..framework.interface import SCORE_MAX
from ..state.columns import IntArray


def default_normalize(scores: IntArray, *, reverse: bool = False) -> IntArray:
    """Scale so that the highest score becomes SCORE_MAX; `reverse` turns low into high (helper.DefaultNormalizeScore)."""
    highest = int(scores.max(initial=0))
    if highest == 0:
        return np.full_like(scores, SCORE_MAX) if reverse else scores
    scaled = scores * SCORE_MAX // highest
    return SCORE_MAX - scaled if reverse else scaled
