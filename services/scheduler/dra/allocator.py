"""Which devices claims get on a node: a search with backtracking, as k8s.io/dynamic-resource-allocation/structured does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kubecosm.api.resources import Object
from kubecosm.cel.values import CelError

from .capacity import Amounts, quantity
from .devices import Device, DeviceId, qualified
from .room import Room
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
    capacity: Amounts = field(default_factory=dict)
    """Of devices that are shared, how much; of others, how much they must have."""

    @cached_property
    def expressions(self) -> tuple[str, ...]:
        """Those of `selectors`: what claims of many pods have in common."""
        return tuple(text for _, text in self.selectors)

    def asked_of(self, device: Device) -> Amounts:
        """`capacity` by qualified names."""
        return {qualified(name, device.id.driver): amount for name, amount in self.capacity.items()} if self.capacity else {}


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
    room: Room
    matches: Callable[[Request, Device], bool]
    steps: int = 0

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
                if self._fill(claims, slots, position + 1, result):
                    return True
                del result[claim][len(result[claim]) - len(picked):]
        return False

    def _pick(self, needs: ClaimNeeds, request: Request, before: Chosen) -> Iterator[Chosen]:
        """Every way to serve one request; what it yields is taken until the next is asked for."""
        fitting = [device for device in self.devices if self.matches(request, device)]
        if request.count:
            yield from self._combinations(needs, request, before, fitting, 0, [])
            return
        chosen = [(request, device) for device in fitting]
        if not chosen or not self._satisfies(needs, [*before, *chosen]):
            return
        taken = [device for device in fitting if self._take(request, device)]
        if len(taken) == len(fitting):
            yield chosen
        for device in taken:
            self._give_back(request, device)

    def _combinations(
        self, needs: ClaimNeeds, request: Request, before: Chosen, fitting: Sequence[Device], start: int, chosen: Chosen
    ) -> Iterator[Chosen]:
        if len(chosen) == request.count:
            yield list(chosen)
            return
        for index in range(start, len(fitting)):
            device = fitting[index]
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise AllocationError(f"no allocation found after looking at {STEPS_MAX} devices")
            if not self._take(request, device):
                continue
            chosen.append((request, device))
            if self._satisfies(needs, [*before, *chosen]):
                again = index if device.is_shared and not request.admin else index + 1
                yield from self._combinations(needs, request, before, fitting, again, chosen)
            chosen.pop()
            self._give_back(request, device)

    def _take(self, request: Request, device: Device) -> bool:
        """Administrators look at devices without taking them."""
        return request.admin or self.room.take(device, request.asked_of(device))

    def _give_back(self, request: Request, device: Device) -> None:
        if not request.admin:
            self.room.give_back(device, request.asked_of(device))

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


def refuse_all(needs: Iterable[ClaimNeeds], pool: str) -> None:
    """Raises AllocationError if a request wants all devices: how many there are is not known while a pool is being updated."""
    for claim in needs:
        for request in (one for alternatives in claim.requests for one in alternatives if not one.count):
            meta = claim.claim.get("metadata") or {}
            owner = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
            why = f"asks for all devices, but resource pool {pool} is currently being updated"
            raise AllocationError(f"claim {owner}, request {request.name}: {why}")


def needs_of(claim: Object, classes: Mapping[str, Object]) -> ClaimNeeds:
    """A claim's spec, compiled. KeyError with the name of a class that does not exist."""
    devices = (claim.get("spec") or {}).get("devices") or {}
    meta = claim.get("metadata") or {}
    owner = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
    requests: list[tuple[Request, ...]] = []
    for raw in devices.get("requests") or ():
        if raw.get("exactly"):
            requests.append((_request(raw["name"], raw["exactly"], classes, owner),))
        else:
            requests.append(tuple(_request(f"{raw['name']}/{sub['name']}", sub, classes, owner) for sub in raw.get("firstAvailable") or ()))
    constraints = tuple(
        Constraint(frozenset(c.get("requests") or ()), c.get("matchAttribute") or c["distinctAttribute"], "distinctAttribute" in c)
        for c in devices.get("constraints") or ()
    )
    return ClaimNeeds(claim, tuple(requests), constraints)


def _request(name: str, raw: Object, classes: Mapping[str, Object], owner: str) -> Request:
    class_name = raw.get("deviceClassName") or ""
    of_class = (classes[class_name].get("spec") or {}).get("selectors") or ()
    selectors = [*_expressions(f"class {class_name}", of_class), *_expressions(f"claim {owner}", raw.get("selectors") or ())]
    count = 0 if raw.get("allocationMode") == ALL else int(raw.get("count") or 1)
    wanted = ((raw.get("capacity") or {}).get("requests") or {}).items()
    capacity = {key: amount for key, value in wanted if (amount := quantity(value)) is not None}
    return Request(name, class_name, tuple(selectors), count, bool(raw.get("adminAccess")), tuple(raw.get("tolerations") or ()), capacity)


def _expressions(where: str, selectors: Sequence[Object]) -> list[tuple[str, str]]:
    """Where each selector stands, in the words of its errors, and its expression."""
    return [(f"{where}: selector #{index}", one["cel"]["expression"]) for index, one in enumerate(selectors) if one.get("cel")]


class Matcher:
    """Answers whether a device suits a request; remembers, for as long as the devices stay what they are."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[tuple[tuple[str, ...], DeviceId], bool] = {}

    def at(self, version: int) -> Matcher:
        """This matcher, having forgotten what it knew of devices of another version."""
        if version != self._version:
            self._version = version
            self._known.clear()
        return self

    def __call__(self, request: Request, device: Device) -> bool:
        if device.taints and not all(_tolerated(taint, request.tolerations) for taint in device.taints):
            return False
        key = request.expressions, device.id
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = all(_selects(where, text, device) for where, text in request.selectors)
        return known


def _selects(where: str, text: str, device: Device) -> bool:
    try:
        answer = evaluate(text, device.variables)
    except CelError as error:
        raise AllocationError(f"{where}: CEL runtime error: {error}") from None
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
