"""What a rolling update may add and take away."""

from __future__ import annotations

from kubecosm.api.intstr import IntOrString, scaled_value


def fenceposts(max_surge: IntOrString | None, max_unavailable: IntOrString | None, desired: int) -> tuple[int, int]:
    """(surge, unavailable) of a rolling update; both zero would never progress, so then one may be unavailable."""
    surge = scaled_value(max_surge or 0, desired, round_up=True)
    unavailable = scaled_value(max_unavailable or 0, desired, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable
