"""What a delete does to an object, decided purely: grace periods, finalizers, propagation policies.

Imitates rest.BeforeDelete and registry/store.go (deletionFinalizersForGarbageCollection, updateForGracefulDeletionAndFinalizers).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time

from ..registry.strategy import Strategy
from .options import DeleteOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """`obj` is the state to write, or to answer with if `remove`; None leaves the object as it is (or removes it as it is)."""

    remove: bool
    obj: Object | None


def plan(obj: Object, options: DeleteOptions, strategy: Strategy, now: datetime) -> Plan:
    """`obj` is the caller's own copy of the stored object."""
    meta = obj["metadata"]
    grace = strategy.grace_period_seconds(obj, options.grace_period_seconds)
    if meta.get("deletionTimestamp") and meta.get("deletionGracePeriodSeconds") is not None and grace is not None:
        return _shorten(obj, options, now)
    finalizers = finalizers_after(meta.get("finalizers") or [], options, strategy)
    changed = finalizers != (meta.get("finalizers") or [])
    if changed:
        _set_finalizers(meta, finalizers)
    graceful = grace is not None and not meta.get("deletionTimestamp")
    if graceful:
        assert grace is not None
        _mark(meta, now + timedelta(seconds=grace), grace)
    elif finalizers:
        _mark_now(meta, now)
    if finalizers:
        return Plan(False, obj)
    if graceful and grace:
        return Plan(False, obj)
    return Plan(True, obj if graceful else None)


def _shorten(obj: Object, options: DeleteOptions, now: datetime) -> Plan:
    """A second delete may only make the grace period shorter; at zero the object goes unless finalizers hold it."""
    meta = obj["metadata"]
    current, asked = meta["deletionGracePeriodSeconds"], options.grace_period_seconds
    if asked is None or asked >= current:
        return Plan(False, None)
    moment = parse_time(meta["deletionTimestamp"]) - timedelta(seconds=current) + timedelta(seconds=asked)
    meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = format_time(moment), asked
    return Plan(asked == 0 and not meta.get("finalizers"), obj)


def _mark(meta: Object, moment: datetime, grace: int) -> None:
    meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = format_time(moment), grace
    if meta.get("generation"):
        meta["generation"] += 1


def _mark_now(meta: Object, now: datetime) -> None:
    """markAsDeleting: an object without graceful deletion waits for its finalizers only."""
    first = not meta.get("deletionTimestamp")
    if first and meta.get("generation"):
        meta["generation"] += 1
    if first or parse_time(meta["deletionTimestamp"]) > now:
        meta["deletionTimestamp"] = format_time(now)
    meta["deletionGracePeriodSeconds"] = 0


def finalizers_after(finalizers: list[str], options: DeleteOptions, strategy: Strategy) -> list[str]:
    """The finalizers with those that the propagation policy asks for, and without those it excludes."""
    orphan, foreground = _propagation(finalizers, options, strategy)
    kept = [f for f in finalizers if f not in (FINALIZER_ORPHAN, FINALIZER_FOREGROUND)]
    if orphan:
        kept.append(FINALIZER_ORPHAN)
    if foreground:
        kept.append(FINALIZER_FOREGROUND)
    return finalizers if sorted(kept) == sorted(finalizers) else kept


def _propagation(finalizers: list[str], options: DeleteOptions, strategy: Strategy) -> tuple[bool, bool]:
    """(orphan the dependents, delete them first)."""
    if options.orphan_dependents is not None:
        return options.orphan_dependents, False
    policy = options.propagation_policy
    if policy is not None:
        return policy == "Orphan", policy == "Foreground"
    if FINALIZER_ORPHAN in finalizers:
        return True, False
    if FINALIZER_FOREGROUND in finalizers:
        return False, True
    return strategy.orphans_dependents, False


def _set_finalizers(meta: Object, finalizers: list[str]) -> None:
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


def is_released(meta: Object, old_meta: Object) -> bool:
    """An update that leaves a deleted object without finalizers removes it (deleteWithoutFinalizers)."""
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    return meta.get("deletionGracePeriodSeconds") in (None, 0) and bool(old_meta.get("finalizers") or old_meta.get("deletionTimestamp"))
