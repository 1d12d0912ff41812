"""Which devices claims get on a node: a search with backtracking, as k8s.io/dynamic-resource-allocation/structured does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.cel.values import CelError

from .devices import Device, DeviceId
from .selectors import evaluate

STEPS_MAX = 50_000
"""Devices looked at in one search; more means that no allocation is found."""
ALL, NO_EXECUTE, NO_SCHEDULE = "All", "NoExecute", "NoSchedule"


class AllocationError(Exception):
    """A selector that fails, or a search that takes too long."""


@dataclass(frozen=True)
class Request:
    """One request, or one of its alternatives (`name/alternative`)."""

    name: str
    device_class: str
    selectors: tuple[tuple[str, str], ...]
    """(where it stands, expression)"""
    count: int
    """0: all that match."""
    admin: bool
    tolerations: tuple[Object, ...]


@dataclass(frozen=True)
class Constraint:
    """Devices of these requests (empty: of all) have the same value of an attribute, or, if `distinct`, each another."""

    requests: frozenset[str]
    attribute: str
    distinct: bool

    def concerns(self, request: str) -> bool:
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests


@dataclass(frozen=True)
class ClaimNeeds:
    """What a claim asks for: per request its alternatives, the preferred first."""

    claim: Object
    requests: tuple[tuple[Request, ...], ...]
    constraints: tuple[Constraint, ...]


Chosen = list[tuple[Request, Device]]


@dataclass
class Search:
    """One search on one node."""

    devices: Sequence[Device]
    """Those the node can use."""
    in_use: frozenset[DeviceId]
    matches: Callable[[Request, Device], bool]
    steps: int = 0
    taken: set[DeviceId] = field(default_factory=set)

    def allocate(self, claims: Sequence[ClaimNeeds]) -> list[Chosen] | None:
        """Devices for each claim; None if there are not enough. AllocationError if that cannot be told."""
        result: list[Chosen] = [[] for _ in claims]
        slots = [(index, number) for index, needs in enumerate(claims) for number in range(len(needs.requests))]
        return result if self._fill(claims, slots, 0, result) else None

    def _fill(self, claims: Sequence[ClaimNeeds], slots: Sequence[tuple[int, int]], position: int, result: list[Chosen]) -> bool:
        """Serve the requests from `position` on; what was chosen is taken back if they cannot all be served."""
        if position == len(slots):
            return True
        claim, number = slots[position]
        for request in claims[claim].requests[number]:
            for picked in self._pick(claims[claim], request, result[claim]):
                result[claim] += picked
                fresh = {device.id for _, device in picked} if not request.admin else set()
                self.taken |= fresh
                if self._fill(claims, slots, position + 1, result):
                    return True
                self.taken -= fresh
                del result[claim][len(result[claim]) - len(picked):]
        return False

    def _pick(self, needs: ClaimNeeds, request: Request, before: Chosen) -> Iterator[Chosen]:
        """Every way to serve one request."""
        fitting = [device for device in self.devices if self.matches(request, device)]
        if request.count == 0:
            chosen = [(request, device) for device in fitting]
            everyone_free = request.admin or all(self._is_free(device) for device in fitting)
            if chosen and everyone_free and self._satisfies(needs, [*before, *chosen]):
                yield chosen
            return
        free = [device for device in fitting if request.admin or self._is_free(device)]
        if len(free) >= request.count:
            yield from self._combinations(needs, request, before, free, 0, [])

    def _combinations(
        self, needs: ClaimNeeds, request: Request, before: Chosen, free: Sequence[Device], start: int, chosen: Chosen
    ) -> Iterator[Chosen]:
        if len(chosen) == request.count:
            yield list(chosen)
            return
        for index in range(start, len(free) - (request.count - len(chosen)) + 1):
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise AllocationError(f"no allocation found after looking at {STEPS_MAX} devices")
            chosen.append((request, free[index]))
            if self._satisfies(needs, [*before, *chosen]):
                yield from self._combinations(needs, request, before, free, index + 1, chosen)
            chosen.pop()

    def _is_free(self, device: Device) -> bool:
        return device.id not in self.in_use and device.id not in self.taken

    @staticmethod
    def _satisfies(needs: ClaimNeeds, chosen: Chosen) -> bool:
        for constraint in needs.constraints:
            values = [device.attributes.get(constraint.attribute) for request, device in chosen if constraint.concerns(request.name)]
            if None in values:
                return False
            distinct = len({(type(value), value) for value in values})
            if distinct != (len(values) if constraint.distinct else min(1, len(values))):
                return False
        return True


def needs_of(claim: Object, classes: Mapping[str, Object]) -> ClaimNeeds:
    """A claim's spec, compiled. KeyError with the name of a class that does not exist."""
    devices = (claim.get("spec") or {}).get("devices") or {}
    requests: list[tuple[Request, ...]] = []
    for raw in devices.get("requests") or ():
        if raw.get("exactly"):
            requests.append((_request(raw["name"], raw["exactly"], classes),))
        else:
            requests.append(tuple(_request(f"{raw['name']}/{sub['name']}", sub, classes) for sub in raw.get("firstAvailable") or ()))
    constraints = tuple(
        Constraint(frozenset(c.get("requests") or ()), c.get("matchAttribute") or c["distinctAttribute"], "distinctAttribute" in c)
        for c in devices.get("constraints") or ()
    )
    return ClaimNeeds(claim, tuple(requests), constraints)


def _request(name: str, raw: Object, classes: Mapping[str, Object]) -> Request:
    class_name = raw.get("deviceClassName") or ""
    device_class = classes[class_name]
    selectors = [
        *((f"class {class_name}", s["cel"]["expression"]) for s in (device_class.get("spec") or {}).get("selectors") or () if s.get("cel")),
        *((f"request {name}", s["cel"]["expression"]) for s in raw.get("selectors") or () if s.get("cel")),
    ]
    count = 0 if raw.get("allocationMode") == ALL else int(raw.get("count") or 1)
    return Request(name, class_name, tuple(selectors), count, bool(raw.get("adminAccess")), tuple(raw.get("tolerations") or ()))


class Matcher:
    """Answers whether a device suits a request; remembers, for as long as the devices stay what they are."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[tuple[tuple[tuple[str, str], ...], DeviceId], bool] = {}

    def at(self, version: int) -> Matcher:
        """This matcher, having forgotten what it knew of devices of another version."""
        if version != self._version:
            self._version = version
            self._known.clear()
        return self

    def __call__(self, request: Request, device: Device) -> bool:
        if device.taints and not all(_tolerated(taint, request.tolerations) for taint in device.taints):
            return False
        key = request.selectors, device.id
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = all(_selects(where, text, device) for where, text in request.selectors)
        return known


def _selects(where: str, text: str, device: Device) -> bool:
    try:
        answer = evaluate(text, device.variables)
    except CelError as error:
        raise AllocationError(f"{where}: selector {text!r}: CEL runtime error: {error}") from None
    return answer is True


def _tolerated(taint: Object, tolerations: Sequence[Object]) -> bool:
    """Only NoSchedule and NoExecute keep a device from being allocated."""
    return taint.get("effect") not in (NO_EXECUTE, NO_SCHEDULE) or any(_tolerates(t, taint) for t in tolerations)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")


def allocation_of(needs: ClaimNeeds, chosen: Chosen, classes: Mapping[str, Object], now: str) -> Object:
    """status.allocation of a claim."""
    results: list[Any] = []
    for request, device in chosen:
        result: Object = {"request": request.name, "driver": device.id.driver, "pool": device.id.pool, "device": device.id.device}
        if request.admin:
            result["adminAccess"] = True
        if request.tolerations:
            result["tolerations"] = list(request.tolerations)
        results.append(result)
    devices: Object = {"results": results}
    if config := _config(needs, chosen, classes):
        devices["config"] = config
    allocation: Object = {"devices": devices, "allocationTimestamp": now}
    if selector := _node_selector([device for _, device in chosen]):
        allocation["nodeSelector"] = selector
    return allocation


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


def _node_selector(devices: Sequence[Device]) -> Object | None:
    """Where the allocation can be used: on the node of a device, or where all selectors of the devices hold; None: everywhere."""
    node = next((device.node for device in devices if device.node), "")
    if node:
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
