"""What is written of an allocation: status.allocation of a claim."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from random import Random

from kubecosm.api.resources import Object

from .allocator import Chosen, ClaimNeeds, Request
from .capacity import consumption
from .devices import Device


def allocation_of(needs: ClaimNeeds, chosen: Chosen, classes: Mapping[str, Object], node: str, now: str, rng: Random) -> Object:
    """status.allocation of a claim whose pod goes to `node`."""
    devices: Object = {"results": [_result(request, device, rng) for request, device in chosen]}
    if config := _config(needs, chosen, classes):
        devices["config"] = config
    allocation: Object = {"devices": devices, "allocationTimestamp": now}
    if selector := _node_selector([device for _, device in chosen], node):
        allocation["nodeSelector"] = selector
    return allocation


def _result(request: Request, device: Device, rng: Random) -> Object:
    """A DeviceRequestAllocationResult. A share of a device has an id of its own and tells what it takes."""
    result: Object = {"request": request.name, "driver": device.id.driver, "pool": device.id.pool, "device": device.id.device}
    if request.admin:
        result["adminAccess"] = True
    if request.tolerations:
        result["tolerations"] = list(request.tolerations)
    if device.binding is not None and device.binding.conditions:
        result["bindingConditions"] = list(device.binding.conditions)
        if device.binding.failures:
            result["bindingFailureConditions"] = list(device.binding.failures)
    if device.is_shared and not request.admin:
        taken = consumption(request.asked_of(device), device.capacities) or {}
        result["shareID"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        result["consumedCapacity"] = {_short(name, device.id.driver): str(amount) for name, amount in taken.items()}
    return result


def _short(name: str, driver: str) -> str:
    """A qualified name as drivers write it: their own domain goes without saying."""
    return name.removeprefix(f"{driver}/")


def _config(needs: ClaimNeeds, chosen: Chosen, classes: Mapping[str, Object]) -> list[Object]:
    """What classes and the claim say to the drivers, for the requests that were served."""
    served = {request.name: request.device_class for request, _ in chosen}
    found: list[Object] = []
    for name, device_class in served.items():
        configs = (classes[device_class].get("spec") or {}).get("config") or ()
        found += [{"source": "FromClass", "requests": [name], **config} for config in configs]
    for config in ((needs.claim["spec"].get("devices") or {}).get("config")) or ():
        wanted = config.get("requests") or []
        if not wanted or any(name in wanted or name.partition("/")[0] in wanted for name in served):
            found.append({"source": "FromClaim", **config})
    return found


def _node_selector(devices: Sequence[Device], node: str) -> Object | None:
    """Where the allocation can be used: on the one node, or where all selectors of the devices hold; None: everywhere."""
    if any(device.node or (device.binding is not None and device.binding.on_node) for device in devices):
        field_is = {"key": "metadata.name", "operator": "In", "values": [node]}
        return {"nodeSelectorTerms": [{"matchFields": [field_is]}]}
    merged: Object = {}
    for device in devices:
        for term in (device.selector or {}).get("nodeSelectorTerms") or ():
            for kind in ("matchExpressions", "matchFields"):
                for requirement in term.get(kind) or ():
                    if requirement not in merged.setdefault(kind, []):
                        merged[kind].append(requirement)
    return {"nodeSelectorTerms": [merged]} if merged else None
