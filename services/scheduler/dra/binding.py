"""Whether the drivers have prepared the devices of a claim (KEP 5007, binding conditions): pods with them are bound only then."""

from __future__ import annotations

from datetime import datetime

import orjson

from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from .state import allocation_in


def needs_preparing(allocation: Object | None) -> bool:
    return any(result.get("bindingConditions") for result in _results(allocation))


def preparing_drivers(allocation: Object | None) -> frozenset[str]:
    """The drivers whose devices have binding conditions."""
    return frozenset(result["driver"] for result in _results(allocation) if result.get("bindingConditions"))


def is_prepared(claim: Object) -> bool:
    """Whether every binding condition of every device is true."""
    return all(
        _is_true(claim, result, wanted) for result in _results(allocation_in(claim)) for wanted in result.get("bindingConditions") or ()
    )


def failure_of(claim: Object) -> str:
    """What a driver says that has failed to prepare a device; empty if there is none."""
    for result in _results(allocation_in(claim)):
        for name in result.get("bindingFailureConditions") or ():
            if (condition := _condition(claim, result, name)) is not None and condition.get("status") == "True":
                said = orjson.dumps(condition.get("message") or "").decode()
                return f"claim {claim['metadata']['name']} binding failed: reason={condition.get('reason', '')}, message={said}"
    return ""


def is_overdue(claim: Object, now: datetime, seconds_max: float) -> bool:
    """Whether the drivers have had their time since the allocation."""
    since = (allocation_in(claim) or {}).get("allocationTimestamp")
    return since is not None and (now - parse_time(since)).total_seconds() > seconds_max


def _results(allocation: Object | None) -> list[Object]:
    results: list[Object] = ((allocation or {}).get("devices") or {}).get("results") or []
    return results


def _is_true(claim: Object, result: Object, name: str) -> bool:
    condition = _condition(claim, result, name)
    return condition is not None and condition.get("status") == "True"


def _condition(claim: Object, result: Object, name: str) -> Object | None:
    """What the driver says of one device (of one share of it) in status.devices."""
    same = ("driver", "pool", "device", "shareID")
    for device in (claim.get("status") or {}).get("devices") or ():
        if all(device.get(key) == result.get(key) for key in same):
            return next((condition for condition in device.get("conditions") or () if condition.get("type") == name), None)
    return None
