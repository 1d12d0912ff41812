"""How many replicas each ReplicaSet of a Deployment shall have next: rolling update, Recreate, and scaling in proportion.

Pure functions. Imitates pkg/controller/deployment/{rolling,recreate,sync}.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecosm.api.meta import annotations_of, uid_of
from kubecosm.api.names import ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS, ANNOTATION_DEPLOYMENT_MAX_REPLICAS
from kubecosm.api.resources import Object

from .replicasets import (
    active,
    by_age,
    is_rolling,
    max_surge,
    max_unavailable,
    new_replicas,
    size_annotations,
    spec_replicas,
    status_count,
    total_spec_replicas,
    total_status,
)


@dataclass(frozen=True)
class Scale:
    """Give this ReplicaSet so many replicas (maybe the same: then only its size annotations are brought up to date)."""

    replicaset: Object
    replicas: int


def _changes(scales: Sequence[Scale]) -> list[Scale]:
    return [scale for scale in scales if scale.replicas != spec_replicas(scale.replicaset)]


def is_scaling_event(deployment: Object, replicasets: Sequence[Object]) -> bool:
    """spec.replicas changed since the active ReplicaSets were last sized."""
    desired = str(spec_replicas(deployment))
    noted = [annotations_of(rs).get(ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS, "") for rs in active(replicasets)]
    return any(text.isdigit() and text != desired for text in noted)


def plan_rolling(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    """One step of a rolling update: first the new ReplicaSet grows as far as surge allows, then old ones shrink as far as availability
    allows, unhealthy replicas first. A ReplicaSet may be scaled twice: for what was unhealthy, and for what can be spared."""
    grown = _plan_grow_new(deployment, new, old)
    return grown or _plan_shrink_old(deployment, new, active(old))


def _plan_grow_new(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    current, desired = spec_replicas(new), spec_replicas(deployment)
    if current == desired:
        return []
    if current > desired:
        return [Scale(new, desired)]
    return _changes([Scale(new, new_replicas(deployment, [*old, new], current))])


def _plan_shrink_old(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    if not old:
        return []
    available_min = spec_replicas(deployment) - max_unavailable(deployment)
    new_unavailable = spec_replicas(new) - status_count(new, "availableReplicas")
    removable = total_spec_replicas([*old, new]) - available_min - new_unavailable
    if removable <= 0:
        return []
    ordered = by_age(old)
    cleaned, is_current = _plan_unhealthy(ordered, removable)
    if not is_current:
        return cleaned
    sizes = {uid_of(rs): spec_replicas(rs) for rs in ordered} | {uid_of(scale.replicaset): scale.replicas for scale in cleaned}
    spare = total_status([*old, new], "availableReplicas") - available_min
    spared: list[Scale] = []
    for rs in ordered:
        take = min(sizes[uid_of(rs)], max(spare, 0))
        spare -= take
        if take:
            spared.append(Scale(rs, sizes[uid_of(rs)] - take))
    return [*cleaned, *spared]


def _plan_unhealthy(ordered: Sequence[Object], most: int) -> tuple[list[Scale], bool]:
    """Old replicas that are not available go first: removing them costs no availability. And whether the counts can be trusted: where
    more are available than there shall be, the ReplicaSet has not caught up with its last scale-down, and nothing further may go."""
    scales: list[Scale] = []
    for rs in ordered:
        if most <= 0:
            break
        unhealthy = spec_replicas(rs) - status_count(rs, "availableReplicas")
        if unhealthy < 0:
            return scales, False
        take = min(most, unhealthy)
        most -= take
        if take:
            scales.append(Scale(rs, spec_replicas(rs) - take))
    return scales, True


def plan_proportional(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Scale]:
    """The sizes after spec.replicas changed, or while paused: a single active ReplicaSet takes it all; a saturated new one ends the
    old; in the middle of a rollout each ReplicaSet gets its share, so that the risk stays where it was."""
    everything = [*old, new] if new is not None else list(old)
    single = _active_or_latest(new, old)
    desired = spec_replicas(deployment)
    if single is not None:
        return _changes([Scale(single, desired)])
    if new is not None and _is_saturated(deployment, new):
        return [Scale(rs, 0) for rs in active(old)]
    if not is_rolling(deployment):
        return []
    return _plan_shares(deployment, active(everything))


def _active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    everything = [*old, new] if new is not None else list(old)
    actives = active(everything)
    if len(actives) == 1:
        return actives[0]
    if actives:
        return None
    return new if new is not None else by_age(old)[-1] if old else None


def _is_saturated(deployment: Object, replicaset: Object) -> bool:
    desired = spec_replicas(deployment)
    return (
        annotations_of(replicaset).get(ANNOTATION_DEPLOYMENT_DESIRED_REPLICAS) == str(desired)
        and spec_replicas(replicaset) == desired
        and status_count(replicaset, "availableReplicas") == desired
    )


def _plan_shares(deployment: Object, replicasets: Sequence[Object]) -> list[Scale]:
    desired = spec_replicas(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    to_add = allowed - total_spec_replicas(replicasets)
    newest_first = by_age(replicasets)[::-1] if to_add > 0 else by_age(replicasets)
    ordered = sorted(newest_first, key=spec_replicas, reverse=True)
    sizes = [spec_replicas(rs) for rs in ordered]
    added = 0
    for index, rs in enumerate(ordered):
        share = _share(deployment, rs, to_add, added)
        sizes[index] += share
        added += share
    if ordered and to_add:
        sizes[0] = max(sizes[0] + to_add - added, 0)  # what rounding left over goes to the largest
    return [Scale(rs, size) for rs, size in zip(ordered, sizes, strict=True)]


def _share(deployment: Object, replicaset: Object, to_add: int, added: int) -> int:
    if to_add in (0, added):
        return 0
    fraction = _fraction(deployment, replicaset)
    left = to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(deployment: Object, replicaset: Object) -> int:
    """By how much the ReplicaSet would grow if it kept its part of the whole; negative when it shrinks."""
    current, desired = spec_replicas(replicaset), spec_replicas(deployment)
    if desired == 0:
        return -current
    noted = annotations_of(replicaset).get(ANNOTATION_DEPLOYMENT_MAX_REPLICAS, "")
    whole = int(noted) if noted.isdigit() and int(noted) else status_count(deployment, "replicas")
    if whole == 0:
        return 0
    return int(current * (desired + max_surge(deployment)) / whole + 0.5) - current


def plan_recreate_down(old: Sequence[Object]) -> list[Scale]:
    """Recreate, first half: all old ReplicaSets to nothing."""
    return [Scale(rs, 0) for rs in active(old)]


def plan_recreate_up(deployment: Object, new: Object) -> list[Scale]:
    """Recreate, second half: the new ReplicaSet to its full size."""
    return _changes([Scale(new, spec_replicas(deployment))])


def scaled(deployment: Object, scale: Scale) -> Object | None:
    """The ReplicaSet as it shall be written; None if size and size annotations are right already."""
    replicaset = scale.replicaset
    annotations = {**annotations_of(replicaset), **size_annotations(deployment)}
    if scale.replicas == spec_replicas(replicaset) and annotations == annotations_of(replicaset):
        return None
    return {
        **replicaset,
        "metadata": {**replicaset["metadata"], "annotations": annotations},
        "spec": {**replicaset["spec"], "replicas": scale.replicas},
    }
