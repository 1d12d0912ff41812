"""Devices as the drivers publish them in ResourceSlices, compiled for allocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubecosm.api.resources import Object
from kubecosm.cel.libraries.numbers import QuantityValue, parse_semver
from kubecosm.cel.values import CelError

from ..state.nodeselector import NodeTerms, compile_selector
from .capacity import ZERO, Capacity, capacity_of, quantity
from .selectors import Domains


class DeviceId(NamedTuple):
    driver: str
    pool: str
    device: str


class CounterId(NamedTuple):
    """A counter that devices of one pool draw on."""

    driver: str
    pool: str
    set: str
    name: str


@dataclass(frozen=True)
class Binding:
    """What a driver has to say before a pod with the device may be bound; `on_node` ties an allocation to the node it was made for."""

    conditions: tuple[str, ...]
    failures: tuple[str, ...]
    on_node: bool


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
    is_shared: bool
    """allowMultipleAllocations"""
    capacities: Mapping[str, Capacity]
    counters: Mapping[CounterId, int]
    """What the device draws on, in nanos."""
    binding: Binding | None


@dataclass(frozen=True)
class Updating:
    """A slice of a pool of which not all slices are there yet, and where its devices can be used."""

    pool: str
    """driver/name"""
    node: str
    terms: NodeTerms | None
    """With no node either: everywhere."""


class Pools:
    """The newest complete generation of every pool."""

    def __init__(self) -> None:
        self._slices: dict[str, Object] = {}
        self._devices: tuple[Device, ...] | None = None
        self._counters: dict[CounterId, int] = {}
        self._updating: tuple[Updating, ...] = ()
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
        """Every device of a complete pool, pools in order of their names; those that may keep a pod from being bound come last."""
        if self._devices is None:
            slices = [one for pool, complete in self._newest() for one in pool if complete]
            self._updating = tuple(_updating(one) for pool, complete in self._newest() for one in pool if not complete)
            devices = (device for one in slices for device in _devices_of(one))
            self._devices = tuple(sorted(devices, key=lambda device: bool(device.binding and device.binding.conditions)))
            self._counters = {counter: amount for one in slices for counter, amount in _counters_of(one)}
        return self._devices

    @property
    def counters(self) -> Mapping[CounterId, int]:
        """What the counters of all complete pools hold, in nanos."""
        return self._counters if self.devices else {}

    @property
    def updating(self) -> tuple[Updating, ...]:
        """Slices of pools that are not complete; as of `devices`."""
        return self._updating

    def _newest(self) -> Iterator[tuple[list[Object], bool]]:
        """The slices of the newest generation of each pool, and whether that is complete."""
        pools: dict[tuple[str, str], list[Object]] = {}
        for one in self._slices.values():
            pools.setdefault((one["spec"]["driver"], one["spec"]["pool"]["name"]), []).append(one)
        for _, slices in sorted(pools.items()):
            newest = max(one["spec"]["pool"].get("generation") or 0 for one in slices)
            current = [one for one in slices if (one["spec"]["pool"].get("generation") or 0) == newest]
            complete = len(current) >= (current[0]["spec"]["pool"].get("resourceSliceCount") or 1)
            yield sorted(current, key=lambda one: str(one["metadata"]["name"])), complete


def _updating(resource_slice: Object) -> Updating:
    spec = resource_slice["spec"]
    return Updating(f"{spec['driver']}/{spec['pool']['name']}", spec.get("nodeName") or "", compile_selector(spec.get("nodeSelector")))


def _devices_of(resource_slice: Object) -> Iterator[Device]:
    spec = resource_slice["spec"]
    driver, pool = spec["driver"], spec["pool"]["name"]
    for raw in spec.get("devices") or ():
        where = raw if spec.get("perDeviceNodeSelection") else spec
        selector = where.get("nodeSelector")
        attributes = {qualified(name, driver): _value(value) for name, value in (raw.get("attributes") or {}).items()}
        capacities = {qualified(name, driver): capacity_of(value) for name, value in (raw.get("capacity") or {}).items()}
        capacity = {name: QuantityValue(one.value) for name, one in capacities.items()}
        variables = {
            "driver": driver, "attributes": _by_domain(attributes), "capacity": _by_domain(capacity),
            "allowMultipleAllocations": bool(raw.get("allowMultipleAllocations")),
        }  # fmt: skip
        yield Device(
            DeviceId(driver, pool, raw["name"]), attributes, {"device": variables}, where.get("nodeName") or "",
            compile_selector(selector), selector, tuple(raw.get("taints") or ()), bool(raw.get("allowMultipleAllocations")), capacities,
            _drawn(raw, driver, pool), _binding(raw),
        )  # fmt: skip


def _drawn(device: Object, driver: str, pool: str) -> dict[CounterId, int]:
    return {
        CounterId(driver, pool, one["counterSet"], name): (quantity(counter.get("value")) or ZERO).nanos
        for one in device.get("consumesCounters") or () for name, counter in (one.get("counters") or {}).items()
    }  # fmt: skip


def _binding(device: Object) -> Binding | None:
    """Without conditions only the tie to the node is left."""
    conditions, on_node = device.get("bindingConditions") or (), bool(device.get("bindsToNode"))
    if not conditions and not on_node:
        return None
    return Binding(tuple(conditions), tuple(device.get("bindingFailureConditions") or ()), on_node)


def _counters_of(resource_slice: Object) -> Iterator[tuple[CounterId, int]]:
    spec = resource_slice["spec"]
    for one in spec.get("sharedCounters") or ():
        for name, counter in (one.get("counters") or {}).items():
            amount = quantity(counter.get("value")) or ZERO
            yield CounterId(spec["driver"], spec["pool"]["name"], one["name"], name), amount.nanos


def qualified(name: str, driver: str) -> str:
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

