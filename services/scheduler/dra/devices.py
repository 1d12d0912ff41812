"""Devices as the drivers publish them in ResourceSlices, compiled for allocation.

Left out: partitionable devices (shared counters), consumable capacity, binding conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object
from kubecosm.cel.libraries.numbers import QuantityValue, parse_semver
from kubecosm.cel.values import CelError

from ..state.nodeselector import NodeTerms, compile_selector
from .selectors import Domains


class DeviceId(NamedTuple):
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, eq=False)
class Device:
    """A device that claims can get. `node` or `terms` say where it can be used; neither: everywhere."""

    id: DeviceId
    attributes: Mapping[str, Any]
    """By qualified name, `domain/name`."""
    variables: Mapping[str, Any]
    """What selectors see."""
    node: str
    terms: NodeTerms | None
    selector: Object | None
    """`terms` as a NodeSelector object."""
    taints: tuple[Object, ...]


class Pools:
    """The newest complete generation of every pool."""

    def __init__(self) -> None:
        self._slices: dict[str, Object] = {}
        self._devices: tuple[Device, ...] | None = None
        self.version = 0

    def set_slice(self, resource_slice: Object) -> None:
        self._slices[resource_slice["metadata"]["name"]] = resource_slice
        self._devices = None
        self.version += 1

    def remove_slice(self, resource_slice: Object) -> None:
        self._slices.pop(resource_slice["metadata"]["name"], None)
        self._devices = None
        self.version += 1

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device of a complete pool, pools in order of their names."""
        if self._devices is None:
            self._devices = tuple(device for slices in self._complete() for one in slices for device in _devices_of(one))
        return self._devices

    def _complete(self) -> Iterator[list[Object]]:
        pools: dict[tuple[str, str], list[Object]] = {}
        for one in self._slices.values():
            pools.setdefault((one["spec"]["driver"], one["spec"]["pool"]["name"]), []).append(one)
        for _, slices in sorted(pools.items()):
            newest = max(one["spec"]["pool"].get("generation") or 0 for one in slices)
            current = [one for one in slices if (one["spec"]["pool"].get("generation") or 0) == newest]
            if len(current) >= (current[0]["spec"]["pool"].get("resourceSliceCount") or 1):
                yield sorted(current, key=lambda one: str(one["metadata"]["name"]))


def _devices_of(resource_slice: Object) -> Iterator[Device]:
    spec = resource_slice["spec"]
    driver, pool = spec["driver"], spec["pool"]["name"]
    for raw in spec.get("devices") or ():
        where = raw if spec.get("perDeviceNodeSelection") else spec
        selector = where.get("nodeSelector")
        attributes = {_qualified(name, driver): _value(value) for name, value in (raw.get("attributes") or {}).items()}
        capacity = {_qualified(name, driver): _quantity(value) for name, value in (raw.get("capacity") or {}).items()}
        variables = {
            "driver": driver, "attributes": _by_domain(attributes), "capacity": _by_domain(capacity),
            "allowMultipleAllocations": bool(raw.get("allowMultipleAllocations")),
        }  # fmt: skip
        yield Device(
            DeviceId(driver, pool, raw["name"]), attributes, {"device": variables}, where.get("nodeName") or "",
            compile_selector(selector), selector, tuple(raw.get("taints") or ()),
        )  # fmt: skip


def _qualified(name: str, driver: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


def _by_domain(values: Mapping[str, Any]) -> Domains:
    domains = Domains()
    for name, value in values.items():
        domain, _, short = name.partition("/")
        domains.setdefault(domain, {})[short] = value
    return domains


def _value(attribute: Object) -> Any:
    """The one value of a DeviceAttribute; a version that is none stays text."""
    if "version" in attribute:
        try:
            return parse_semver(attribute["version"])
        except CelError:
            return attribute["version"]
    return next(iter(attribute.values()), None)


def _quantity(capacity: Object) -> QuantityValue:
    try:
        return QuantityValue(Quantity.of(capacity.get("value", 0)))
    except QuantityError:
        return QuantityValue(Quantity.of(0))
